"""The inbox as pages: what to decide, what to do, and one task with what can be done with it now.

Plain forms that post and redirect; every decision and report goes the ways of `deciding` and `Inbox`, whose errors are shown
as sentences. The little script only refreshes the list and moves between cards by keyboard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views import View

from apps.agents.candidates import AgentCandidatePoolResolver
from apps.core import clock
from apps.core.auth import Principal
from apps.core.errors import Invalid, Malformed, Missing, PlatformError, Problem
from apps.core.http import parse_json
from apps.core.sign_in import Limited
from apps.messaging.envelope import ReportKind
from apps.orgs.config_store import OrgConfigProvider
from apps.people.inbox import Inbox
from apps.people.sessions import person_of
from apps.tasks import deciding, shapes
from apps.tasks.batch import facts_of
from apps.tasks.models import Task
from apps.tasks.states import IN_FLIGHT, TERMINAL, TaskStatus

TEXT_LENGTH = 1000
RESULT_LENGTH = 60_000
CHOICES_MAX = 200


class SignInForm(Limited, AuthenticationForm):
    """As Django's; who goes wrong too often has to wait."""


class SignIn(LoginView):
    form_class = SignInForm
    template_name = "people/login.html"
    next_page = "inbox"
    redirect_authenticated_user = True


class PersonView(View):
    """For signed-in users who are somebody's subject; the others are told what to do."""

    who: Principal

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path(), reverse("inbox-login"))
        who = person_of(request.user)
        if who is None:
            return render(request, "people/unlinked.html", status=403)
        self.who, self.inbox = who, Inbox(who, now=clock.now())
        try:
            response = super().dispatch(request, *args, **kwargs)
        except Missing:
            response = self.page("people/missing.html", status=404)
        response["Cache-Control"] = "no-store"
        return response

    def page(self, template: str, status: int = 200, **context: Any) -> HttpResponse:
        return render(self.request, template, {"who": self.who, **context}, status=status)


class Home(PersonView):
    def get(self, request: HttpRequest) -> HttpResponse:
        lists = self.inbox.lists()
        config = OrgConfigProvider().of(self.who.org_id)
        sections = [
            ("verifications", "Results to verify", lists.verifications),
            ("approvals", "Waiting for your approval", lists.approvals),
            ("assignments", "Choose who does it", lists.assignments),
            ("to-do", "To do", lists.to_do),
            ("in-progress", "In progress", lists.in_progress),
        ]
        return self.page(
            "people/inbox.html", sections=[section for section in sections if section[2]], lists=lists, ended=self.inbox.ended(),
            in_hand=len(lists.to_do) + len(lists.in_progress), slots=config.human_slots,
        )  # fmt: skip


class TaskView(PersonView):
    def one(self, task: Task, status: int = 200, *, act: str = "", typed: Mapping[str, Any] | None = None) -> HttpResponse:
        """The page of a task; after something was refused, with what was typed for that act."""
        mine = task.held_by_person and task.head_agent_subject_id == self.who.subject_id
        asked = self.inbox.asks_me(task)
        entry = dict(task.entry)
        payload = entry.get("task_job_submission_data") or entry.get("sub_task_job_submission_data") or {}
        typed = typed or {}
        proposal = (task.people.get("proposal") or {}) if task.status == TaskStatus.AWAITING_ASSIGNMENT else {}
        chosen = typed.get("subject_id") or proposal.get("subject_id", "")
        choosing = asked and task.status == TaskStatus.AWAITING_ASSIGNMENT
        return self.page(
            "people/task.html", status, task=task, asked=asked, mine=mine, said=task.status.replace("_", " "), act=act, typed=typed,
            parts=_parts(shapes.full(task).get("sub_tasks")),
            payload=pretty(payload), result=pretty(task.result),
            steering=pretty(entry.get("task_streeability_data") or entry.get("sub_task_streeability_data")),
            parent_id=task.parent_key.partition("/")[2], reviews=task.people.get("reviews", ()),
            can_start=mine and task.status == TaskStatus.DISPATCHED, in_hand=mine and task.status in IN_FLIGHT,
            running=mine and task.status == TaskStatus.RUNNING, ended=task.status in TERMINAL,
            proposal=proposal, chosen=chosen, choices=self._choices(task, chosen) if choosing else None,
        )  # fmt: skip

    def _choices(self, task: Task, chosen: str) -> dict[str, Any]:
        """Who may be given the task, `chosen` among them when it is a candidate: those who can take it first."""
        config = OrgConfigProvider().of(task.org_id)
        pool = AgentCandidatePoolResolver(task.org_id, config).pools([task.job_space_id], now=clock.now())[task.job_space_id]
        facts = facts_of(task)
        pool = pool.narrowed(facts.only) if facts.only else pool
        found = []
        for name, candidate in pool.members.items():
            why = pool.barred.get(name) or candidate.unfit(facts)
            load = f"{candidate.load} open" + ("" if candidate.free else ", full")
            found.append({"subject_id": name, "why": why, "about": why or load})
        found.sort(key=lambda each: (each["subject_id"] != chosen, bool(each["why"]), each["subject_id"]))
        shown = sorted(found[:CHOICES_MAX], key=lambda each: (bool(each["why"]), each["subject_id"]))
        names = {each["subject_id"] for each in shown}
        return {"shown": shown, "total": len(found), "has_chosen": chosen in names, "unknown": pool.unknown}


class OneTask(TaskView):
    def get(self, request: HttpRequest, task_id: str) -> HttpResponse:
        return self.one(self.inbox.task(task_id))


class Act(TaskView):
    def get(self, request: HttpRequest, task_id: str, act: str) -> HttpResponse:
        # Whoever had to sign in again in the middle of a form comes back to its address.
        return redirect("inbox-task", task_id=task_id)

    def post(self, request: HttpRequest, task_id: str, act: str) -> HttpResponse:
        if act not in ACTS:
            raise Missing()
        carry_out, done = ACTS[act]
        task = self.inbox.task(task_id)
        try:
            carry_out(self, task, clock.now())
        except Missing:
            raise
        except Invalid as error:
            for problem in error.problems:
                messages.error(request, f"{LABELS.get(problem.field, problem.field) or 'Input'} {problem.message}.")
            return self.one(self.inbox.task(task_id), error.status, act=act, typed=request.POST)
        except PlatformError as error:
            messages.error(request, error.sentence if not error.facts.get("why") else f"{error.sentence} {error.facts['why']}")
            if error.status >= 500:  # nothing was done, and trying again may help
                return self.one(self.inbox.task(task_id), error.status, act=act, typed=request.POST)
            return redirect("inbox")
        messages.success(request, f"{task_id}: {done}")
        return redirect("inbox-task" if act in STAYING else "inbox", **({"task_id": task_id} if act in STAYING else {}))

    # What the forms hold

    def text(self, name: str, *, required: bool = False, most: int = TEXT_LENGTH) -> str:
        # Browsers send two characters for a line's end and count one.
        value = self.request.POST.get(name, "").replace("\r\n", "\n").strip()
        if required and not value:
            raise Invalid([Problem(field=name, code="missing", message="is required")])
        if len(value) > most or "\x00" in value:
            raise Invalid([Problem(field=name, code="too_long", message=f"must have at most {most} characters")])
        return value

    def approve(self, task: Task, now: datetime) -> None:
        deciding.approve(task, self.who, accepted=True, reason=self.text("reason"), now=now)

    def reject(self, task: Task, now: datetime) -> None:
        deciding.approve(task, self.who, accepted=False, reason=self.text("reason", required=True), now=now)

    def assign(self, task: Task, now: datetime) -> None:
        deciding.assign(task, self.who, subject_id=self.text("subject_id"), reason=self.text("reason"), now=now)

    def accept_result(self, task: Task, now: datetime) -> None:
        deciding.verify(task, self.who, verdict="accept", reason=self.text("reason"), now=now)

    def reject_result(self, task: Task, now: datetime) -> None:
        deciding.verify(task, self.who, verdict="reject", reason=self.text("reason", required=True), now=now)

    def send_back(self, task: Task, now: datetime) -> None:
        deciding.verify(task, self.who, verdict="send_back", reason=self.text("reason", required=True), now=now)

    def start(self, task: Task, now: datetime) -> None:
        self.inbox.say(task, ReportKind.ACCEPTED, now=now)

    def progress(self, task: Task, now: datetime) -> None:
        raw = self.text("percent", required=True)
        if not (raw.isascii() and raw.isdigit() and int(raw) <= 100):
            raise Invalid([Problem(field="percent", code="out_of_range", message="must be from 0 to 100")])
        self.inbox.say(task, ReportKind.PROGRESS, percent=float(raw), message=self.text("message"), now=now)

    def complete(self, task: Task, now: datetime) -> None:
        written = self.text("result", most=RESULT_LENGTH)
        result: Any = {"text": written} if written else None
        if written and self.request.POST.get("as_json"):
            try:
                result = parse_json(written.encode())
            except (Malformed, Invalid) as error:
                why = error.sentence.removeprefix("The body is not JSON: ").rstrip(".")
                raise Invalid([Problem(field="result", code="not_json", message=f"is not JSON: {why}")]) from None
        self.inbox.say(task, ReportKind.COMPLETED, result=result, now=now)

    def decline(self, task: Task, now: datetime) -> None:
        self.inbox.say(task, ReportKind.DECLINED, reason=self.text("reason"), now=now)

    def fail(self, task: Task, now: datetime) -> None:
        self.inbox.say(task, ReportKind.FAILED, error=self.text("reason", required=True), now=now)


ACTS: dict[str, tuple[Callable[[Act, Task, datetime], None], str]] = {
    "approve": (Act.approve, "approved"),
    "reject": (Act.reject, "rejected"),
    "assign": (Act.assign, "assigned"),
    "accept-result": (Act.accept_result, "the result is accepted"),
    "reject-result": (Act.reject_result, "the result is rejected"),
    "send-back": (Act.send_back, "sent back"),
    "start": (Act.start, "yours, in progress"),
    "progress": (Act.progress, "progress noted"),
    "complete": (Act.complete, "handed in"),
    "decline": (Act.decline, "given back"),
    "fail": (Act.fail, "ended as failed"),
}
STAYING = {"start", "progress"}
LABELS = {"reason": "The reason", "subject_id": "The candidate", "percent": "The percentage", "message": "The note", "result": "The result"}


def _parts(sub_tasks: Mapping[str, Any] | None) -> str:
    """`5: 2 completed, 3 awaiting approval`; empty when there are none."""
    if not sub_tasks:
        return ""
    by_status = sub_tasks["by_status"]  # a store answers in any order; people read them in that of a task's life
    counts = ", ".join(f"{by_status[status]} {status.replace('_', ' ')}" for status in TaskStatus if status in by_status)
    return f"{sub_tasks['total']}: {counts}"


def pretty(value: Any) -> str:
    return "" if value in (None, {}, "") else json.dumps(value, indent=2, ensure_ascii=False)
