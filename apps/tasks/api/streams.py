"""Server-sent events: one task's life, or all news of an org.

`id` is the id of the transition an event tells of; a client that comes back with `Last-Event-ID` gets what it missed.
Streams hold a thread each; when too many do, the next one gets 503 and is told to come back.
"""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.utils import extend_schema

from apps.tasks import shapes
from apps.tasks.api import docs
from apps.tasks.api.tasks import TaskView
from apps.tasks.arrivals import Arrivals, Happening, nothing_more, stream

TRANSITION_ID = re.compile(r"[0-9a-f]{32}")


class TaskStream(TaskView):
    http_method_names = ["get"]

    @extend_schema(**docs.STREAM)
    def get(self, request: Any, task_id: str) -> HttpResponse | StreamingHttpResponse:
        task = self.task(task_id)
        after = request.headers.get("Last-Event-ID", "")
        after = after if TRANSITION_ID.fullmatch(after) else ""
        if nothing_more(task, after):
            return HttpResponse(status=204)  # tells an EventSource to stop coming back
        return _sse(stream(Arrivals().follow(task, snapshot=shapes.full, after=after)))


class OrgStream(TaskView):
    http_method_names = ["get"]

    @extend_schema(**docs.ORG_STREAM)
    def get(self, request: Any) -> StreamingHttpResponse:
        org_id = request.user.org_id
        return _sse(stream(Arrivals().listen(org_id, opening=lambda: Happening(name="summary", data=shapes.counts(org_id)))))


def _sse(chunks: Any) -> StreamingHttpResponse:
    # X-Accel-Buffering: proxies of the nginx kind hold events back otherwise.
    return StreamingHttpResponse(chunks, content_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
