"""Verbs on many tasks at once over HTTP: count, carry out, look how far it is, stop."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from apps.core import clock
from apps.core.http import answer, read_object
from apps.core.pages import page_of
from apps.core.queries import Query, cursor_of, read_cursor
from apps.orgs.access import OPERATOR, RequireRole
from apps.tasks import shapes
from apps.tasks.api import docs_operating as docs
from apps.tasks.api.dead_letters import letters_shown
from apps.tasks.bodies import Body
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN
from apps.tasks.models import BulkAction
from apps.tasks.operating import bulk_actions, bulk_verbs
from apps.tasks.operating.bulk_actions import DEAD_LETTERS, TASKS, Wanted

COUNT_MAX = 2**31 - 1


class _Actions(APIView):
    permission_classes = [RequireRole(OPERATOR)]
    source: str
    verbs: tuple[str, ...]

    def act(self, request: Any) -> HttpResponse:
        body, org_id, now = Body(read_object(request)), request.user.org_id, clock.now()
        if body.has("token"):
            token = body.text("token", length=20_000)
            body.done()
            return _going(bulk_actions.start_token(org_id, token, actor=request.user.actor, now=now))
        dry_run = body.flag("dry_run")
        expected = body.whole("expected_count", 0, COUNT_MAX, required=not dry_run)
        wanted = self._wanted(body)
        body.done()
        bulk_actions.check(wanted)
        if not dry_run:
            return _going(bulk_actions.start(org_id, wanted, expected=expected, actor=request.user.actor, now=now))
        found = bulk_actions.preview(org_id, wanted)
        sample = letters_shown(found.sample) if self.source == DEAD_LETTERS else [shapes.brief(task) for task in found.sample]
        return answer({"count": found.count, "sample": sample, "token": found.token, "valid_seconds": bulk_actions.TOKEN_SECONDS})

    def _wanted(self, body: Body) -> Wanted:
        action = body.choice("action", self.verbs, required=True)
        arguments: dict[str, Any] = {"reason": body.text("reason")}
        if action == "reprioritize":
            arguments["priority"] = body.whole("priority", PRIORITY_MIN, PRIORITY_MAX, required=True)
        if self.source == DEAD_LETTERS and action == "requeue":
            arguments |= {"patch": body.object("patch"), "exclude": list(body.names("exclude"))}
            arguments["keep_excluded"] = body.flag("keep_excluded")
        return Wanted(source=self.source, action=action, filter=body.object("filter", required=True), arguments=arguments)


def _going(action: BulkAction) -> HttpResponse:
    return answer(bulk_actions.shape(action), 202, {"Location": f"/api/v1/bulk-actions/{action.pk}"})


class TaskActions(_Actions):
    source, verbs = TASKS, tuple(bulk_verbs.FOR)

    @extend_schema(**docs.TASK_ACTIONS)
    def post(self, request: Any) -> HttpResponse:
        return self.act(request)


class DeadLetterActions(_Actions):
    source, verbs = DEAD_LETTERS, bulk_verbs.FOR_DEAD_LETTERS

    @extend_schema(**docs.DEAD_LETTER_ACTIONS)
    def post(self, request: Any) -> HttpResponse:
        return self.act(request)


class BulkActions(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**docs.BULK_ACTIONS)
    def get(self, request: Any) -> HttpResponse:
        query = Query(request.query_params, {"limit", "cursor"})
        limit = query.limit()
        query.done()
        rows = BulkAction.objects.filter(org_id=request.user.org_id).order_by("-id")
        if query.cursor is not None:
            rows = rows.filter(id__lt=read_cursor(query.cursor, (str,))[0])
        found, following = page_of(rows, limit, lambda action: cursor_of(action.pk))
        return answer({"items": [bulk_actions.shape(action) for action in found], "next_cursor": following})


class OneBulkAction(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**docs.BULK_ACTION)
    def get(self, request: Any, action_id: str) -> HttpResponse:
        return answer(bulk_actions.shape(bulk_actions.find(request.user.org_id, action_id)))


class StopBulkAction(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**docs.STOP_BULK_ACTION)
    def post(self, request: Any, action_id: str) -> HttpResponse:
        action = bulk_actions.find(request.user.org_id, action_id)
        return answer(bulk_actions.shape(bulk_actions.stop(action, now=clock.now())))
