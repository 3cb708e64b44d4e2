from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig


class AdminConfig(SimpleAdminConfig):
    """The admin's pages load with the URLs: workers need none of them."""

    default_site = "apps.core.admin_site.PlatformSite"


class PlatformConfig(AppConfig):
    name = "jobplatform"
    label = "jobplatform"

    def ready(self) -> None:
        from jobplatform import wiring

        wiring.connect()
