"""Schedules: tasks that the platform submits by itself, once or again and again. Rows of Django's own database."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from apps.orgs.models import Org

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"


class Schedule(models.Model):
    """What to submit, and when. `next_planned_at` and `step` are the guards of firing; only the ticker and edits move them."""

    class Overlap(models.TextChoices):
        ALLOW = "allow", "fire anyway"
        SKIP = "skip", "leave this one out"
        CANCEL_PREVIOUS = "cancel_previous", "cancel those before"

    class CatchUp(models.TextChoices):
        SKIP = "skip", "leave out what was missed"
        ONE = "one", "fire once for all that was missed"
        ALL = "all", "fire the latest of those missed, up to a bound"

    org = models.ForeignKey(Org, on_delete=models.CASCADE, related_name="schedules")
    name = models.CharField(
        max_length=64, validators=[RegexValidator(rf"\A{NAME}\Z")], help_text="letters, digits and . _ - ; never changes"
    )
    description = models.CharField(max_length=1000, blank=True, default="")
    entry = models.JSONField(help_text="the task entry to submit, without task_id and times")
    cron = models.CharField(max_length=120, blank=True, default="", help_text="minute hour day month weekday, in the time zone")
    every_seconds = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(5), MaxValueValidator(366 * 86_400)],
        help_text="instead of cron: so many seconds apart, counted from the start",
    )  # fmt: skip
    at = models.DateTimeField(null=True, blank=True, help_text="instead of cron: once")
    timezone = models.CharField(max_length=64, default="UTC", help_text="where the clock of cron hangs, such as Europe/Berlin")
    starts_at = models.DateTimeField(null=True, blank=True, help_text="not before")
    ends_at = models.DateTimeField(null=True, blank=True, help_text="not after")
    enabled = models.BooleanField(default=True)
    overlap = models.CharField(
        max_length=16, choices=Overlap.choices, default=Overlap.ALLOW, help_text="while a task fired before is still open"
    )
    catch_up = models.CharField(
        max_length=8, choices=CatchUp.choices, default=CatchUp.ONE, help_text="after the platform was away for more than a minute"
    )
    catch_up_max = models.PositiveIntegerField(
        default=10, validators=[MinValueValidator(1), MaxValueValidator(1000)], help_text="with `all`: at most so many"
    )
    jitter_seconds = models.PositiveIntegerField(
        default=0, validators=[MaxValueValidator(3600)], help_text="fires up to so much later, each time by another but fixed amount"
    )
    due_after_seconds = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(366 * 86_400)],
        help_text="deadline of each task, counted from its planned time",
    )  # fmt: skip

    next_planned_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="empty: never again")
    next_fire_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="planned, and its jitter")
    step = models.IntegerField(default=0, editable=False, help_text="rises with every firing and edit: the guard of the next")
    last_task_id = models.CharField(max_length=180, blank=True, default="", editable=False)
    fired = models.IntegerField(default=0, editable=False, help_text="tasks submitted so far")
    created_at = models.DateTimeField(editable=False)
    created_by = models.CharField(max_length=255, editable=False)
    updated_at = models.DateTimeField(editable=False)
    updated_by = models.CharField(max_length=255, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["org", "name"], name="schedule_name")]
        indexes = [models.Index(fields=["enabled", "next_fire_at"], name="schedule_due")]

    def __str__(self) -> str:
        return f"{self.org_id}/{self.name}"


class ScheduleFiring(models.Model):
    """One planned time of a schedule and what came of it. Written as `planned` together with the schedule's next time, so a
    ticker that dies in between leaves what has to be done."""

    class Outcome(models.TextChoices):
        PLANNED = "planned", "about to be submitted"
        FIRED = "fired", "a task was submitted"
        OVERLAPPED = "overlapped", "left out: an earlier one was open"
        MISSED = "missed", "left out: the platform was away"
        REFUSED = "refused", "intake said no"

    id = models.CharField(primary_key=True, max_length=255, help_text="<org>/<schedule>@<planned time>")
    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="firings")
    planned_at = models.DateTimeField()
    at = models.DateTimeField(help_text="when it was decided")
    outcome = models.CharField(max_length=16, choices=Outcome.choices, default=Outcome.PLANNED)
    task_id = models.CharField(max_length=180, blank=True, default="")
    because = models.TextField(blank=True, default="")
    actor = models.CharField(max_length=255)

    class Meta:
        indexes = [
            models.Index(fields=["schedule", "-planned_at"], name="firing_schedule"),
            models.Index(fields=["outcome", "at"], name="firing_outcome"),
        ]

    def __str__(self) -> str:
        return f"{self.id}: {self.outcome}"
