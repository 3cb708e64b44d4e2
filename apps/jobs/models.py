"""Rows of jobs. The row is the truth; a message only says "run job X".

They live with Django's own tables (SQLite or PostgreSQL), so what belongs together is written in one transaction.
"""

from __future__ import annotations

from django.db import models

from apps.jobs.states import JobStatus

ID_LENGTH = 64


class Job(models.Model):
    id = models.CharField(primary_key=True, max_length=ID_LENGTH, help_text="job_ and 128 random bits: whoever knows it was told")
    org_id = models.CharField("org", max_length=64, blank=True, default="", help_text="empty: none")
    owner = models.CharField(max_length=180, blank=True, default="", help_text="user:<pk> or key:<key id>; empty: anybody who knows the id")
    actor = models.CharField(max_length=255, blank=True, default="", help_text="the owner, for people")
    sequence = models.BigIntegerField(help_text="order of arrival, microseconds since the epoch")

    target = models.CharField(max_length=500, help_text="package.module:Class.method or package.module:function")
    name = models.CharField(max_length=200, blank=True, default="")
    queue = models.CharField(max_length=64)
    backend = models.CharField(max_length=32)
    priority = models.IntegerField(default=0, help_text="-100…100, higher first")
    request = models.JSONField(null=True, blank=True, help_text="snapshot of the request; empty: called without one")
    arguments = models.JSONField(default=dict, blank=True, help_text="args, kwargs")
    options = models.JSONField(default=dict, blank=True, help_text="timeout_s, result_ttl_s, retries, …")
    webhook_url = models.CharField(max_length=2048, blank=True, default="", help_text="told of its end")
    retry_of = models.CharField(max_length=ID_LENGTH, blank=True, default="", help_text="the job this one tries again")
    unique_key = models.CharField(max_length=255, null=True, blank=True, help_text="one job per owner and key until its result expires")
    body_hash = models.CharField(max_length=64, blank=True, default="", help_text="SHA-256 of what was asked; with a unique key")

    status = models.CharField(max_length=16, choices=[(s.value, s.value) for s in JobStatus], default=JobStatus.QUEUED)
    attempt = models.IntegerField(default=0, help_text="attempts started; whoever writes must name the present one")
    handed_back = models.IntegerField(default=0, db_default=0, help_text="attempts that count for nothing: their workers were told to stop")
    waits_for = models.IntegerField(default=0, help_text="jobs it depends on that have not ended")
    worker = models.CharField(max_length=255, blank=True, default="")
    progress = models.FloatField(null=True, blank=True, help_text="percent")
    message = models.CharField(max_length=500, blank=True, default="")
    rate = models.FloatField(null=True, blank=True, help_text="percent a second")
    eta_s = models.FloatField(null=True, blank=True, help_text="seconds left at that rate")
    progress_at = models.DateTimeField(null=True, blank=True)

    result = models.JSONField(null=True, blank=True)
    result_status = models.SmallIntegerField(null=True, blank=True, help_text="HTTP status of what the method answered, if it answered one")
    error_code = models.CharField(max_length=48, blank=True, default="")
    error = models.CharField(max_length=1000, blank=True, default="", help_text="one sentence for the owner")
    errors = models.JSONField(null=True, blank=True, help_text="what was wrong, by field: field, code, message")
    traceback = models.TextField(blank=True, default="", help_text="for operators")
    ended_as = models.CharField(max_length=16, blank=True, default="", help_text="its first end; an expired job keeps it")

    created_at = models.DateTimeField()
    not_before = models.DateTimeField(null=True, blank=True)
    start_before = models.DateTimeField(null=True, blank=True, help_text="expired when not started by then")
    sent_at = models.DateTimeField(null=True, blank=True, help_text="when the backend was last told")
    started_at = models.DateTimeField(null=True, blank=True, help_text="of the present attempt")
    deadline = models.DateTimeField(null=True, blank=True, help_text="of the present attempt")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancel_actor = models.CharField("cancelled by", max_length=255, blank=True, default="", help_text="who asked, while it ran")
    cancel_reason = models.CharField(max_length=1000, blank=True, default="")
    ended_at = models.DateTimeField(null=True, blank=True)
    result_expires_at = models.DateTimeField(null=True, blank=True)
    tend_at = models.DateTimeField(null=True, help_text="when upkeep looks at it next: time to send, lease, expiry, purge")

    class Meta:
        indexes = [
            models.Index(fields=["tend_at"], name="job_tend"),
            models.Index(fields=["org_id", "sequence"], name="job_org"),
            models.Index(fields=["owner", "sequence"], name="job_owner"),
            # Of those that have not ended, which are few beside those that have.
            models.Index(fields=["org_id", "queue", "status"], condition=models.Q(ended_at__isnull=True), name="job_open"),
        ]
        constraints = [models.UniqueConstraint(fields=["owner", "unique_key"], name="one_job_per_key")]

    def __str__(self) -> str:
        return f"{self.name} {self.id}"


class JobDependency(models.Model):
    """One job waits for another, until `is_open` is no more."""

    job_id = models.CharField(max_length=ID_LENGTH)
    on_id = models.CharField(max_length=ID_LENGTH)
    when = models.CharField(max_length=8, help_text="success or always")
    is_open = models.BooleanField(default=True)

    class Meta:
        indexes = [models.Index(fields=["on_id"], name="job_dependents", condition=models.Q(is_open=True))]
        constraints = [models.UniqueConstraint(fields=["job_id", "on_id"], name="one_dependency")]
        verbose_name_plural = "job dependencies"

    def __str__(self) -> str:
        return f"{self.job_id} after {self.on_id}"


class JobEvent(models.Model):
    """One move of a job, written with it. Its birth is the row itself."""

    id = models.CharField(primary_key=True, max_length=32, help_text="sorts by time")
    job_id = models.CharField(max_length=ID_LENGTH)
    org_id = models.CharField(max_length=64, blank=True, default="")
    at = models.DateTimeField()
    old = models.CharField(max_length=16)
    new = models.CharField(max_length=16)
    attempt = models.IntegerField()
    reason = models.CharField(max_length=1000, blank=True, default="")
    actor = models.CharField(max_length=255, blank=True, default="", help_text="who did it; empty: the platform")

    class Meta:
        indexes = [models.Index(fields=["job_id", "id"], name="job_events")]

    def __str__(self) -> str:
        return f"{self.job_id}: {self.old} → {self.new}"
