"""Sessions for operators: each with its tree, live while it runs; the items of a step by state; what happened; the context.

Nothing is typed over; what may be done goes the ways of the service. Works the same with the task store on MongoDB.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator

from apps.core import admin_cells as cells
from apps.core import clock, overview
from apps.core.admin import LiveAdmin, ReadOnlyAdmin, actor, confirmed
from apps.core.admin_filters import words
from apps.core.auth import Principal
from apps.core.errors import PlatformError
from apps.orgs.access import OPERATOR
from apps.orgs.admin_filters import OrgFilter
from apps.workflows import admin_context as admin_context  # registers the documents
from apps.workflows import views
from apps.workflows.following import over
from apps.workflows.models import ContextWrite, Item, Session, SessionEvent, Step
from apps.workflows.service import Sessions
from apps.workflows.states import SESSION_ENDED, ItemStatus, SessionStatus, StepStatus

VERBS = ("cancel", "pause", "resume", "retry", "compensate")
BECAME = dict.fromkeys(status.value for table in (SessionStatus, StepStatus, ItemStatus) for status in table)
STEERED_AT_ONCE = 200
STEPS_SHOWN, EVENTS_SHOWN, WRITES_SHOWN = 2000, 200, 200


def _principal(request: HttpRequest, org_id: str) -> Principal:
    """The platform's staff are operators of every org."""
    return Principal(org_id=org_id, role=OPERATOR, subject_id="", key_id="", name=actor(request))


@admin.register(Session)
class SessionAdmin(LiveAdmin):
    list_display = ("short_id", "short_name", "org_id", "state", "progress", "took", "created_at")
    list_filter = ("status", OrgFilter)
    search_fields = ("^session_id", "name")
    search_help_text = "how a session id begins, or words of a name"
    ordering = ("-sequence",)
    actions = VERBS
    severe = {
        "cancel": "This session will be cancelled, with all that it has under way. What has completed stays done.",
        "compensate": "What this session completed will be undone, step by step, the last one first.",
    }
    takes_reason = True
    nothing_yet = "No session yet. `jobctl sessions run FILE` starts one, and so does POST /api/v1/sessions (docs/sessions.md)."
    fieldsets = (
        (None, {"fields": ("session_id", "org_id", "name", "description", "whose", "run", "priority", "job_space_id")}),
        ("Times", {"fields": ("created_at", "started_at", "paused_at", "deadline", "finished_at")}),
        ("Document", {"classes": ("collapse",), "fields": ("document", "body_hash")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
        rows = super().get_queryset(request)
        listing = request.resolver_match is not None and request.resolver_match.url_name == "workflows_session_changelist"
        return rows.defer("document", "missing") if listing and request.method == "GET" else rows

    @admin.display(description="session", ordering="session_id")
    def short_id(self, row: Session) -> str:
        return Truncator(row.session_id).chars(24)

    @admin.display(description="name")
    def short_name(self, row: Session) -> str:
        return Truncator(row.name).chars(60)

    @admin.display(description="status", ordering="status")
    def state(self, row: Session) -> str:
        told = cells.status(row.status)
        return format_html("{} partial", told) if row.partial and row.status == "completed" else told

    @admin.display(description="progress")
    def progress(self, row: Session) -> str:
        return cells.bar(row.seen["progress"], row.status)  # type: ignore[attr-defined]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The page's sessions, counted together."""
        found = super().get_changelist_instance(request)
        found.result_list = list(found.result_list)
        for row, seen in zip(found.result_list, views.sessions(found.result_list, last_event=""), strict=True):
            row.seen = seen
        return found

    @admin.display(description="took")
    def took(self, row: Session) -> str:
        return cells.between(row.created_at, row.finished_at)

    @admin.display(description="submitter")
    def whose(self, row: Session) -> str:
        return (row.submitter or {}).get("submitter", "")

    # One session

    def live(self, row: Session) -> dict[str, Any]:
        return _live(row)

    def verbs_of(self, row: Session) -> list[tuple[str, str]]:
        return [(verb, verb.capitalize()) for verb in _verbs_of(row)]

    # Steering

    verbs = VERBS

    def steer_one(self, request: HttpRequest, row: Session, verb: str) -> str:
        reason = request.POST.get("reason", "").strip()[:1000]
        self._steer(request, Session.objects.filter(pk=row.pk), verb, reason)
        return row.pk

    @admin.action(description="Cancel", permissions=["steer"])
    @confirmed("These sessions will be cancelled, with all that they have under way. What has completed stays done.")
    def cancel(self, request: HttpRequest, chosen: QuerySet[Session]) -> None:
        self._steer(request, chosen, "cancel")

    @admin.action(description="Pause", permissions=["steer"])
    def pause(self, request: HttpRequest, chosen: QuerySet[Session]) -> None:
        self._steer(request, chosen, "pause")

    @admin.action(description="Resume", permissions=["steer"])
    def resume(self, request: HttpRequest, chosen: QuerySet[Session]) -> None:
        self._steer(request, chosen, "resume")

    @admin.action(description="Retry what failed", permissions=["steer"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Session]) -> None:
        self._steer(request, chosen, "retry")

    @admin.action(description="Compensate: undo what completed", permissions=["steer"])
    @confirmed("What these sessions completed will be undone, step by step, the last one first.")
    def compensate(self, request: HttpRequest, chosen: QuerySet[Session]) -> None:
        self._steer(request, chosen, "compensate")

    def _steer(self, request: HttpRequest, chosen: QuerySet[Session], verb: str, reason: str = "") -> None:
        found = list(chosen.values_list("org_id", "session_id")[: STEERED_AT_ONCE + 1])
        done = 0
        for org_id, session_id in found[:STEERED_AT_ONCE]:
            try:
                getattr(Sessions(), verb)(_principal(request, org_id), session_id, now=clock.now(), reason=reason)
                done += 1
            except PlatformError as error:
                self.message_user(request, f"Session {session_id}: {error.sentence}", messages.WARNING)
        if done:
            self.message_user(request, f"{done} × {verb}: done.", messages.SUCCESS)
        if len(found) > STEERED_AT_ONCE:
            self.message_user(request, f"Only the first {STEERED_AT_ONCE} of those chosen: do it again for the others.", messages.WARNING)


def _verbs_of(row: Session) -> tuple[str, ...]:
    """What makes sense now."""
    if row.status not in SESSION_ENDED:
        return ("cancel", "resume") if row.status == "paused" else ("cancel", "pause")
    again = () if row.status == "completed" and not row.partial else ("retry",)
    return again if row.compensation else (*again, "compensate")


def _live(row: Session) -> dict[str, Any]:
    """What the live part of the page shows."""
    steps = sorted(Step.objects.filter(session_key=row.key).defer("override")[: STEPS_SHOWN + 1], key=_place)
    shown = views.steps(row, steps[:STEPS_SHOWN])
    items = reverse("admin:workflows_item_changelist")
    for step, stored in zip(shown, steps, strict=False):
        counts = step["counts"]
        step["depth"] = step["path"].count(".")
        step["total"] = counts["total"]
        step["done"] = counts["total"] - counts.get("pending", 0) - counts.get("running", 0)
        step["wrong"] = counts.get("failed", 0) + counts.get("timed_out", 0)
        if step["kind"] != "group":
            step["link"] = f"{items}?{urlencode({'step_run': stored.step_run})}"
            step["wrong_link"] = f"{items}?{urlencode({'step_run': stored.step_run, 'status__exact': 'failed'})}"
        step["took"] = _took(stored)
    events = SessionEvent.objects.filter(session_key=row.key).order_by("-id")[:EVENTS_SHOWN]
    return {
        "session": views.session(row),
        "over": over(row),
        "tree": shown,
        "more_steps": len(steps) > STEPS_SHOWN,
        "events": events,
        "events_shown": EVENTS_SHOWN,
        "writes": ContextWrite.objects.filter(session_key=row.key).order_by("-version")[:WRITES_SHOWN],
        "missing": (row.missing or [])[:100],
        "now": clock.now(),
    }


def _place(step: Step) -> tuple[bool, int]:
    return step.kind == Step.Kind.COMPENSATION, step.position


def _took(step: Step) -> str:
    if step.started_at is None:
        return ""
    return cells.between(step.started_at, step.finished_at or clock.now())


cells.leads("session_key", lambda row: cells.link("workflows_session", row.session_key), title="session")


@overview.panel("Sessions", "workflows.view_session")
def _figures(now: datetime) -> Iterator[overview.Figure]:
    found = overview.by(Session.objects.filter(status__in=["running", "paused"]), "status")
    for status, tone in (("running", ""), ("paused", "waits")):
        yield overview.Figure(status, found.get(status, 0), "workflows_session", {"status__exact": status}, tone)


@admin.register(Item)
class ItemAdmin(ReadOnlyAdmin):
    list_display = ("index", "called", "where", "status", "attempt", "short_reason", "task_key", "started_at", "finished_at")
    list_display_links = ("index", "called")
    list_filter = ("status", OrgFilter)
    search_fields = ("=step_run", "=session_key", "=identifier")
    search_help_text = "a step's run (org/session:path#run), a session (org/session), or an identifier"
    ordering = ("step_run", "index")
    fields = (
        "called", "where", "status", "reason", "attempt", "task_key", "started_at", "finished_at", "input", "result", "chunk_id",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Item]:
        rows = super().get_queryset(request)
        listing = request.resolver_match is not None and request.resolver_match.url_name == "workflows_item_changelist"
        return rows.defer("input", "result") if listing else rows

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup in ("step_run", "session_key") or super().lookup_allowed(lookup, value, request)

    @admin.display(description="name")
    def called(self, row: Item) -> str:
        return Truncator(row.name or row.identifier or f"{row.index}").chars(80)

    @admin.display(description="step")
    def where(self, row: Item) -> str:
        return cells.link("workflows_session", row.session_key, row.step_run.removeprefix(f"{row.session_key}:"))

    @admin.display(description="reason")
    def short_reason(self, row: Item) -> str:
        return cells.clipped(row.reason)


@admin.register(SessionEvent)
class SessionEventAdmin(ReadOnlyAdmin):
    list_display = ("at", "session_key", "path", "item", "old", "new", "reason", "actor", "run")
    list_filter = (words("became", BECAME, field="new"), OrgFilter)
    nothing_yet = "Each move of a session, of its steps and of items that went wrong is told here."
    search_fields = ("=session_key",)
    search_help_text = "a session (org/session)"
    ordering = ("-id",)
