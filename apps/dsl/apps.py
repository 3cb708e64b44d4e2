from django.apps import AppConfig


class DslConfig(AppConfig):
    name = "apps.dsl"
    verbose_name = "Policies"

    def ready(self) -> None:
        from apps.dsl import config_check

        config_check.connect()
