"""Every path of the platform, one table."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from apps.core.sign_in import limited
from jobplatform.health import health, ready
from jobplatform.metrics import Metrics
from jobplatform.pages import home

admin.autodiscover()

handler400 = "jobplatform.pages.bad_request"
handler403 = "jobplatform.pages.forbidden"
handler404 = "jobplatform.pages.not_found"
handler500 = "jobplatform.pages.crashed"

urlpatterns = [
    path("health", health, name="health"),
    path("ready", ready, name="ready"),
    path("metrics", Metrics.as_view(), name="metrics"),
    path("admin/login/", limited(admin.site.login)),
    path("admin/", admin.site.urls),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path("", include("apps.orgs.urls")),
    path("", include("apps.roles.urls")),
    path("", include("apps.agents.urls")),
    path("", include("apps.tasks.urls")),
    path("", include("apps.people.urls")),
    path("", include("apps.webhooks.urls")),
    path("", include("apps.workflows.urls")),
    path("", include("apps.workflows.api.context_urls")),
    path("", include("apps.jobs.urls")),
    path("", include("apps.dsl.urls")),
]
if settings.EXAMPLES:
    urlpatterns.append(path("examples/", include("examples.jobs.urls")))
urlpatterns += [path("", include(module)) for module in settings.EXTRA_URLS]
# The last, so that a page of your own may stand there.
urlpatterns.append(path("", home, name="home"))
