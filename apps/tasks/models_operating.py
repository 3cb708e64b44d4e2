"""Rows for running the platform: what ended badly and waits for somebody to look, and verbs on many tasks at once."""

from __future__ import annotations

from django.db import models

ID_LENGTH = 255


class DeadLetter(models.Model):
    """A task that failed or expired, until somebody has settled it. Its key is the task's; written with the move that ended it.

    The task itself stays as it ended: to requeue it makes a new one.
    """

    store = "tasks"

    class Kind(models.TextChoices):
        MAX_ATTEMPTS = "max_attempts", "every attempt failed"
        AGENT_FAILED = "agent_failed", "the agent said that it cannot be done"
        NO_AGENT = "no_agent", "nobody could be assigned"
        POISON = "poison", "several agents died of it"
        NOT_VERIFIED = "not_verified", "the result was refused"
        EXPIRED = "expired", "its time ran out"

    class State(models.TextChoices):
        WAITING = "waiting", "waits for somebody"
        REQUEUED = "requeued", "a new task does it again"
        DISCARDED = "discarded", "nobody will do it"

    key = models.CharField(primary_key=True, max_length=ID_LENGTH, db_column="_id", help_text="org_id/task_id")
    org_id = models.CharField(max_length=64)
    task_id = models.CharField(max_length=180)
    kind = models.CharField(max_length=24, choices=Kind.choices)
    agent = models.CharField(max_length=180, blank=True, default="", help_text="who had it last")
    job_space_id = models.CharField(max_length=180, blank=True, default="")
    sequence = models.BigIntegerField(help_text="order of ending, microseconds since the epoch")
    at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.WAITING)
    settled_at = models.DateTimeField(null=True, blank=True)
    settled_by = models.CharField(max_length=ID_LENGTH, blank=True, default="")
    because = models.TextField(blank=True, default="", help_text="why it was settled so")
    retried_as = models.CharField(max_length=180, blank=True, default="", help_text="the task that does it again")

    class Meta:
        indexes = [
            models.Index(fields=["org_id", "state", "sequence"], name="dead_state"),
            models.Index(fields=["org_id", "state", "kind", "sequence"], name="dead_kind"),
            models.Index(fields=["org_id", "state", "agent", "sequence"], name="dead_agent"),
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.kind}"


class BulkAction(models.Model):
    """One verb on all tasks (or dead letters) that a filter finds, done a batch at a time by upkeep; goes on where it was left."""

    store = "tasks"

    class Status(models.TextChoices):
        PENDING = "pending", "pending"
        RUNNING = "running", "running"
        DONE = "done", "done"
        STOPPED = "stopped", "stopped"

    id = models.CharField(primary_key=True, max_length=32, db_column="_id")
    org_id = models.CharField(max_length=64)
    source = models.CharField(max_length=16, help_text="tasks or dead_letters")
    action = models.CharField(max_length=16)
    filter = models.JSONField(default=dict)
    arguments = models.JSONField(default=dict)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PENDING)
    upto = models.BigIntegerField(help_text="nothing that came after this place is touched")
    total = models.IntegerField(default=0, help_text="found when it was asked for")
    done = models.IntegerField(default=0, help_text="looked at so far")
    changed = models.IntegerField(default=0)
    skipped = models.IntegerField(default=0, help_text="nothing to do: ended or changed in the meantime")
    failed = models.IntegerField(default=0)
    problems = models.JSONField(default=list, help_text="the first of those that failed, and why")
    cursor = models.CharField(max_length=400, blank=True, default="", help_text="the last place dealt with")
    step = models.IntegerField(default=0, help_text="batches finished: the guard of the next")
    lease_until = models.DateTimeField(null=True, blank=True, help_text="somebody is at it")
    actor = models.CharField(max_length=ID_LENGTH)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["org_id", "id"], name="bulk_action_org"),
            models.Index(fields=["status", "lease_until"], name="bulk_action_status"),
        ]

    def __str__(self) -> str:
        return f"{self.org_id}: {self.action} {self.done}/{self.total}"
