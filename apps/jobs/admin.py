"""Jobs for operators: everything may be looked at, nothing typed over; cancelling and trying again go the ways of the manager."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from django_celery_results.models import GroupResult, TaskResult

from apps.core import admin_cells as cells
from apps.core import clock, overview
from apps.core.admin import LiveAdmin, ReadOnlyAdmin, actor, confirmed
from apps.core.admin_cells import between, span
from apps.core.admin_filters import WordFilter, words
from apps.core.errors import PlatformError
from apps.jobs import queues
from apps.jobs.backends import NAMES as BACKENDS
from apps.jobs.calls import Owner
from apps.jobs.listing import HEAVY
from apps.jobs.manager import JobManager
from apps.jobs.models import Job, JobDependency, JobEvent
from apps.jobs.states import OPEN, JobStatus, Reason
from apps.orgs.admin_filters import OrgFilter

STEERED_AT_ONCE = 200
EVENTS_SHOWN, RELATIVES_SHOWN = 500, 100
TIMES = (("created_at", "not_before", "start_before"), ("started_at", "deadline"), ("cancel_requested_at", "ended_at"))
ASKED = ("request", "arguments", "options", "unique_key", "webhook")
AGAIN = (JobStatus.FAILED, JobStatus.CANCELLED)


class QueueFilter(WordFilter):
    title, parameter_name = "queue", "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(name, name) for name in sorted(queues.known())]


BackendFilter = words("backend", BACKENDS, field="backend")
ErrorFilter = words("error", (reason.value for reason in Reason), field="error_code")


@admin.register(Job)
class JobAdmin(LiveAdmin):
    list_display = ("short_id", "called", "state", "bar", "when", "whose")
    list_filter = ("status", QueueFilter, ErrorFilter, BackendFilter, OrgFilter)
    search_fields = ("^id", "name", "=owner", "=unique_key")
    search_help_text = "how a job id begins, words of a name, a submitter (user:… or key:…), or a unique key"
    ordering = ("-sequence",)
    actions = ("cancel", "retry")
    severe = {"cancel": "This job will be cancelled: one that waits at once, one that runs is asked to stop. It cannot be taken back."}
    nothing_yet = "No job yet. A method decorated with @as_job makes one each time it is called (docs/jobs.md)."
    fieldsets = (
        ("Result", {"fields": ("result", ("result_status", "result_expires_at"))}),
        ("The job", {"fields": ("full_id", ("name", "target"), ("queue", "backend", "priority"), "whose", "worker")}),
        ("Times", {"fields": TIMES}),
        ("Traceback of the last error", {"classes": ("collapse",), "fields": ("trace",)}),
        ("What was asked", {"classes": ("collapse",), "fields": ASKED}),
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        rows = super().get_queryset(request)
        listing = request.resolver_match is not None and request.resolver_match.url_name == "jobs_job_changelist"
        return rows.defer(*HEAVY) if listing and request.method == "GET" else rows

    @admin.display(description="job", ordering="id")
    def short_id(self, row: Job) -> str:
        return Truncator(row.id).chars(14)

    @admin.display(description="id")
    def full_id(self, row: Job) -> str:
        return row.id

    @admin.display(description="name and queue", ordering="name")
    def called(self, row: Job) -> str:
        return format_html("{}<br><span class='jp-quiet'>{}</span>", Truncator(row.name).chars(48), row.queue)

    @admin.display(description="status", ordering="status")
    def state(self, row: Job) -> str:
        code = row.error_code.replace("_", " ") if row.status in (JobStatus.FAILED, JobStatus.RETRYING) else ""
        tries = f"attempt {row.attempt}" if row.attempt > 1 else ""
        more = ", ".join(filter(None, (code, tries)))
        return format_html("{}<br><span class='jp-quiet'>{}</span>", cells.status(row.status), more)

    @admin.display(description="progress", ordering="progress")
    def bar(self, row: Job) -> str:
        return cells.bar(row.progress, row.status)

    @admin.display(description="submitted", ordering="sequence")
    def when(self, row: Job) -> str:
        took = between(row.started_at, row.ended_at)
        return format_html("{}<br><span class='jp-quiet'>{}</span>", f"{row.created_at:%Y-%m-%d %H:%M:%S}", took and f"ran {took}")

    @admin.display(description="submitter", ordering="owner")
    def whose(self, row: Job) -> str:
        who = Truncator(row.actor or row.owner or "anybody who knows its id").chars(48)
        return format_html("{}<br><span class='jp-quiet'>{}</span>", who, row.org_id or "no org")

    @admin.display(description="traceback")
    def trace(self, row: Job) -> str:
        return format_html("<pre class='jp-json jp-trace'>{}</pre>", row.traceback) if row.traceback else "-"

    @admin.display(description="webhook URL")
    def webhook(self, row: Job) -> str:
        if not row.webhook_url:
            return "-"
        sent = reverse("admin:webhooks_delivery_changelist")
        return format_html('{}<br><a href="{}?q={}">what was sent</a>', row.webhook_url, sent, row.id)

    # One job

    def live(self, row: Job) -> dict[str, Any]:
        return _live(row)

    def verbs_of(self, row: Job) -> tuple[tuple[str, str], ...]:
        return _verbs_of(row)

    # Steering

    verbs = ("cancel", "retry")

    def steer_one(self, request: HttpRequest, row: Job, verb: str) -> str:
        """Of a retry the new job."""
        return next(iter(self.steer(request, Job.objects.filter(pk=row.pk), verb)), row.pk)

    @admin.action(description="Cancel: waiting ones at once, running ones are asked to stop", permissions=["steer"])
    @confirmed("These jobs will be cancelled: those that wait at once, those that run are asked to stop. It cannot be taken back.")
    def cancel(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        self.steer(request, chosen, "cancel")

    @admin.action(description="Try again, as new jobs (of failed and cancelled ones)", permissions=["steer"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Job]) -> None:
        self.steer(request, chosen, "retry")

    def steer(self, request: HttpRequest, chosen: QuerySet[Job], verb: str) -> list[str]:
        """Ids of the jobs it went well with: the same ones, or the new ones."""
        found = list(chosen.values_list("pk", "owner", "org_id", "backend")[: STEERED_AT_ONCE + 1])
        done = []
        for job_id, key, org_id, backend in found[:STEERED_AT_ONCE]:
            # The platform's staff may steer every job; the actor says who it was.
            owner = Owner(key=key, org_id=org_id, actor=actor(request), operates=True)
            try:
                done.append(getattr(JobManager(backend), verb)(job_id, owner, now=clock.now()).id)
            except PlatformError as error:
                self.message_user(request, f"{job_id}: {error.sentence}", messages.WARNING)
        if done:
            self.message_user(request, f"{len(done)} × {verb}: done.", messages.SUCCESS)
        if len(found) > STEERED_AT_ONCE:
            self.message_user(request, f"Only the first {STEERED_AT_ONCE} of those chosen: do it again for the others.", messages.WARNING)
        return done


def _verbs_of(row: Job) -> tuple[tuple[str, str], ...]:
    """What makes sense now."""
    if row.status in OPEN:
        return (("cancel", "Cancel"),)
    return (("retry", "Try again, as a new job"),) if row.status in AGAIN else ()


def _live(row: Job) -> dict[str, Any]:
    """What the part of the page shows that moves."""
    return {
        "job": row,
        "over": row.status not in OPEN,
        "told": " · ".join(_told(row, clock.now())),
        "events": _events(row),
        "relatives": _relatives(row),
    }


def _told(row: Job, now: datetime) -> Iterator[str]:
    is_open, is_running = row.status in OPEN, row.status == JobStatus.STARTED
    if is_running and row.eta_s is not None:
        yield f"about {span(row.eta_s)} left"
    if row.attempt:
        yield f"attempt {row.attempt} of {1 + int((row.options or {}).get('retries', 0))}"
    if row.attempt <= 1:
        yield f"{'waits' if is_open and not is_running else 'waited'} {between(row.created_at, row.started_at or row.ended_at or now)}"
    if is_open and not is_running and row.not_before and row.not_before > now:
        yield f"begins in {between(now, row.not_before)} at the earliest"
    if row.started_at and (is_running or row.ended_at):
        yield f"{'runs for' if is_running else 'ran'} {between(row.started_at, row.ended_at or now)}"
    if is_open and row.cancel_requested_at:
        yield "asked to stop"


def _events(row: Job) -> list[dict[str, Any]]:
    born = {"at": row.created_at, "old": "", "new": JobStatus.QUEUED.value, "attempt": 0, "reason": "", "actor": row.actor, "after": ""}
    moves = JobEvent.objects.filter(job_id=row.id).order_by("id")[:EVENTS_SHOWN]
    names = ("at", "old", "new", "attempt", "reason", "actor")
    told = ({**{name: getattr(move, name) for name in names}, "after": f"+{between(row.created_at, move.at)}"} for move in moves)
    return [born, *told]


def _relatives(row: Job) -> list[tuple[str, Job]]:
    """What it waits for, what waits for it, what it tries again and what tries it again."""
    pairs = [(f"waits for ({when})", on) for on, when in JobDependency.objects.filter(job_id=row.id).values_list("on_id", "when")]
    pairs += [("is waited for by", pk) for pk in JobDependency.objects.filter(on_id=row.id).values_list("job_id", flat=True)]
    pairs += [("tries again", row.retry_of)] if row.retry_of else []
    # By the org's index: there is none on what a job tries again.
    again = (
        Job.objects.filter(org_id=row.org_id, sequence__gt=row.sequence, retry_of=row.id)
        if row.status in (*AGAIN, JobStatus.EXPIRED)
        else ()
    )
    pairs += [("is tried again by", each.pk) for each in again[:RELATIVES_SHOWN]]
    found = Job.objects.defer(*HEAVY).in_bulk([pk for _, pk in pairs[:RELATIVES_SHOWN]])
    return [(how, found[pk]) for how, pk in pairs if pk in found]


cells.leads("job_id", lambda row: cells.link("jobs_job", row.job_id), title="job")


@overview.panel("Jobs", "jobs.view_job")
def _figures(now: datetime) -> Iterator[overview.Figure]:
    found = overview.by(Job.objects.filter(status__in=[status.value for status in OPEN]), "status")
    for status, name in ((JobStatus.QUEUED, "waiting"), (JobStatus.STARTED, "running"), (JobStatus.RETRYING, "to be tried again")):
        yield overview.Figure(name, found.get(status.value, 0), "jobs_job", {"status__exact": status.value})


class MirrorAdmin(ReadOnlyAdmin):
    """What Celery's own table of results says of its messages; a job's page tells more."""

    list_display = ("date_done", "task_name", "status", "worker", "task_id")
    list_filter = ("status", "date_done")
    search_fields = ("=task_id", "^task_name")
    search_help_text = "the id of a message, or how the name of its Celery task begins"
    ordering = ("-date_done",)
    nothing_yet = "Jobs that Celery carries leave their ends here, too."


admin.site.unregister([TaskResult, GroupResult])
admin.site.register(TaskResult, MirrorAdmin)


@admin.register(JobEvent)
class JobEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "job_id", "old", "new", "attempt", "reason", "actor", "org_id")
    list_filter = (words("became", JobStatus, field="new"), OrgFilter)
    nothing_yet = "Each move of a job is told here."
    search_fields = ("=job_id",)
    search_help_text = "a job"
    ordering = ("-id",)
