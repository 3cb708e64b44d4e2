from django.apps import AppConfig


class PlatformConfig(AppConfig):
    name = "jobplatform"
    label = "jobplatform"

    def ready(self) -> None:
        from jobplatform import wiring

        wiring.connect()
