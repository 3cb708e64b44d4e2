"""The HTTP face of sessions: hand one in, look, steer. Views translate, make one domain call, translate back."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from apps.core import clock
from apps.core.errors import Missing
from apps.core.http import answer, read_object
from apps.core.queries import Query
from apps.orgs.access import OPERATOR, ORG_ADMIN, SUBMITTER, RequireRole
from apps.tasks.api.bodies import Body, reason_of
from apps.tasks.arrivals import stream
from apps.workflows.api import docs, reading
from apps.workflows.following import Follower
from apps.workflows.service import Sessions as Service
from apps.workflows.states import ItemStatus, SessionStatus

EVENT_ID = re.compile(r"[0-9a-f]{32}")
SESSION_STATUSES = [status.value for status in SessionStatus]
ITEM_STATUSES = [status.value for status in ItemStatus]


class SessionView(APIView):
    permission_classes = [RequireRole(SUBMITTER)]

    sessions = Service()


class Sessions(SessionView):
    @extend_schema(**docs.LIST)
    def get(self, request: Any) -> HttpResponse:
        query = Query(request.query_params, {"status", "q", "limit", "cursor"}, frozenset({"status"}))
        statuses, words, limit = query.choices("status", SESSION_STATUSES), query.text("q"), query.limit()
        query.done()
        items, following = self.sessions.list(request.user, status=statuses, q=words, cursor=query.cursor, limit=limit)
        return answer({"items": items, "next_cursor": following})

    @extend_schema(**docs.CREATE)
    def post(self, request: Any) -> HttpResponse:
        query = Query(request.query_params, {"dry_run"})
        dry_run = query.flag("dry_run")
        query.done()
        document = reading.document_of(request)
        made, repeated = self.sessions.create(document, request.user, now=clock.now(), dry_run=dry_run)
        if dry_run:
            return answer(made)
        return answer(made, 200 if repeated else 201, {"Location": f"/api/v1/sessions/{made['session_id']}"})


class OneSession(SessionView):
    permission_classes = [RequireRole(SUBMITTER, DELETE=ORG_ADMIN)]

    @extend_schema(**docs.GET)
    def get(self, request: Any, session_id: str) -> HttpResponse:
        response = answer(self.sessions.get(request.user, session_id))
        response["ETag"] = tag = f'"{hashlib.sha256(response.content).hexdigest()[:32]}"'
        response["Cache-Control"] = "private, no-cache"
        if tag in [one.strip().removeprefix("W/") for one in request.headers.get("If-None-Match", "").split(",")]:
            return HttpResponse(status=304, headers={"ETag": tag, "Cache-Control": "private, no-cache"})
        return response

    @extend_schema(**docs.DELETE)
    def delete(self, request: Any, session_id: str) -> HttpResponse:
        self.sessions.delete(request.user, session_id)
        return HttpResponse(status=204)


class Document(SessionView):
    @extend_schema(**docs.DOCUMENT_OF)
    def get(self, request: Any, session_id: str) -> HttpResponse:
        return answer(self.sessions.document(request.user, session_id))


class Steps(SessionView):
    @extend_schema(**docs.STEPS)
    def get(self, request: Any, session_id: str) -> HttpResponse:
        query = Query(request.query_params, {"limit", "cursor"})
        limit = query.limit(reading.STEPS_MAX, reading.STEPS_MAX)
        query.done()
        items, following = self.sessions.steps(request.user, session_id, cursor=query.cursor, limit=limit)
        return answer({"items": items, "next_cursor": following})


class OneStep(SessionView):
    @extend_schema(**docs.STEP_GET)
    def get(self, request: Any, session_id: str, path: str) -> HttpResponse:
        return answer(self.sessions.step(request.user, session_id, path))


class Items(SessionView):
    @extend_schema(**docs.ITEMS)
    def get(self, request: Any, session_id: str, path: str) -> HttpResponse:
        query = Query(request.query_params, {"status", "whole", "limit", "cursor"}, frozenset({"status"}))
        statuses, whole, limit = query.choices("status", ITEM_STATUSES), query.flag("whole"), query.limit()
        query.done()
        found = self.sessions.items(request.user, session_id, path, status=statuses, cursor=query.cursor, limit=limit, whole=whole)
        return answer({"items": found[0], "next_cursor": found[1]})


class OneItem(SessionView):
    @extend_schema(**docs.ITEM_GET)
    def get(self, request: Any, session_id: str, path: str, index: str) -> HttpResponse:
        if not (index.isascii() and index.isdigit() and len(index) < 10):
            raise Missing()
        return answer(self.sessions.item(request.user, session_id, path, int(index)))


class Events(SessionView):
    @extend_schema(**docs.EVENTS)
    def get(self, request: Any, session_id: str) -> HttpResponse:
        query = Query(request.query_params, {"after", "limit"})
        after, limit = query.text("after", 32), query.limit(1000, 200)
        if after and not EVENT_ID.fullmatch(after):
            query.wrong("after", "must be the id of an event")
        query.done()
        items = self.sessions.events(request.user, session_id, after=after, limit=limit + 1)
        return answer({"items": items[:limit], "next": items[limit - 1]["id"] if len(items) > limit else None})


class Stream(SessionView):
    http_method_names = ["get"]

    @extend_schema(**docs.STREAM)
    def get(self, request: Any, session_id: str) -> HttpResponse | StreamingHttpResponse:
        after = request.headers.get("Last-Event-ID", "")
        follower = Follower(request.user.org_id, session_id, after=after if EVENT_ID.fullmatch(after) else "")
        if follower.knows_all:
            return HttpResponse(status=204)  # tells an EventSource to stop coming back
        chunks = stream(follower.follow())
        # X-Accel-Buffering: proxies of the nginx kind hold events back otherwise.
        return StreamingHttpResponse(chunks, content_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


class Results(SessionView):
    @extend_schema(**docs.RESULTS)
    def get(self, request: Any, session_id: str) -> HttpResponse:
        query = Query(request.query_params, {"partial"})
        partial = query.flag("partial")
        query.done()
        return answer(self.sessions.results(request.user, session_id, partial=partial))


# ---- steer ------------------------------------------------------------------------------------------------


class Cancel(SessionView):
    @extend_schema(**docs.CANCEL)
    def post(self, request: Any, session_id: str) -> HttpResponse:
        reason = reason_of(request)
        return answer(self.sessions.cancel(request.user, session_id, now=clock.now(), reason=reason))


class OperatorView(SessionView):
    permission_classes = [RequireRole(OPERATOR)]


class Pause(OperatorView):
    @extend_schema(**docs.PAUSE)
    def post(self, request: Any, session_id: str) -> HttpResponse:
        reason = reason_of(request)
        return answer(self.sessions.pause(request.user, session_id, now=clock.now(), reason=reason))


class Resume(OperatorView):
    @extend_schema(**docs.RESUME)
    def post(self, request: Any, session_id: str) -> HttpResponse:
        reason = reason_of(request)
        return answer(self.sessions.resume(request.user, session_id, now=clock.now(), reason=reason))


class Retry(OperatorView):
    @extend_schema(**docs.RETRY)
    def post(self, request: Any, session_id: str) -> HttpResponse:
        reason = reason_of(request)
        return answer(self.sessions.retry(request.user, session_id, now=clock.now(), reason=reason))


class Rerun(OperatorView):
    @extend_schema(**docs.RERUN)
    def post(self, request: Any, session_id: str) -> HttpResponse:
        body = Body(read_object(request))
        path, reason = body.text("step", required=True, length=700), body.text("reason")
        given = body.object("input") if body.has("input") else None
        body.done()
        return answer(self.sessions.rerun(request.user, session_id, path, input=given, now=clock.now(), reason=reason))


class Compensate(OperatorView):
    @extend_schema(**docs.COMPENSATE)
    def post(self, request: Any, session_id: str) -> HttpResponse:
        reason = reason_of(request)
        return answer(self.sessions.compensate(request.user, session_id, now=clock.now(), reason=reason))
