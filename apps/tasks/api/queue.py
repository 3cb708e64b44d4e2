"""The queue over HTTP, for operators: how it stands, pause and resume, another priority."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from apps.core import clock
from apps.core.errors import Invalid, Problem
from apps.core.http import answer, optional_object, read_object
from apps.orgs.access import OPERATOR, RequireRole
from apps.orgs.config_keys import SENTENCE, SPACE
from apps.tasks import board, pausing, reordering, shapes, steering
from apps.tasks.api import docs_queue as docs
from apps.tasks.api.tasks import TaskView
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN
from apps.tasks.steering import AlreadyEnded
from apps.tasks.store import LostRace

TRIES = 5


class Queue(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**docs.QUEUE)
    def get(self, request: Any) -> HttpResponse:
        return answer(_shown(request.user.org_id))


class Pause(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**docs.PAUSE)
    def post(self, request: Any) -> HttpResponse:
        reason, lane = _wanted(request)
        pausing.pause(request.user.org_id, reason=reason, lane=lane, by=request.user.actor, now=clock.now())
        return answer(_shown(request.user.org_id))


class Resume(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**docs.RESUME)
    def post(self, request: Any) -> HttpResponse:
        reason, lane = _wanted(request)
        pausing.resume(request.user.org_id, reason=reason, lane=lane, by=request.user.actor, now=clock.now())
        return answer(_shown(request.user.org_id))


class Priority(TaskView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**docs.PRIORITY)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        task = self.task(task_id)
        body = read_object(request)
        problems = _unknown(body, {"priority", "reason"})
        priority, reason = body.get("priority"), _sentence(body, "reason", problems)
        if type(priority) is not int or not PRIORITY_MIN <= priority <= PRIORITY_MAX:
            message = f"must be a whole number from {PRIORITY_MIN} to {PRIORITY_MAX}"
            problems.append(Problem(field="priority", code="missing" if "priority" not in body else "wrong", message=message))
        if problems:
            raise Invalid(problems)
        for _ in range(TRIES):
            if shapes.has_ended(task):
                raise AlreadyEnded(status=task.status, task_id=task.task_id)
            changed = steering.reprioritize([task], priority, actor=request.user.actor, reason=reason, now=clock.now())
            if changed or task.priority == priority:
                return answer(shapes.full(task))
            task = self.task(task_id)
        raise LostRace(task_id=task_id)


def _shown(org_id: str) -> dict[str, Any]:
    return {**board.board(org_id, now=clock.now()), "reordering": reordering.progress(org_id)}


def _wanted(request: Any) -> tuple[str, str]:
    """(reason, job space): `{"reason": "…", "job_space_id": "…"}`, either left out, or no body at all."""
    body = optional_object(request)
    problems = _unknown(body, {"reason", "job_space_id"})
    reason, lane = _sentence(body, "reason", problems), ""
    if "job_space_id" in body:
        lane = body["job_space_id"]
        if wrong := SPACE.problem(lane):
            problems.append(Problem(field="job_space_id", code="wrong", message=wrong))
    if problems:
        raise Invalid(problems)
    return reason, lane


def _unknown(body: dict[str, Any], known: set[str]) -> list[Problem]:
    return [Problem(field=name[:80], code="unknown", message="is not a field of this request") for name in body.keys() - known]


def _sentence(body: dict[str, Any], name: str, problems: list[Problem]) -> str:
    value = body.get(name, "")
    if value != "" and (wrong := SENTENCE.problem(value)):
        problems.append(Problem(field=name, code="wrong", message=wrong))
    return value
