"""What /api/docs says of sessions: arguments of `extend_schema`, one constant per operation. The document itself is
described in docs/sessions.md; here stand its fields."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from apps.core.openapi import ANY, INTEGER, PROBLEM, TIME, Schema, answered, nullable, object_of, string
from apps.workflows.states import ItemStatus, SessionStatus, StepStatus

TAGS = ["sessions"]
TEXTS: Schema = {"type": "array", "items": string()}
NUMBER: Schema = {"type": "number", "minimum": 0}
OPEN: dict[str, Any] = {"additionalProperties": True}
SESSION_STATUS = string(enum=[status.value for status in SessionStatus])
STEP_STATUS = string(enum=[status.value for status in StepStatus])
ITEM_STATUS = string(enum=[status.value for status in ItemStatus])
ON_FAILURE = string("what a failure does to others", enum=["fail", "skip", "continue"])
KEY = string("letters, digits, - and _, at most 64", pattern="^[A-Za-z0-9_-]{1,64}$")

TASK = object_of(
    {
        "key": KEY,
        "name": string(),
        "executor": string("default: celery when agent_class names a registered processor, else agent", enum=["agent", "celery"]),
        "agent_class": string("the registered TaskProcessor, or what an agent is told"),
        "agent": string("the one agent to take"),
        "tools": {"type": "array", "items": {}},
        "shared_instructions": string(),
        "message_template": string("text with {variables}"),
        "files_folder": string(),
        "input": object_of(description="values; {variables} in texts are replaced", **OPEN),
        "dependencies": TEXTS,
        "optional_dependencies": TEXTS,
        "result_keys": {**TEXTS, "description": "context keys it writes; default: its own key"},
        "result_schema": object_of(description="JSON Schema of a result", **OPEN),
        "expansion_config": object_of(description="one task for each of many; see docs/sessions.md", **OPEN),
        "join": object_of(
            description='which item ends make the step complete: {"rule": "all" | "any"}, {"at_least": n}, {"percent": x}, {"first": n}',
            **OPEN,
        ),
        "max_retries": INTEGER,
        "retry_delays": {"type": "array", "items": NUMBER, "description": "seconds"},
        "retry_backoff": object_of({"initial_s": NUMBER, "factor": NUMBER, "max_s": NUMBER, "jitter": NUMBER}),
        "timeout_s": {**NUMBER, "description": "of each item"},
        "step_timeout_s": {**NUMBER, "description": "of the whole step, retries included"},
        "on_failure": ON_FAILURE,
        "compensation": object_of(description="what undoes it", **OPEN),
        "max_parallel": INTEGER,
        "chunk_size": INTEGER,
        "fail_fast": {"type": "boolean"},
        "continue_on_error": {"type": "boolean"},
    },
    "one step; further fields are its data, where an expansion looks first",
    **OPEN,
)
GROUP = object_of(
    {
        "key": KEY,
        "name": string(),
        "description": string(),
        "dependencies": TEXTS,
        "optional_dependencies": TEXTS,
        "tasks": {"type": "array", "items": TASK},
        "task_groups": {"type": "array", "items": object_of(description="groups inside, of the same shape", **OPEN)},
        "timeout_s": NUMBER,
        "on_failure": ON_FAILURE,
        "max_parallel": INTEGER,
    }
)
DOCUMENT = object_of(
    {
        "session_id": string("unique in the org, and the idempotency key; a new one when absent"),
        "name": string(),
        "description": string(),
        "context": object_of(description="first values that all steps may read", **OPEN),
        "task_groups": {"type": "array", "items": GROUP},
        "tasks": {"type": "array", "items": TASK, "description": "instead of task_groups: one group, `main`"},
        "defaults": object_of(
            description="executor, max_retries, retry_delays, timeout_s, on_failure of every task that says nothing", **OPEN
        ),
        "timeout_s": NUMBER,
        "max_parallel": INTEGER,
        "on_failure": ON_FAILURE,
        "compensate": {"type": "boolean", "description": "undo what completed when the session fails"},
        "job_space_id": string("whose agents may do its tasks"),
        "priority": INTEGER,
        "result_keys": {**TEXTS, "description": "what makes the final result; default: all that steps wrote"},
    }
)
SESSION = object_of(
    {
        "session_id": string(),
        "name": string(),
        "description": string(),
        "status": SESSION_STATUS,
        "reason": string("why it is in this status"),
        "partial": {"type": "boolean", "description": "completed, though something in it did not"},
        "run": {**INTEGER, "description": "rises when it is retried or re-run"},
        "priority": INTEGER,
        "job_space_id": nullable(string()),
        "submitter": string(),
        "progress": {**INTEGER, "description": "percent of the items that are known"},
        "steps": object_of({"total": INTEGER}, "steps by status", additionalProperties=INTEGER),
        "items": object_of({"total": INTEGER}, "items by status", additionalProperties=INTEGER),
        "compensation": nullable(string("how undoing it goes: running, completed or failed")),
        "created_at": TIME,
        "started_at": nullable(TIME),
        "finished_at": nullable(TIME),
        "paused_at": nullable(TIME),
        "deadline": nullable(TIME),
        "last_event": nullable(string("id of the latest event")),
    }
)
STEP = object_of(
    {
        "path": string("keys from the outermost group down, joined by dots"),
        "key": string(),
        "name": string(),
        "kind": string(enum=["step", "group", "compensation"]),
        "parent": string("path of its group"),
        "position": {**INTEGER, "description": "place in the document"},
        "status": STEP_STATUS,
        "reason": string(),
        "partial": {"type": "boolean"},
        "executor": string(),
        "agent_class": string(),
        "run": INTEGER,
        "attempt": INTEGER,
        "counts": object_of({"total": INTEGER}, "its items by status; of a group, its members", additionalProperties=INTEGER),
        "dependencies": TEXTS,
        "optional_dependencies": TEXTS,
        "on_failure": string(),
        "result_keys": TEXTS,
        "expansion": string("array, matrix, zip, custom, or empty"),
        "output_format": string(),
        "missing": {"type": "array", "items": {}, "description": "what its result lacks"},
        "context_version": nullable(INTEGER),
        "retry_at": nullable(TIME),
        "deadline": nullable(TIME),
        "started_at": nullable(TIME),
        "finished_at": nullable(TIME),
    }
)
ITEM = object_of(
    {
        "path": string("of its step"),
        "index": INTEGER,
        "identifier": string(),
        "name": string(),
        "status": ITEM_STATUS,
        "attempt": INTEGER,
        "reason": string(),
        "task_id": nullable(string("the task, when an agent does it")),
        "started_at": nullable(TIME),
        "finished_at": nullable(TIME),
        "input": ANY,
        "result": ANY,
    }
)
EVENT = object_of(
    {
        "id": string(),
        "path": string("of a step or group; empty: the session"),
        "item": nullable(INTEGER),
        "old": nullable(string()),
        "new": string(),
        "reason": string(),
        "actor": string(),
        "run": INTEGER,
        "at": TIME,
    }
)
RESULT = object_of(
    {
        "session_id": string(),
        "status": SESSION_STATUS,
        "final": {"type": "boolean", "description": "the session has ended"},
        "partial": {"type": "boolean"},
        "results": object_of(description="by context key", **OPEN),
        "missing": {"type": "array", "items": object_of(**OPEN), "description": "what is not in it, and why"},
    }
)
PLAN = object_of({"session_id": nullable(string()), "steps": INTEGER}, "what would run: nodes in order, counts, names", **OPEN)

SAMPLE = {
    "session_id": "first",
    "name": "Say hello",
    "tasks": [
        {
            "key": "greet",
            "message_template": "Greet {name} in one sentence",
            "names": ["Ada", "Grace"],
            "expansion_config": {"type": "array", "array_mapping": {"name": "names"}, "output_format": "merge"},
        },
        {"key": "letter", "dependencies": ["greet"], "message_template": "Write a letter from these: {greet}"},
    ],
}


def refused(*codes: int) -> dict[Any, Any]:
    said = {
        400: "not JSON, or a bad query",
        404: "no such session, step or item in this org",
        409: "conflicts with the present state",
        413: "a body of more than 8 MB",
        422: "every problem, each with its JSON path",
        429: "more than the org may have; see Retry-After",
        503: "a store is away, or too many requests wait here; see Retry-After",
    }
    return {(code, "application/problem+json"): OpenApiResponse(response=PROBLEM, description=said[code]) for code in codes}


def _operation(operation_id: str, summary: str, ok: dict[Any, Any], *errors: int, **more: Any) -> dict[str, Any]:
    return {"tags": TAGS, "operation_id": operation_id, "summary": summary, "responses": {**ok, **refused(*errors)}, **more}


def _json(schema: Any, description: str, status: int = 200) -> dict[Any, Any]:
    return {(status, "application/json"): answered(schema, description)}


def _page(items: Any, cursor: str = "next_cursor") -> dict[Any, Any]:
    return _json(object_of({"items": {"type": "array", "items": items}, cursor: nullable(string())}), "a page")


def _paging(most: int, default: int) -> list[OpenApiParameter]:
    return [
        OpenApiParameter("limit", OpenApiTypes.INT, description=f"1…{most}, default {default}"),
        OpenApiParameter("cursor", OpenApiTypes.STR, description="`next_cursor` of the page before"),
    ]


def _verb(operation_id: str, summary: str, description: str, *errors: int, **more: Any) -> dict[str, Any]:
    body = {"application/json": object_of({"reason": string("for the history", maxLength=1000)}, additionalProperties=False)}
    return _operation(
        operation_id, summary, _json(SESSION, "the session now"), *errors, **{"request": body, "description": description, **more}
    )


CREATE = _operation(
    "create_session",
    "Hand in a session: a document of task groups, tasks and what they wait for",
    {
        (200, "application/json"): answered(
            {"oneOf": [SESSION, PLAN]}, "there already, by the same document under the same id; or the plan of a dry run"
        ),
        (201, "application/json"): answered(SESSION, "it runs"),
    },
    400, 409, 413, 422, 429, 503,
    description="Judged whole before anything runs: 422 lists every problem with its JSON path, such as "
    "`task_groups[1].tasks[0].dependencies[2]`. At most 8 MB. With `dry_run=true` the answer is the expanded plan, and nothing "
    "is stored.",
    parameters=[OpenApiParameter("dry_run", OpenApiTypes.BOOL, description="the plan only")],
    request={"application/json": DOCUMENT},
    examples=[OpenApiExample("two steps", value=SAMPLE, request_only=True)],
)  # fmt: skip
LIST = _operation(
    "list_sessions",
    "Sessions, newest first",
    _page(SESSION),
    400,
    parameters=[
        OpenApiParameter("status", OpenApiTypes.STR, many=True, enum=[status.value for status in SessionStatus]),
        OpenApiParameter("q", OpenApiTypes.STR, description="how the session id begins"),
        *_paging(200, 50),
    ],
)
GET = _operation(
    "get_session",
    "One session: where it is, why, and how far",
    {**_json(SESSION, "the session"), 304: OpenApiResponse(description="as it was when you got that ETag")},
    404,
    parameters=[OpenApiParameter("If-None-Match", OpenApiTypes.STR, OpenApiParameter.HEADER, description="an ETag you have")],
)
DELETE = _operation(
    "delete_session",
    "Delete a session that has ended, with all that is kept of it (admins)",
    {204: OpenApiResponse(description="gone")},
    404, 409,
)  # fmt: skip
DOCUMENT_OF = _operation("get_session_document", "The document as it runs", _json(object_of(**OPEN), "the document"), 404)
STEPS = _operation(
    "list_session_steps",
    "Groups and steps, in the order of the document; a group comes before its members",
    _page(STEP),
    400, 404,
    parameters=_paging(1000, 1000),
)  # fmt: skip
STEP_GET = _operation("get_session_step", "One group or step", _json(STEP, "as it is"), 404)
ITEMS = _operation(
    "list_session_items",
    "The items of a step, by index",
    _page(ITEM),
    400, 404,
    parameters=[
        OpenApiParameter("status", OpenApiTypes.STR, many=True, enum=[status.value for status in ItemStatus]),
        OpenApiParameter("whole", OpenApiTypes.BOOL, description="with input and result"),
        *_paging(200, 50),
    ],
)  # fmt: skip
ITEM_GET = _operation(
    "get_session_item",
    "One item, with its input and its result",
    _json(ITEM, "the item"),
    404,
    parameters=[OpenApiParameter("index", OpenApiTypes.INT, OpenApiParameter.PATH)],
)
EVENTS = _operation(
    "list_session_events",
    "Everything that happened to a session, oldest first",
    _page(EVENT, "next"),
    400, 404,
    parameters=[
        OpenApiParameter("after", OpenApiTypes.STR, description="id of an event; `next` of the page before"),
        OpenApiParameter("limit", OpenApiTypes.INT, description="1…1000, default 200"),
    ],
)  # fmt: skip
STREAM = _operation(
    "stream_session",
    "A session as it runs, as server-sent events",
    {
        (200, "text/event-stream"): OpenApiResponse(
            response=OpenApiTypes.STR,
            description="`session` and one `step` each as they are now; then `session`, `step` and `move` (a new event, with its id) as "
            "they change; `end` when it has ended, and the stream closes. `: beat` every 15 s.",
        ),
        204: OpenApiResponse(description="it has ended, and you know it (Last-Event-ID)"),
    },
    404, 503,
    parameters=[OpenApiParameter("Last-Event-ID", OpenApiTypes.STR, OpenApiParameter.HEADER, description="go on after this move")],
)  # fmt: skip
RESULTS = _operation(
    "get_session_results",
    "The final result; with `partial=true` what there is by now",
    _json(RESULT, "the result"),
    400, 404, 409,
    parameters=[OpenApiParameter("partial", OpenApiTypes.BOOL, description="also of a session that has not ended")],
)  # fmt: skip
CANCEL = _verb("cancel_session", "Cancel: what runs is stopped, nothing new starts", "Cancelling twice is fine.", 400, 404, 409, 422)
PAUSE = _verb(
    "pause_session",
    "Pause: nothing new starts, what runs may end (operators)",
    "Deadlines of the session and its steps stand still while it is paused.",
    400, 404, 409, 422,
)  # fmt: skip
RESUME = _verb("resume_session", "Go on with a paused session (operators)", "", 400, 404, 409, 422)
RETRY = _verb(
    "retry_session",
    "Do again what failed, and what waited for it (operators)",
    "For a session that ended and did not complete whole. What completed keeps its results; `run` rises by one.",
    400, 404, 409, 422,
)  # fmt: skip
RERUN = _verb(
    "rerun_session",
    "Do one step again, and all that depends on it (operators)",
    "For a session that has ended. `input` takes the place of members of the task's input and data. `run` rises by one.",
    400, 404, 409, 422,
    request={
        "application/json": object_of(
            {
                "step": string("its path"),
                "input": object_of(description="changed values", **OPEN),
                "reason": string("for the history", maxLength=1000),
            },
            required=["step"],
            additionalProperties=False,
        )
    },
)  # fmt: skip
COMPENSATE = _verb(
    "compensate_session",
    "Undo what completed, last first (operators)",
    "Runs the `compensation` of each completed step that has one. For a session that has ended.",
    400, 404, 409, 422,
)  # fmt: skip
