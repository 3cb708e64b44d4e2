from django.apps import AppConfig
from django.db.models.signals import post_migrate


class OrgsConfig(AppConfig):
    name = "apps.orgs"
    verbose_name = "Organizations"

    def ready(self) -> None:
        from apps.orgs import audit_guard

        post_migrate.connect(audit_guard.install, sender=self, dispatch_uid="audit-guard")
