"""The HTTP face of what people decide: approve, reject, assign, verify.

Whoever has a key may come in; who may decide is a matter of the question (`people.Identity`), not of the role. An agent is let
in where it is named, and finds nothing anywhere else.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema

from apps.core import clock
from apps.core.errors import Invalid, Missing, Problem
from apps.core.http import answer, read_object
from apps.orgs.access import AGENT, SUBMITTER, RequireRole
from apps.tasks import deciding, shapes
from apps.tasks.api import docs
from apps.tasks.api.tasks import REASON_LENGTH, TaskView, reason_of
from apps.tasks.models import Task
from apps.tasks.parser import SUBJECT_ID
from apps.tasks.people import Identity


class Deciding(TaskView):
    permission_classes = [RequireRole(SUBMITTER, AGENT)]

    def asked(self, task_id: str) -> Task:
        task = self.task(task_id)
        if self.request.user.role == AGENT and not Identity(self.request.user).may_decide(task):
            raise Missing()
        return task


class Approve(Deciding):
    @extend_schema(**docs.APPROVE)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        task = self.asked(task_id)
        return answer(shapes.full(deciding.approve(task, request.user, accepted=True, reason=reason_of(request), now=clock.now())))


class Reject(Deciding):
    @extend_schema(**docs.REJECT)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        task = self.asked(task_id)
        return answer(shapes.full(deciding.approve(task, request.user, accepted=False, reason=reason_of(request), now=clock.now())))


class Assign(Deciding):
    @extend_schema(**docs.ASSIGN)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        task = self.asked(task_id)
        body = _fields(request, {"subject_id", "reason"})
        problems: list[Problem] = []
        if "subject_id" in body:
            SUBJECT_ID(body["subject_id"], "subject_id", problems)
        reason = checked_reason(body, problems)
        task = deciding.assign(task, request.user, subject_id=body.get("subject_id", ""), reason=reason, now=clock.now())
        return answer(shapes.full(task))


class Verify(Deciding):
    @extend_schema(**docs.VERIFY)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        task = self.asked(task_id)
        body = read_object(request)
        problems = _unknown(body, {"verdict", "reason"})
        if "verdict" not in body:
            problems.append(Problem(field="verdict", code="missing", message="is required"))
        elif body["verdict"] not in deciding.VERDICTS:
            problems.append(Problem(field="verdict", code="not_allowed", message=f"must be one of {', '.join(deciding.VERDICTS)}"))
        reason = checked_reason(body, problems)
        return answer(shapes.full(deciding.verify(task, request.user, verdict=body["verdict"], reason=reason, now=clock.now())))


def _fields(request: Any, names: set[str]) -> dict[str, Any]:
    """The body, or {} when there is none."""
    if not request.META.get("HTTP_TRANSFER_ENCODING") and request.META.get("CONTENT_LENGTH") in (None, "", "0"):
        return {}
    body = read_object(request)
    if problems := _unknown(body, names):
        raise Invalid(problems)
    return body


def _unknown(body: dict[str, Any], names: set[str]) -> list[Problem]:
    return [Problem(field=name[:80], code="unknown", message="is not a field of this request") for name in body.keys() - names]


def checked_reason(body: dict[str, Any], problems: list[Problem]) -> str:
    """The reason in a body; raises Invalid with it and the problems found before."""
    reason = body.get("reason", "")
    if not isinstance(reason, str):
        problems.append(Problem(field="reason", code="wrong_type", message="must be a string"))
    elif len(reason) > REASON_LENGTH:
        problems.append(Problem(field="reason", code="too_long", message=f"must have at most {REASON_LENGTH} characters"))
    if problems:
        raise Invalid(problems)
    return reason
