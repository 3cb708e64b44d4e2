"""What /api/docs says of the jobs API: arguments of `extend_schema`, one constant per operation."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from apps.core.openapi import INTEGER, PROBLEM, TIME, Schema
from apps.core.openapi import answered as _ok
from apps.core.openapi import nullable as _nullable
from apps.core.openapi import object_of as _object
from apps.core.openapi import string as _string
from apps.jobs import schema
from apps.jobs.listing import STATUSES, TEXTS, TIMES
from apps.jobs.states import Reason

TAGS = ["jobs"]
NUMBER: Schema = {"type": "number"}
STATUS = _string("where the job is", enum=STATUSES)

WHOLE: dict[str, Schema] = {name: each for name, each in schema.status()["properties"].items() if name != "status_code"}
"""What the status URL says of it, too."""
BRIEF: dict[str, Schema] = {
    **{name: each for name, each in WHOLE.items() if name != "errors" and not name.startswith("result")},
    "name": _string("the method, as people know it"),
    "queue": _string(),
    "backend": _string("what carries it to a worker"),
    "priority": {**INTEGER, "minimum": -100, "maximum": 100},
    "attempt": {**INTEGER, "description": "attempts begun"},
    "retries": {**INTEGER, "description": "attempts beyond the first that it may have"},
    "timeout_s": {**NUMBER, "description": "of an attempt"},
    "waits_for": {**INTEGER, "description": "jobs it depends on that have not ended"},
    "progress": _nullable({**NUMBER, "minimum": 0, "maximum": 100}),
    "message": _string("what it says of its progress"),
    "rate": _nullable({**NUMBER, "description": "percent a second"}),
    "eta_s": _nullable({**NUMBER, "description": "seconds left at that rate"}),
    "submitter": _string("key:<key id> or user:<id>"),
    "submitted_by": _string("the same, for people"),
    "retry_of": _nullable(_string("the job that this one tries again")),
    "unique_key": _nullable(_string("one job per submitter and key")),
    "webhook_url": _string("told of its end"),
    "not_before": _nullable(TIME),
    "start_before": _nullable({**TIME, "description": "expires when not begun by then"}),
    "cancel_requested_at": _nullable(TIME),
    "result_expires_at": _nullable({**TIME, "description": "until then its result is kept"}),
    "error": _string("one sentence, once it has ended without a result"),
    "error_code": _string(f"why: {', '.join(reason.value for reason in Reason)}, or the code of the exception that the method raised"),
}
JOB = _object(
    {
        **WHOLE,
        **BRIEF,
        "depends_on": {"type": "array", "items": _string()},
        "target": _string("for operators: what is called"),
        "worker": _string("for operators"),
        "traceback": _string("for operators: of the last error"),
    }
)
EVENT = _object(
    {
        "id": _string("sorts by time; empty for the first, its birth"),
        "old": _nullable(STATUS),
        "new": STATUS,
        "attempt": INTEGER,
        "reason": _string(),
        "actor": _string("empty: the platform"),
        "at": TIME,
    }
)


_SAID = {
    400: "not JSON, or a bad query",
    404: "no such job, or not yours to see",
    409: "not in a state that allows it; `current_status` says which it is in",
    422: "every problem, by field",
    503: "a store is away, or too many requests wait here; see Retry-After",
}


def _errors(*codes: int) -> dict[Any, Any]:
    return {(code, "application/problem+json"): OpenApiResponse(response=PROBLEM, description=_SAID[code]) for code in codes}


def _operation(name: str, summary: str, ok: dict[Any, Any], *errors: int, **more: Any) -> dict[str, Any]:
    return {"tags": TAGS, "operation_id": name, "summary": summary, "responses": {**ok, **_errors(*errors)}, **more}


def _json(schema: Schema, description: str, status: int = 200) -> dict[Any, Any]:
    return {(status, "application/json"): _ok(schema, description)}


_MEANINGS = {
    "name": "a part of the method's name",
    "q": "how the job id begins",
    "submitter": "key:<key id> or user:<id>",
    "error_code": "why it failed",
    "retry_of": "that try this one again",
}
LIST = _operation(
    "list_jobs",
    "Jobs, newest first, without their results",
    _json(_object({"items": {"type": "array", "items": _object(BRIEF)}, "next_cursor": _nullable(_string())}), "a page"),
    400,
    description="An operator's are all of the org, anybody else's those submitted with the same key.",
    parameters=[
        OpenApiParameter("status", OpenApiTypes.STR, many=True, enum=STATUSES),
        OpenApiParameter("queue", OpenApiTypes.STR, many=True),
        *(OpenApiParameter(name, OpenApiTypes.STR, description=_MEANINGS[name]) for name in TEXTS),
        *(OpenApiParameter(name, OpenApiTypes.DATETIME) for name in TIMES),
        OpenApiParameter("limit", OpenApiTypes.INT, description="1…200, default 50"),
        OpenApiParameter("cursor", OpenApiTypes.STR, description="`next_cursor` of the page before"),
    ],
)
SUMMARY = _operation(
    "summarize_jobs",
    "How many jobs are in each status, and how many wait or run in each queue",
    _json(
        _object(
            {
                "statuses": _object(additionalProperties=INTEGER),
                "queues": _object(additionalProperties=_object(additionalProperties=INTEGER)),
            }
        ),
        "counts",
    ),
)
GET = _operation(
    "get_job",
    "One job: where it is, how far, and its result or error",
    {**_json(JOB, "the job, with an ETag"), 304: OpenApiResponse(description="nothing has changed since the ETag of If-None-Match")},
    404,
    parameters=[OpenApiParameter("If-None-Match", OpenApiTypes.STR, OpenApiParameter.HEADER, description="an ETag of an earlier answer")],
)
EVENTS = _operation(
    "list_job_events",
    "Every move of a job, oldest first",
    _json(_object({"items": {"type": "array", "items": EVENT}}), "all of them"),
    404,
)
STREAM = _operation(
    "stream_job",
    "A job as it moves, as server-sent events",
    {
        (200, "text/event-stream"): OpenApiResponse(
            response=OpenApiTypes.STR,
            description="`status` with the job as it is now, again after each change and progress; `end` when it has ended, and the "
            "stream closes. `: beat` every 15 s.",
        ),
    },
    404, 503,
)  # fmt: skip
CANCEL = _operation(
    "cancel_job",
    "Cancel: a waiting job at once, a running one is asked to stop",
    _json(JOB, "the job now"),
    400, 404, 409, 422,
    request={"application/json": _object({"reason": _string("for the history", maxLength=1000)}, additionalProperties=False)},
    description="Cancelling twice is fine; 409 when it has ended another way.",
)  # fmt: skip
RETRY = _operation(
    "retry_job",
    "Do again what a failed or cancelled job was to do, as a new job",
    _json(JOB, "the new job; `retry_of` names the old one", 201),
    400, 404, 409, 422,
    request={"application/json": _object(additionalProperties=False)},
)  # fmt: skip
