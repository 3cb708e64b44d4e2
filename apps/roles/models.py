"""Who may act: roles, subjects, and which subject holds which roles in which job space."""

from __future__ import annotations

from django.db import models


class Role(models.Model):
    org_id = models.CharField(max_length=64)
    role_id = models.CharField(max_length=180)
    role_type = models.CharField(max_length=64, help_text="for example SCOUTING")
    group_ids = models.JSONField(default=list, blank=True)
    job_space_id = models.CharField(max_length=180, blank=True, default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org_id", "role_id", "job_space_id"], name="one_role_per_space")]
        indexes = [models.Index(fields=["org_id", "role_type", "job_space_id"], name="role_by_type")]

    def __str__(self) -> str:
        return f"{self.org_id}: {self.role_id} ({self.role_type})"


class Subject(models.Model):
    class Type(models.TextChoices):
        AGENT = "agent"
        HUMAN = "human"
        SERVICE = "service"

    org_id = models.CharField(max_length=64)
    subject_id = models.CharField(max_length=180)
    subject_type = models.CharField(max_length=32, default=Type.AGENT, choices=Type.choices)
    name = models.CharField(max_length=200, blank=True, default="")
    capabilities = models.JSONField(default=list, blank=True, help_text="list of words")
    is_active = models.BooleanField(default=True, help_text="an inactive subject is never chosen")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org_id", "subject_id"], name="one_subject_per_id")]

    def __str__(self) -> str:
        return f"{self.org_id}: {self.subject_id}"


class SubjectRole(models.Model):
    """One role held by one subject in one job space. The wire document groups them: `{subject_id, role_ids: […]}`."""

    org_id = models.CharField(max_length=64)
    subject = models.ForeignKey(Subject, on_delete=models.CASCADE, related_name="roles_held")
    role_id = models.CharField(max_length=180)
    job_space_id = models.CharField(max_length=180, blank=True, default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["subject", "role_id", "job_space_id"], name="held_once_per_space")]
        indexes = [models.Index(fields=["org_id", "role_id", "job_space_id"], name="holders_of_role")]

    def __str__(self) -> str:
        return f"{self.subject_id} holds {self.role_id}"
