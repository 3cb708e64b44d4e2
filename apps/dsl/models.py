"""Policy scripts, as immutable versions, the record of every run, and backtests."""

from __future__ import annotations

from django.db import models

from apps.dsl.policies import Hook


class PolicyScript(models.Model):
    """One version of one script, with its tests. A version never changes; a new text is a new version. `org_id` "" is built in."""

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
    tests = models.JSONField(default=list, help_text="its own tests: a list of name, input, expect")
    tests_sha256 = models.CharField(max_length=64, blank=True, default="")
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.DRAFT)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=255)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["org_id", "script_id", "version"], name="versions_are_immutable"),
            models.UniqueConstraint(fields=["org_id", "script_id", "sha256", "tests_sha256"], name="same_text_same_version"),
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
    instead = models.CharField(max_length=80, blank=True, default="", help_text="what holds without an answer, as the org wished then")
    duration_us = models.IntegerField(default=0, help_text="microseconds in the sandbox, or of the call")
    place = models.CharField(max_length=8, default="local", help_text="where it was answered: local or remote")
    http_status = models.IntegerField(default=0, help_text="remote: of the answer; 0: none came")
    config_version = models.IntegerField(default=0)
    at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["task_key", "id"], name="policyrun_task"),
            models.Index(fields=["org_id", "hook", "id"], name="policyrun_org_hook"),
        ]

    def __str__(self) -> str:
        return f"{self.hook} {self.script_id}@{self.script_version} on {self.task_key}"


class Backtest(models.Model):
    """Recorded decisions of one hook, asked again of one version of a script."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    id = models.CharField(primary_key=True, max_length=32)
    org_id = models.CharField(max_length=64)
    script_id = models.CharField(max_length=120)
    script_pk = models.CharField(max_length=255, help_text="the version, as it is kept")
    version = models.IntegerField()
    hook = models.CharField(max_length=16, choices=[(h.value, h.value) for h in Hook])
    window = models.JSONField(help_text="since, until, limit, task_ids")
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.QUEUED)
    runs_total = models.IntegerField(default=0)
    runs_seen = models.IntegerField(default=0)
    result = models.JSONField(null=True)
    error = models.TextField(blank=True, default="")
    claim = models.CharField(max_length=32, blank=True, default="", help_text="who runs it; another claim takes it from them")
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=255)
    touched_at = models.DateTimeField(help_text="last sign of life of whoever runs it")
    ended_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["org_id", "-id"], name="backtest_by_org"), models.Index(fields=["status"], name="backtest_status")]

    def __str__(self) -> str:
        return f"{self.script_id}@{self.version} {self.id}"


class BacktestFlip(models.Model):
    """A recorded decision that would have been another one."""

    backtest = models.ForeignKey(Backtest, on_delete=models.CASCADE, related_name="flips")
    place = models.IntegerField(help_text="1 is the oldest")
    run_id = models.CharField(max_length=32)
    task_key = models.CharField(max_length=255)
    change = models.CharField(max_length=64, help_text="such as accept -> reject")
    old = models.JSONField()
    new = models.JSONField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["backtest", "place"], name="one_flip_per_place")]

    def __str__(self) -> str:
        return f"{self.task_key}: {self.change}"
