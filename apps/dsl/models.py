"""Policy scripts, as immutable versions, and the record of every run."""

from __future__ import annotations

from django.db import models

from apps.dsl.policies import Hook


class PolicyScript(models.Model):
    """One version of one script. A version never changes; a new text is a new version. `org_id` "" is built in."""

    class Status(models.TextChoices):
        DRAFT = "draft"
        ACTIVE = "active"
        RETIRED = "retired"

    id = models.CharField(primary_key=True, max_length=255, help_text="org_id/script_id@version, derived")
    org_id = models.CharField(max_length=64, blank=True, default="")
    script_id = models.CharField(max_length=120)
    version = models.IntegerField()
    hook = models.CharField(max_length=16, choices=[(h.value, h.value) for h in Hook])
    source = models.TextField()
    sha256 = models.CharField(max_length=64)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.DRAFT)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=255)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org_id", "script_id", "version"], name="versions_are_immutable"),
            models.UniqueConstraint(fields=["org_id", "script_id", "sha256"], name="same_text_same_version"),
            models.UniqueConstraint(fields=["org_id", "script_id"], condition=models.Q(status="active"), name="one_active_version"),
        ]
        indexes = [models.Index(fields=["org_id", "script_id", "status"], name="script_active")]

    def __str__(self) -> str:
        return self.id


class PolicyRun(models.Model):
    """One evaluation: which script, on what input, with what answer or error. Append-only."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=32, db_column="_id")
    org_id = models.CharField(max_length=64)
    task_key = models.CharField(max_length=255)
    hook = models.CharField(max_length=16, choices=[(h.value, h.value) for h in Hook])
    script_id = models.CharField(max_length=120)
    script_version = models.IntegerField(default=0)
    script_sha256 = models.CharField(max_length=64, blank=True, default="")
    input = models.JSONField()
    output = models.JSONField(null=True)
    error = models.TextField(blank=True, default="")
    duration_us = models.IntegerField(default=0, help_text="microseconds inside the sandbox")
    config_version = models.IntegerField(default=0)
    at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["task_key", "id"], name="policyrun_task"),
            models.Index(fields=["org_id", "hook", "id"], name="policyrun_org_hook"),
        ]

    def __str__(self) -> str:
        return f"{self.hook} {self.script_id}@{self.script_version} on {self.task_key}"
