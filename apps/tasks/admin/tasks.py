"""Tasks for operators: everything may be looked at, nothing typed over; what may be done goes the ways of `steering`.

Works the same with the task store on MongoDB: no joins, plain lookups, filters whose choices come from small tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path

from apps.core import admin_cells as cells
from apps.core import clock, overview
from apps.core.admin import ReadOnlyAdmin, confirmed
from apps.core.admin_filters import WordFilter, words
from apps.core.auth import Principal
from apps.core.errors import PlatformError
from apps.orgs.admin_filters import CHOICES_MAX, OrgFilter
from apps.orgs.keys import OPERATOR
from apps.orgs.models import Org
from apps.roles.models import Subject, SubjectRole
from apps.tasks import deciding, shapes, steering
from apps.tasks.admin import explain as admin_explain
from apps.tasks.admin import queue as admin_queue
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN
from apps.tasks.listing import HEAVY
from apps.tasks.models import Assignment, DeadLetter, Decision, Report, Task, Transition
from apps.tasks.states import IN_FLIGHT, OPEN, TaskStatus
from apps.tasks.store import TaskStore

__all__ = ["admin_queue"]

STEERED_AT_ONCE = 1000
FITS: dict[str, frozenset[TaskStatus]] = {
    "requeue": IN_FLIGHT,
    "assign": frozenset({TaskStatus.AWAITING_ASSIGNMENT, TaskStatus.QUEUED}),
    **dict.fromkeys(("approve", "reject"), frozenset({TaskStatus.AWAITING_APPROVAL})),
    **dict.fromkeys(("accept_result", "reject_result", "send_back"), frozenset({TaskStatus.AWAITING_VERIFICATION})),
}
"""In which states an action makes sense."""

Choices = Iterable[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Said:
    """Who steers, and what stands in the form beside the action."""

    username: str
    reason: str
    subject_id: str

    @classmethod
    def of_form(cls, request: HttpRequest) -> Said:
        typed = SteerForm.typed(request.POST)
        return cls(username=request.user.get_username(), **typed)

    @property
    def actor(self) -> str:
        return f"admin {self.username}"

    def of(self, task: Task) -> Principal:
        """The platform's staff are operators of every org."""
        return Principal(org_id=task.org_id, role=OPERATOR, subject_id="", key_id="", name=self.actor)


class SteerForm(ActionForm):
    reason = forms.CharField(required=False, max_length=1000, widget=forms.TextInput(attrs={"placeholder": "for the history"}))
    subject_id = forms.CharField(
        required=False, max_length=180, label="Subject", widget=forms.TextInput(attrs={"placeholder": "to assign"})
    )
    priority = forms.CharField(  # checked by its action: of a form that is not valid the admin only says "no action selected"
        required=False, widget=forms.NumberInput(attrs={"placeholder": "another", "min": PRIORITY_MIN, "max": PRIORITY_MAX})
    )

    @staticmethod
    def typed(posted: Any) -> dict[str, str]:
        return {"reason": posted.get("reason", "").strip()[:1000], "subject_id": posted.get("subject_id", "").strip()[:180]}


Steer = Callable[[Task, Said, datetime], Any]


class AgentFilter(WordFilter):
    title, parameter_name, field = "head agent", "agent", "head_agent_subject_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        names = Subject.objects.order_by("subject_id").values_list("subject_id", flat=True).distinct()
        return ((name, name) for name in names[:CHOICES_MAX])


class SpaceFilter(WordFilter):
    title, parameter_name, field = "job space", "space", "job_space_id"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        spaces = SubjectRole.objects.exclude(job_space_id="").order_by("job_space_id").values_list("job_space_id", flat=True).distinct()
        return ((space, space) for space in spaces[:CHOICES_MAX])


cells.leads("task_key", lambda row: cells.link("tasks_task", row.task_key), title="task")

ASKING = {
    "awaiting_approval": "wait for approval",
    "awaiting_assignment": "wait for somebody to choose the agent",
    "awaiting_verification": "wait for a verdict",
}
IN_HAND = ("assigned", "dispatched", "running")


@overview.panel("Tasks", "tasks.view_task")
def _figures(now: datetime) -> Iterator[overview.Figure]:
    found = overview.by(Task.objects.filter(status__in=["queued", *IN_HAND, *ASKING]), "status")
    yield overview.Figure("in the queue", found.get("queued", 0), "tasks_task", {"status__exact": "queued"})
    yield overview.Figure("with agents", sum(found.get(each, 0) for each in IN_HAND), "tasks_task", {"status__in": ",".join(IN_HAND)})
    for status, name in ASKING.items():
        yield overview.Figure(name, found.get(status, 0), "tasks_task", {"status__exact": status}, "waits")
    letters = DeadLetter.objects.filter(org_id__in=list(Org.objects.values_list("pk", flat=True)), state=DeadLetter.State.WAITING)
    yield overview.Figure("ended badly, nobody looked", overview.count(letters), "tasks_deadletter", {}, "bad")


@admin.register(Task)
class TaskAdmin(ReadOnlyAdmin):
    list_display = (
        "short_id", "org_id", "status", "short_goal", "head_agent_subject_id", "space", "priority", "attempt", "created_at",
    )  # fmt: skip
    list_filter = ("status", OrgFilter, AgentFilter, SpaceFilter)
    search_fields = ("^task_id", "goal", "^submitter_subject_id")
    search_help_text = "how a task id or a submitter begins, or words of a goal"
    ordering = ("-sequence",)
    action_form = SteerForm
    actions = ("cancel", "requeue", "reprioritize", "approve", "reject", "assign", "accept_result", "reject_result", "send_back")
    change_form_template = "admin/tasks/task/change_form.html"
    nothing_yet = "No task yet. `jobctl submit`, or POST /api/v1/tasks with the key of a submitter, makes the first one."
    fieldsets = (
        (None, {"fields": ("task_id", "org_id", "status", "reason", "goal", "intent", "submitter_subject_id", "job_space_id")}),
        ("Work", {"fields": ("head_agent_subject_id", "attempt", "max_attempts", "progress", "progress_message", "result")}),
        ("Order", {"fields": ("priority", "submitter_priority", "sequence", "execution_mode", "not_before", "deadline")}),
        (
            "Times",
            {"fields": ("created_at", "queued_at", "assigned_at", "dispatched_at", "started_at", "finished_at", "updated_at")},
        ),
        ("As submitted", {"classes": ("collapse",), "fields": ("entry", "body_hash")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        rows = super().get_queryset(request)
        listing = request.resolver_match is not None and request.resolver_match.url_name == "tasks_task_changelist"
        return rows.defer(*HEAVY) if listing and request.method == "GET" else rows

    @admin.display(description="task", ordering="task_id")
    def short_id(self, task: Task) -> str:
        return cells.clipped(task.task_id, 48)

    @admin.display(description="job space", ordering="job_space_id")
    def space(self, task: Task) -> str:
        return task.job_space_id or "-"

    @admin.display(description="goal")
    def short_goal(self, task: Task) -> str:
        return cells.clipped(task.goal, 60)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        task = self.get_object(request, admin.utils.unquote(object_id))
        timeline = _timeline(task) if task else []
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "timeline": timeline})

    def get_urls(self) -> list[Any]:
        why = self.admin_site.admin_view(partial(admin_explain.page, self))
        return [path("<path:object_id>/explain/", why, name="tasks_task_explain"), *super().get_urls()]

    # Steering

    def fits(self, row: Task, name: str) -> bool:
        status = TaskStatus(row.status)
        if name in ("cancel", "reprioritize"):
            return status in OPEN
        return status in FITS[name]

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("tasks.change_task")

    @admin.action(description="Cancel", permissions=["steer"])
    @confirmed("These tasks will be cancelled, wherever they stand. It cannot be taken back; ended ones stay as they are.")
    def cancel(self, request: HttpRequest, chosen: QuerySet[Task]) -> None:
        self._steer(
            request, chosen, "cancelled", lambda task, said, now: steering.cancel(task, actor=said.actor, reason=said.reason, now=now)
        )

    @admin.action(description="Take from the agent and queue again", permissions=["steer"])
    @confirmed("These tasks will be taken from their agents, who lose what they did so far, and queued again as another attempt.")
    def requeue(self, request: HttpRequest, chosen: QuerySet[Task]) -> None:
        self._steer(
            request, chosen, "queued again", lambda task, said, now: steering.requeue(task, actor=said.actor, reason=said.reason, now=now)
        )

    @admin.action(description="Give another priority", permissions=["steer"])
    def reprioritize(self, request: HttpRequest, chosen: QuerySet[Task]) -> None:
        said = Said.of_form(request)
        try:
            wanted = forms.IntegerField(min_value=PRIORITY_MIN, max_value=PRIORITY_MAX).clean(request.POST.get("priority", ""))
        except forms.ValidationError as error:
            self.message_user(request, f"Priority: {' '.join(error.messages)}", messages.ERROR)
            return
        tasks = list(TaskStore().load_many(self._keys(request, chosen)).values())
        changed = steering.reprioritize(tasks, wanted, actor=said.actor, reason=said.reason, now=clock.now())
        if changed:
            self.message_user(request, f"{len(changed)} given priority {wanted}.", messages.SUCCESS)
        if len(changed) < len(tasks):
            left = f"{len(tasks) - len(changed)} left alone: they have ended, have that priority, or moved on at the same moment."
            self.message_user(request, left, messages.WARNING)

    @admin.action(description="Approve (of those that wait for it)", permissions=["steer"])
    def approve(self, request: HttpRequest, chosen: QuerySet[Task]) -> None:
        self._approval(request, chosen, "approved", accepted=True)

    @admin.action(description="Reject (of those that wait for approval)", permissions=["steer"])
    @confirmed("These tasks will be rejected, for good.")
    def reject(self, request: HttpRequest, chosen: QuerySet[Task]) -> None:
        self._approval(request, chosen, "rejected", accepted=False)

    @admin.action(description="Assign to the subject, or as proposed", permissions=["steer"])
    def assign(self, request: HttpRequest, chosen: QuerySet[Task]) -> None:
        def steer(task: Task, said: Said, now: datetime) -> Any:
            return deciding.assign(task, said.of(task), subject_id=said.subject_id, reason=said.reason, now=now)

        self._steer(request, chosen, "assigned", steer)

    @admin.action(description="Verify: accept the result", permissions=["steer"])
    def accept_result(self, request: HttpRequest, chosen: QuerySet[Task]) -> None:
        self._verdict(request, chosen, "accepted", "accept")

    @admin.action(description="Verify: reject the result", permissions=["steer"])
    @confirmed("The results of these tasks will be rejected: the tasks end as failed.")
    def reject_result(self, request: HttpRequest, chosen: QuerySet[Task]) -> None:
        self._verdict(request, chosen, "rejected", "reject")

    @admin.action(description="Verify: send back for another attempt", permissions=["steer"])
    def send_back(self, request: HttpRequest, chosen: QuerySet[Task]) -> None:
        self._verdict(request, chosen, "sent back", "send_back")

    def _approval(self, request: HttpRequest, chosen: QuerySet[Task], done: str, *, accepted: bool) -> None:
        def steer(task: Task, said: Said, now: datetime) -> Any:
            return deciding.approve(task, said.of(task), accepted=accepted, reason=said.reason, now=now)

        self._steer(request, chosen, done, steer)

    def _verdict(self, request: HttpRequest, chosen: QuerySet[Task], done: str, verdict: str) -> None:
        def steer(task: Task, said: Said, now: datetime) -> Any:
            return deciding.verify(task, said.of(task), verdict=verdict, reason=said.reason, now=now)

        self._steer(request, chosen, done, steer)

    def _steer(self, request: HttpRequest, chosen: QuerySet[Task], done: str, steer: Steer) -> None:
        said = Said.of_form(request)
        count = 0
        for task in TaskStore().load_many(self._keys(request, chosen), entry=True).values():
            try:
                steer(task, said, clock.now())
                count += 1
            except PlatformError as error:
                self.message_user(request, f"Task {task.task_id}: {error.sentence}", messages.WARNING)
        if count:
            self.message_user(request, f"{count} {done}.", messages.SUCCESS)

    def _keys(self, request: HttpRequest, chosen: QuerySet[Task]) -> list[str]:
        keys = list(chosen.values_list("pk", flat=True)[: STEERED_AT_ONCE + 1])
        if len(keys) > STEERED_AT_ONCE:
            self.message_user(request, f"Only the first {STEERED_AT_ONCE} of those chosen: do it again for the others.", messages.WARNING)
        return keys[:STEERED_AT_ONCE]


def _timeline(task: Task) -> list[dict[str, Any]]:
    """The history in words: when, how long after the submission, what, why, and the facts behind it."""
    rows = []
    for item in shapes.history(task.key):
        at = datetime.fromisoformat(item.pop("at"))
        kind = item.pop("kind")
        headline, why, status = _told(kind, item)
        after_s = (at - task.created_at).total_seconds()
        rows.append(
            {
                "at": at,
                "after": f"+{cells.span(after_s)}",
                "kind": kind,
                "status": status,
                "headline": headline,
                "why": why,
                "facts": json.dumps(item, indent=2, ensure_ascii=False),
            }
        )
    return rows


def _told(kind: str, item: dict[str, Any]) -> tuple[str, str, str]:
    """(headline, why, status to colour it by)"""
    if kind == "policy":
        said = item["error"] or json.dumps(item["output"], ensure_ascii=False)
        return f"{item['hook']}: {item['script_id']}@{item['script_version']}", said, TaskStatus.FAILED if item["error"] else ""
    if kind == "assignment":
        return f"attempt {item['attempt']}: {item['agent']} by {item['strategy']}", item["because"], TaskStatus.ASSIGNED
    if kind == "report":
        body = item["body"] if isinstance(item["body"], dict) else {}
        said = body.get("message") or body.get("error") or body.get("reason") or ""
        return f"{item['agent']} says {item['type']} ({item['outcome']})", str(said), ""
    if kind == "decision":
        return f"{item['decided'].replace('_', ' ')}: {item['outcome'].replace('_', ' ')}", f"{item['because']} — {item['actor']}", ""
    old = item["old"] or "submitted"
    return f"{old} → {item['status']}", f"{item['reason']} — {item['actor']}", item["status"]


@admin.register(Transition)
class TransitionAdmin(ReadOnlyAdmin):
    list_display = ("at", "task_key", "old", "new", "reason", "actor", "attempt")
    list_filter = (words("became", (status.value for status in TaskStatus), field="new"), OrgFilter)
    nothing_yet = "Each move of a task from one status to another is told here."
    search_fields = ("^task_key",)
    ordering = ("-id",)


@admin.register(Assignment)
class AssignmentAdmin(ReadOnlyAdmin):
    list_display = ("at", "task_key", "attempt", "head_agent_subject_id", "strategy", "because")
    nothing_yet = "Each choice of a head agent is told here."
    list_filter = (OrgFilter, AgentFilter)
    search_fields = ("^task_key", "=head_agent_subject_id")
    ordering = ("-id",)


@admin.register(Report)
class ReportAdmin(ReadOnlyAdmin):
    list_display = ("at", "task_key", "attempt", "agent", "kind", "outcome")
    nothing_yet = "What agents report of their tasks is told here, also what came too late to count."
    list_filter = (OrgFilter,)
    search_fields = ("^task_key", "=agent")
    ordering = ("-id",)


@admin.register(Decision)
class DecisionAdmin(ReadOnlyAdmin):
    list_display = ("at", "task_key", "kind", "outcome", "because", "actor")
    nothing_yet = "What people, strategies and limits decided about tasks is told here."
    list_filter = (OrgFilter,)
    search_fields = ("^task_key", "=actor")
    ordering = ("-at",)


