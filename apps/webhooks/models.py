"""Endpoints that orgs name, what is to be sent to them, and every try.

Endpoints stand with the org's other wishes. Deliveries and attempts are as many as the moves of tasks and stand in the task
store: string keys, one conditional update per step. A delivery's id is derived from the endpoint and the move it tells of, so
making it twice makes it once; within an endpoint ids sort by time.
"""

from __future__ import annotations

from django.db import models

from apps.core import clock
from apps.orgs.models import Org

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
STATES = (PENDING, DELIVERED, FAILED)


class Endpoint(models.Model):
    endpoint_id = models.CharField("endpoint", primary_key=True, max_length=24, editable=False)
    org = models.ForeignKey(
        Org, null=True, blank=True, on_delete=models.CASCADE, related_name="webhook_endpoints", help_text="empty: of jobs that have no org"
    )
    url = models.CharField("URL", max_length=2048)
    description = models.CharField(max_length=200, blank=True, default="")
    events = models.JSONField(help_text="event types it wants, or * for all; jobs that name its URL tell it of their end anyway")
    for_jobs = models.BooleanField(default=False, editable=False, help_text="made for a server because jobs named URLs of it")
    enabled = models.BooleanField(default=True)
    disabled_because = models.CharField("disabled because", max_length=255, blank=True, default="", editable=False)
    secret_salt = models.CharField(max_length=64, editable=False)
    previous_salt = models.CharField(max_length=64, blank=True, default="", editable=False)
    previous_until = models.DateTimeField("old secret until", null=True, blank=True, editable=False)
    from_transition = models.CharField(max_length=32, editable=False, help_text="later ones are sent")
    catch_up_from = models.CharField(max_length=32, blank=True, default="", editable=False, help_text="look for missed ones from here")
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    last_delivered_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.CharField(max_length=255, editable=False)
    updated_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = "webhook endpoint"

    def __str__(self) -> str:
        return f"{self.endpoint_id} → {self.url}"


class Delivery(models.Model):
    store = "tasks"

    id = models.CharField(primary_key=True, max_length=64, db_column="_id", help_text="endpoint:move; the webhook-id")
    org_id = models.CharField("org", max_length=64)
    endpoint_id = models.CharField("endpoint", max_length=24)
    task_key = models.CharField("task", max_length=255, blank=True, default="")
    job_id = models.CharField("job", max_length=64, blank=True, default="")
    url = models.CharField("URL", max_length=2048, blank=True, default="", help_text="which a job named; empty: the endpoint's")
    event = models.CharField(max_length=48)
    body = models.TextField(help_text="the bytes that are signed and sent, the same on every try")
    state = models.CharField(max_length=12, choices=[(state, state) for state in STATES], default=PENDING)
    tries = models.IntegerField(default=0)
    step = models.IntegerField(default=0, help_text="place in the schedule of retries")
    due_at = models.DateTimeField()
    created_at = models.DateTimeField()
    give_up_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    last_status = models.IntegerField(null=True, blank=True)
    last_error = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        indexes = [models.Index(fields=["endpoint_id", "state", "due_at"], name="webhook_due")]
        verbose_name = "webhook delivery"
        verbose_name_plural = "webhook deliveries"

    def __str__(self) -> str:
        return f"{self.event} {self.id}"


class Attempt(models.Model):
    """One request and what came back."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=80, db_column="_id", help_text="delivery#number")
    delivery_id = models.CharField("delivery", max_length=64)
    org_id = models.CharField("org", max_length=64)
    endpoint_id = models.CharField("endpoint", max_length=24)
    number = models.IntegerField()
    at = models.DateTimeField()
    duration_ms = models.IntegerField()
    status = models.IntegerField(null=True, blank=True, help_text="of the answer; empty: none came")
    excerpt = models.TextField(blank=True, default="", help_text="beginning of the answer")
    error = models.CharField(max_length=255, blank=True, default="")

    class Meta:
        indexes = [models.Index(fields=["delivery_id", "number"], name="webhook_attempts")]
        verbose_name = "webhook attempt"

    def __str__(self) -> str:
        return self.id


class Cursor(models.Model):
    """How far a log of moves has been read."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=16, db_column="_id")
    upto = models.CharField(max_length=32, help_text="id of the last move read")
    looked = models.JSONField(default=dict, help_text="when each depth was last read again, ms")
