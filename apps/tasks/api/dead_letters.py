"""Dead letters over HTTP: look, requeue, discard."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from apps.core import clock
from apps.core.http import answer, read_object
from apps.orgs.access import OPERATOR, SUBMITTER, RequireRole
from apps.tasks import shapes
from apps.tasks.api import docs_operating as docs
from apps.tasks.bodies import Body
from apps.tasks.listing import HEAVY, DeadLetterQuery
from apps.tasks.models import DeadLetter, Task
from apps.tasks.operating import dead_letters
from apps.tasks.operating.dead_letters import Retry


def letters_shown(letters: list[DeadLetter]) -> list[dict[str, Any]]:
    """Each with what its task says, in one read more."""
    tasks = Task.objects.defer(*HEAVY).in_bulk([letter.key for letter in letters])
    return [dead_letters.shape(letter, tasks.get(letter.key)) for letter in letters]


# ---- dead letters -----------------------------------------------------------------------------------------


class DeadLetters(APIView):
    permission_classes = [RequireRole(SUBMITTER)]

    @extend_schema(**docs.DEAD_LETTERS)
    def get(self, request: Any) -> HttpResponse:
        letters, following = DeadLetterQuery.of(request.query_params).page(request.user.org_id)
        return answer({"items": letters_shown(letters), "next_cursor": following})


class RequeueDeadLetter(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**docs.REQUEUE_DEAD_LETTER)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        letter = dead_letters.find(request.user.org_id, task_id)
        retry = _retry(Body(read_object(request)))
        task = dead_letters.requeue(letter, retry, request.user, now=clock.now())
        return answer(shapes.full(task), 201, {"Location": f"/api/v1/tasks/{task.task_id}"})


class DiscardDeadLetter(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    @extend_schema(**docs.DISCARD_DEAD_LETTER)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        letter = dead_letters.find(request.user.org_id, task_id)
        body = Body(read_object(request))
        reason = body.text("reason", required=True)
        body.done()
        dead_letters.discard(letter, reason=reason, actor=request.user.actor, now=clock.now())
        return answer(letters_shown([letter])[0])


def _retry(body: Body) -> Retry:
    patch, exclude, keep = body.object("patch"), body.names("exclude"), body.flag("keep_excluded")
    retry = Retry(patch=patch, exclude=exclude, keep_excluded=keep, reason=body.text("reason"))
    body.done()
    return retry
