from django.apps import AppConfig
from django.db.models.signals import post_delete, post_save


class RolesConfig(AppConfig):
    name = "apps.roles"
    verbose_name = "Roles and subjects"

    def ready(self) -> None:
        from apps.roles import directory
        from apps.roles.models import Role, Subject, SubjectRole

        for model in (Role, Subject, SubjectRole):
            for signal in (post_save, post_delete):
                signal.connect(directory.row_changed, sender=model, dispatch_uid="directory")
