"""What the platform remembers of agents. Who they are and what they may do is in the roles room (`Subject`).

`AgentRecord` and `Enrolment` live with the orgs; `Evidence` is derived from tasks and lives in their store.
"""

from __future__ import annotations

from django.db import models

from apps.agents.market.records import Auction as Auction
from apps.agents.market.records import Bid as Bid
from apps.core import clock
from apps.roles.models import Subject

ID_LENGTH = 255


class AgentRecord(models.Model):
    """One agent as operators run it: whether it takes work, what it says of itself, when it was last heard. A subject
    without a row takes work, and has said nothing of itself."""

    class Mode(models.TextChoices):
        ACTIVE = "active", "Active"
        PAUSED = "paused", "Paused"
        DRAINING = "draining", "Draining"

    org_id = models.CharField("org", max_length=64)
    subject_id = models.CharField("agent", max_length=180)
    mode = models.CharField(max_length=16, choices=Mode.choices, default=Mode.ACTIVE)
    mode_reason = models.CharField(max_length=1000, blank=True, default="")
    mode_by = models.CharField(max_length=255, blank=True, default="")
    mode_is_own = models.BooleanField(default=False, help_text="the agent asked for it itself, and may take it back")
    mode_at = models.DateTimeField(null=True, blank=True)
    drained_at = models.DateTimeField(null=True, blank=True, help_text="draining, and nothing was left with it")
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.CharField(max_length=255, blank=True, default="")
    revoke_reason = models.CharField(max_length=1000, blank=True, default="")
    breaker_since = models.DateTimeField(null=True, blank=True, help_text="its circuit breaker counts only what ended after this")
    card = models.JSONField(null=True, blank=True, help_text="what it says of itself, as it was accepted")
    card_at = models.DateTimeField(null=True, blank=True)
    card_problem = models.CharField(max_length=1000, blank=True, default="", help_text="why the last card was not accepted")
    last_seen_at = models.DateTimeField(null=True, blank=True, help_text="to the minute; presence knows it to the second")
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org_id", "subject_id"], name="one_record_per_agent")]
        verbose_name = "agent record"

    def __str__(self) -> str:
        return f"{self.org_id}:{self.subject_id}"


class Enrolment(models.Model):
    """An invitation: whoever brings its token, once and in time, becomes the agent it names. The token is kept as a hash."""

    enrolment_id = models.CharField("enrolment id", primary_key=True, max_length=24)
    org = models.ForeignKey("orgs.Org", on_delete=models.CASCADE, related_name="enrolments")
    subject_id = models.CharField("agent", max_length=180)
    role_ids = models.JSONField(default=list, blank=True, help_text="roles it will hold, besides those it holds already")
    job_space_id = models.CharField("job space", max_length=180, blank=True, default="", help_text="where it holds them; empty: everywhere")
    name = models.CharField(max_length=200, blank=True, default="", help_text="what people will call its key")
    token_hash = models.CharField(max_length=64, editable=False, help_text="SHA-256 of the token's secret")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.CharField(max_length=255, editable=False)
    expires_at = models.DateTimeField()
    key_lifetime_s = models.IntegerField(null=True, blank=True, help_text="seconds its key will live; empty: for ever")
    redeemed_at = models.DateTimeField(null=True, blank=True, editable=False)
    withdrawn_at = models.DateTimeField(null=True, blank=True, editable=False)
    key_id = models.CharField("API key", max_length=24, blank=True, default="", editable=False)

    class Meta:
        indexes = [models.Index(fields=["org", "subject_id"], name="enrolment_by_subject")]

    def __str__(self) -> str:
        return f"{self.enrolment_id} ({self.org_id}:{self.subject_id})"


class Evidence(models.Model):
    """How one attempt ended: what an agent's reputation and its circuit breaker are made of. The id is the assignment's, so
    the same end is counted once, whoever tells of it and how often."""

    store = "tasks"

    class Outcome(models.TextChoices):
        COMPLETED = "completed"
        FAILED = "failed"
        LOST = "lost"
        DECLINED = "declined"
        REJECTED = "rejected"

    id = models.CharField(primary_key=True, max_length=ID_LENGTH + 12, db_column="_id")
    org_id = models.CharField(max_length=64)
    agent = models.CharField(max_length=180)
    task_key = models.CharField(max_length=ID_LENGTH)
    attempt = models.IntegerField()
    outcome = models.CharField(max_length=16, choices=Outcome.choices)
    excused = models.BooleanField(default=False, help_text="lost, and the task is to blame: it crashed other agents too")
    assigned_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    seconds = models.FloatField(help_text="from the assignment to the end")
    promised_price = models.FloatField(null=True, blank=True)
    promised_eta_s = models.FloatField(null=True, blank=True)
    promised_confidence = models.FloatField(null=True, blank=True)
    price = models.FloatField(null=True, blank=True, help_text="what it charged")

    class Meta:
        indexes = [
            models.Index(fields=["org_id", "agent", "-ended_at"], name="evidence_agent"),
            models.Index(fields=["task_key"], name="evidence_task"),
        ]
        verbose_name_plural = "evidence"

    def __str__(self) -> str:
        return f"{self.id} {self.outcome}"


class EvidenceMark(models.Model):
    """How far the history of tasks has been read for evidence. One row."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=32, db_column="_id")
    upto = models.CharField(max_length=32, help_text="id of a transition: all up to it have been read")


class Agent(Subject):
    """A subject that is no person, as operators see it."""

    class Meta:
        proxy = True
        verbose_name = "agent"
