from __future__ import annotations

from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.routers import SimpleRouter

from jobplatform.urls import urlpatterns as platform
from tests.integration.jobs_views import views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("shelf", views.Shelf, basename="shelf")

own = [
    path("documents", views.Documents.as_view()),
    path("tried", views.Tried.as_view()),
    path("eager", views.Eager.as_view()),
    path("own/<uuid:pk>", views.WithOwnGet.as_view()),
    path("overriding", views.Overriding.as_view()),
    path("again", views.Again.as_view()),
    path("labelled", views.Shelf.as_view({"get": "list", "post": "create"}, label="by URL")),
    path("plain", csrf_exempt(views.Plain.as_view())),
    path("members", csrf_exempt(views.Members.as_view())),
    path("async", csrf_exempt(views.AsyncPlain.as_view())),
    path("hooked", csrf_exempt(views.Hooked.as_view())),
    path("function", csrf_exempt(views.function_view)),
    path("", include(router.urls)),
]
urlpatterns = [*platform, *own]
