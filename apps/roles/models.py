"""Who may act: roles, subjects, and which subject holds which roles in which job space.

An empty `job_space_id`, on a role or on a holding, means every job space.
"""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import models

from apps.roles.rules import MAX_ID, plain_id

EVERY_SPACE = ""


class Role(models.Model):
    org = models.ForeignKey("orgs.Org", on_delete=models.CASCADE, related_name="roles")
    role_id = models.CharField("role id", max_length=MAX_ID, validators=[plain_id])
    role_type = models.CharField(
        max_length=64, validators=[plain_id], help_text="what it is for: SCOUTING makes its holders candidates for head agent"
    )
    job_space_id = models.CharField(
        "job space", max_length=MAX_ID, blank=True, default=EVERY_SPACE, validators=[plain_id], help_text="empty: every job space"
    )
    metadata = models.JSONField(default=dict, blank=True, help_text="anything else worth filtering by, as a JSON object")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org", "role_id"], name="one_role_per_id")]
        indexes = [models.Index(fields=["org", "role_type", "job_space_id"], name="role_by_type")]

    def __str__(self) -> str:
        return f"{self.role_id} ({self.role_type})"


class RoleGroup(models.Model):
    """One group a role belongs to. The wire document lists them: `{role_id, group_ids: […]}`."""

    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="groups")
    group_id = models.CharField("group id", max_length=MAX_ID, validators=[plain_id])

    class Meta:
        constraints = [models.UniqueConstraint(fields=["role", "group_id"], name="once_per_group")]
        indexes = [models.Index(fields=["group_id"], name="roles_of_group")]
        verbose_name = "group of the role"
        verbose_name_plural = "groups of the role"

    def __str__(self) -> str:
        return self.group_id


class Subject(models.Model):
    class Type(models.TextChoices):
        AGENT = "agent", "Agent"
        HUMAN = "human", "Human"
        SERVICE = "service", "Service"

    org = models.ForeignKey("orgs.Org", on_delete=models.CASCADE, related_name="subjects")
    subject_id = models.CharField("subject id", max_length=MAX_ID, validators=[plain_id])
    subject_type = models.CharField("type", max_length=32, default=Type.AGENT, choices=Type.choices)
    name = models.CharField(max_length=200, blank=True, default="")
    capabilities = models.JSONField(default=list, blank=True, help_text='list of words, for example ["python", "prose"]')
    is_active = models.BooleanField("active", default=True, help_text="an inactive subject is never chosen")
    metadata = models.JSONField(default=dict, blank=True, help_text="anything else worth filtering by, as a JSON object")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org", "subject_id"], name="one_subject_per_id")]

    def __str__(self) -> str:
        return self.subject_id


class SubjectRole(models.Model):
    """One role held by one subject in one job space. The wire document groups them: `{subject_id, role_ids: […]}`."""

    subject = models.ForeignKey(Subject, on_delete=models.CASCADE, related_name="roles_held")
    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="holders")
    job_space_id = models.CharField(
        "job space", max_length=MAX_ID, blank=True, default=EVERY_SPACE, validators=[plain_id], help_text="empty: every job space"
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["subject", "role", "job_space_id"], name="held_once_per_space")]
        verbose_name = "role held"
        verbose_name_plural = "roles held"

    def __str__(self) -> str:
        return f"{self.subject} holds {self.role}"

    def clean(self) -> None:
        # Neither may be chosen yet while a form is being filled in.
        subject, role = getattr(self, "subject", None), getattr(self, "role", None)
        if subject and role and subject.org_id != role.org_id:
            raise ValidationError({"role": "This role belongs to another organization."})
