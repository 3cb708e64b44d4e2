"""Sessions for operators: each with its tree, live while it runs; the items of a step by state; what happened; the context.

Nothing is typed over; what may be done goes the ways of the service. Works the same with the task store on MongoDB.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import Truncator

from apps.core import clock
from apps.core.admin import LiveAdmin, ReadOnlyAdmin, actor
from apps.core.auth import Principal
from apps.core.errors import PlatformError
from apps.orgs.access import OPERATOR
from apps.tasks.admin.tasks import OrgFilter
from apps.workflows import admin_context as admin_context  # registers the documents
from apps.workflows import views
from apps.workflows.following import over
from apps.workflows.models import ContextWrite, Item, Session, SessionEvent, Step
from apps.workflows.service import Sessions
from apps.workflows.states import SESSION_ENDED

VERBS = ("cancel", "pause", "resume", "retry", "compensate")
STEERED_AT_ONCE = 200
STEPS_SHOWN, EVENTS_SHOWN, WRITES_SHOWN = 2000, 200, 200
VALUE_SHOWN = 20_000


def _principal(request: HttpRequest, org_id: str) -> Principal:
    """The platform's staff are operators of every org."""
    return Principal(org_id=org_id, role=OPERATOR, subject_id="", key_id="", name=actor(request))


def _json(value: Any) -> str:
    if value in (None, {}, []):
        return "-"
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html("<pre class='jp-json'>{}</pre>", text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}\n… cut: see the API")


def _status(value: str) -> str:
    return format_html("<span class='jp-status jp-{}'>{}</span>", value, value.replace("_", " "))


def _bar(percent: int, status: str) -> str:
    return format_html("<progress class='jp-{}' max='100' value='{}'></progress>&nbsp;{}%", status, percent, percent)


@admin.register(Session)
class SessionAdmin(LiveAdmin):
    list_display = ("short_id", "short_name", "org_id", "state", "progress", "took", "created_at")
    list_filter = ("status", OrgFilter)
    search_fields = ("^session_id", "name")
    search_help_text = "how a session id begins, or words of a name"
    ordering = ("-sequence",)
    actions = VERBS
    change_form_template = "admin/workflows/session/change_form.html"
    fieldsets = (
        (None, {"fields": ("session_id", "org_id", "name", "description", "whose", "run", "priority", "job_space_id")}),
        ("Times", {"fields": ("created_at", "started_at", "paused_at", "deadline", "finished_at")}),
        ("Document", {"classes": ("collapse",), "fields": ("pretty_document", "body_hash")}),
    )

    class Media:
        css = {"all": ("core/live.css",)}

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
        return _status(row.status) + format_html(" partial") if row.partial and row.status == "completed" else _status(row.status)

    @admin.display(description="progress")
    def progress(self, row: Session) -> str:
        return _bar(views.session(row, last_event="")["progress"], row.status)

    @admin.display(description="took")
    def took(self, row: Session) -> str:
        return f"{(row.finished_at - row.created_at).total_seconds():.1f} s" if row.finished_at else ""

    @admin.display(description="submitter")
    def whose(self, row: Session) -> str:
        return (row.submitter or {}).get("submitter", "")

    @admin.display(description="document")
    def pretty_document(self, row: Session) -> str:
        return _json(row.document)

    # One session

    def live(self, row: Session) -> dict[str, Any]:
        return _live(row)

    def verbs_of(self, row: Session) -> tuple[str, ...]:
        return _verbs_of(row)

    # Steering

    verbs = VERBS

    def steer_one(self, request: HttpRequest, row: Session, verb: str) -> str:
        reason = request.POST.get("reason", "").strip()[:1000]
        self._steer(request, Session.objects.filter(pk=row.pk), verb, reason)
        return row.pk

    @admin.action(description="Cancel", permissions=["steer"])
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
    return f"{((step.finished_at or clock.now()) - step.started_at).total_seconds():.1f} s"


@admin.register(Item)
class ItemAdmin(ReadOnlyAdmin):
    list_display = ("index", "called", "where", "state", "attempt", "short_reason", "task", "started_at", "finished_at")
    list_display_links = ("index", "called")
    list_filter = ("status", OrgFilter)
    search_fields = ("=step_run", "=session_key", "=identifier")
    search_help_text = "a step's run (org/session:path#run), a session (org/session), or an identifier"
    ordering = ("step_run", "index")
    fields = (
        "called", "where", "state", "reason", "attempt", "task", "started_at", "finished_at", "pretty_input", "pretty_result", "chunk_id",
    )  # fmt: skip

    class Media:
        css = {"all": ("core/live.css",)}

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
        to = reverse("admin:workflows_session_change", args=[admin.utils.quote(row.session_key)])
        return format_html('<a href="{}">{}</a>', to, row.step_run.removeprefix(f"{row.session_key}:"))

    @admin.display(description="status", ordering="status")
    def state(self, row: Item) -> str:
        return _status(row.status)

    @admin.display(description="reason")
    def short_reason(self, row: Item) -> str:
        return Truncator(row.reason).chars(80)

    @admin.display(description="task")
    def task(self, row: Item) -> str:
        if not row.task_key:
            return "-"
        return format_html(
            '<a href="{}">{}</a>',
            reverse("admin:tasks_task_change", args=[admin.utils.quote(row.task_key)]),
            Truncator(row.task_key.partition("/")[2]).chars(16),
        )

    @admin.display(description="input")
    def pretty_input(self, row: Item) -> str:
        return _json(row.input)

    @admin.display(description="result")
    def pretty_result(self, row: Item) -> str:
        return _json(row.result)


@admin.register(SessionEvent)
class SessionEventAdmin(ReadOnlyAdmin):
    list_display = ("session_key", "path", "item", "old", "new", "reason", "actor", "run", "at")
    list_filter = ("new", OrgFilter)
    search_fields = ("=session_key",)
    search_help_text = "a session (org/session)"
    ordering = ("-id",)
