"""The HTTP face of what people decide: approve, reject, assign, verify.

Whoever has a key may come in; who may decide is a matter of the question (`people.Identity`), not of the role. An agent is let
in where it is named, and finds nothing anywhere else.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema

from apps.core import clock
from apps.core.errors import Missing
from apps.core.http import answer, optional_object, read_object
from apps.orgs.access import AGENT, SUBMITTER, RequireRole
from apps.tasks import deciding, shapes
from apps.tasks.api import docs_people as docs
from apps.tasks.api.bodies import reason_of
from apps.tasks.api.tasks import TaskView
from apps.tasks.bodies import Body
from apps.tasks.models import Task
from apps.tasks.parser import SUBJECT_ID
from apps.tasks.people import Identity


class Deciding(TaskView):
    permission_classes = [RequireRole(SUBMITTER, AGENT)]

    def asked(self, task_id: str) -> Task:
        task = self.task(task_id)
        if self.request.user.role == AGENT and not Identity(self.request.user, now=clock.now()).may_decide(task):
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
        body = Body(optional_object(request))
        subject_id, reason = body.checked("subject_id", SUBJECT_ID), body.text("reason")
        body.done()
        task = deciding.assign(task, request.user, subject_id=subject_id, reason=reason, now=clock.now())
        return answer(shapes.full(task))


class Verify(Deciding):
    @extend_schema(**docs.VERIFY)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        task = self.asked(task_id)
        body = Body(read_object(request))
        verdict, reason = body.choice("verdict", deciding.VERDICTS, required=True), body.text("reason")
        body.done()
        return answer(shapes.full(deciding.verify(task, request.user, verdict=verdict, reason=reason, now=clock.now())))
