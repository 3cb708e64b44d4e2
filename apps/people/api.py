"""The inbox over HTTP: lists, and what a person says about a task. By the subject's API key, or signed in."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from apps.core import clock
from apps.core.errors import Forbidden, Invalid, Problem
from apps.core.http import answer, optional_object
from apps.messaging.envelope import ReportKind
from apps.orgs.access import AGENT, SUBMITTER, ApiKeyAuthentication, RequireRole
from apps.people import api_docs as docs
from apps.people.inbox import QUESTIONS, Inbox
from apps.people.sessions import PersonSession
from apps.roles.directory import is_let_go
from apps.tasks import people, shapes

TEXT_LENGTH = 4000


class NobodysInbox(Forbidden):
    code, sentence = "nobodys_inbox", "This key speaks for no subject, so it has no inbox."


class LetGo(Forbidden):
    code, sentence = "let_go", "The subject that this key speaks for is not active."


class InboxBase(APIView):
    authentication_classes = [ApiKeyAuthentication, PersonSession]
    permission_classes = [RequireRole(SUBMITTER, AGENT)]

    def inbox(self) -> Inbox:
        if not self.request.user.subject_id:
            raise NobodysInbox()
        if is_let_go(self.request.user.org_id, self.request.user.subject_id):
            raise LetGo()
        return Inbox(self.request.user, now=clock.now())


class InboxView(InboxBase):
    @extend_schema(**docs.INBOX)
    def get(self, request: Any) -> HttpResponse:
        inbox = self.inbox()
        lists = inbox.lists()
        names = ("to_do", "in_progress", *QUESTIONS)
        tasks = [task for name in names for task in getattr(lists, name)]
        shown = {task.key: {**brief, "waiting_for": people.shown(task)} for task, brief in zip(tasks, shapes.briefs(tasks), strict=True)}
        found = {name: [shown[task.key] for task in getattr(lists, name)] for name in names}
        return answer({"subject_id": request.user.subject_id, **found, "more": lists.more, "roles_unknown": lists.unknown or None})


class OneInInbox(InboxBase):
    """What is this subject's to do or to decide, or was done by it; everything else is missing."""

    @extend_schema(**docs.ONE)
    def get(self, request: Any, task_id: str) -> HttpResponse:
        return answer(shapes.full(self.inbox().task(task_id)))


class Saying(InboxBase):
    """One thing to say about a task in hand: `fields` are (name in the body, name in the report, type, required)."""

    kind: ReportKind
    fields: tuple[tuple[str, str, type, bool], ...] = ()

    def say(self, request: Any, task_id: str) -> HttpResponse:
        inbox = self.inbox()
        task = inbox.task(task_id)
        return answer(shapes.full(inbox.say(task, self.kind, now=clock.now(), **self._said(request))))

    def _said(self, request: Any) -> dict[str, Any]:
        body = optional_object(request)
        known = {name for name, *_ in self.fields}
        problems = [Problem(field=name[:80], code="unknown", message="is not a field of this request") for name in body.keys() - known]
        said: dict[str, Any] = {}
        for name, inside, kind, required in self.fields:
            if name not in body:
                if required:
                    problems.append(Problem(field=name, code="missing", message="is required"))
                continue
            value = said[inside] = body[name]
            if kind is str and not isinstance(value, str):
                problems.append(Problem(field=name, code="wrong_type", message="must be a string"))
            elif kind is str and len(value) > TEXT_LENGTH:
                problems.append(Problem(field=name, code="too_long", message=f"must have at most {TEXT_LENGTH} characters"))
            elif kind is float and (type(value) not in (int, float) or not 0 <= value <= 100):
                problems.append(Problem(field=name, code="out_of_range", message="must be a number from 0 to 100"))
        if problems:
            raise Invalid(problems)
        return said


class Start(Saying):
    kind = ReportKind.ACCEPTED

    @extend_schema(**docs.START)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        return self.say(request, task_id)


class Progress(Saying):
    kind, fields = ReportKind.PROGRESS, (("percent", "percent", float, True), ("message", "message", str, False))

    @extend_schema(**docs.PROGRESS)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        return self.say(request, task_id)


class Complete(Saying):
    kind, fields = ReportKind.COMPLETED, (("result", "result", object, False),)

    @extend_schema(**docs.COMPLETE)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        return self.say(request, task_id)


class Decline(Saying):
    kind, fields = ReportKind.DECLINED, (("reason", "reason", str, False),)

    @extend_schema(**docs.DECLINE)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        return self.say(request, task_id)


class Fail(Saying):
    kind, fields = ReportKind.FAILED, (("reason", "error", str, True),)

    @extend_schema(**docs.FAIL)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        return self.say(request, task_id)
