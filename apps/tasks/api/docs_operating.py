"""What /api/docs says of dead letters and bulk actions: arguments of `extend_schema`, one constant per operation."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from apps.core.openapi import INTEGER, TIME, answered, nullable, object_of, string
from apps.tasks.api.docs import BRIEF, TASK, refused
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN
from apps.tasks.models import BulkAction, DeadLetter

TAGS = ["operating"]
LETTER = object_of(
    {
        "task_id": string(),
        "kind": string("why it is here", enum=DeadLetter.Kind.values),
        "meaning": string("the kind in words"),
        "at": TIME,
        "agent": nullable(string("who had it last")),
        "job_space_id": string(),
        "status": nullable(string()),
        "reason": string(),
        "goal": string(),
        "priority": nullable(INTEGER),
        "attempt": nullable(INTEGER),
        "submitter_subject_id": string(),
        "retry_of": nullable(string()),
        "state": string(enum=DeadLetter.State.values),
        "retried_as": nullable(string("the task that does it again")),
        "settled_at": nullable(TIME),
        "settled_by": nullable(string()),
        "because": nullable(string()),
    }
)
ACTION = object_of(
    {
        "id": string(),
        "source": string(enum=["tasks", "dead_letters"]),
        "action": string(),
        "filter": object_of(),
        "arguments": object_of(),
        "status": string(enum=BulkAction.Status.values),
        "total": {**INTEGER, "description": "found when it was asked for"},
        "done": {**INTEGER, "description": "looked at so far"},
        "changed": INTEGER,
        "skipped": {**INTEGER, "description": "nothing to do: ended or changed in the meantime"},
        "failed": INTEGER,
        "problems": {"type": "array", "items": object_of()},
        "actor": string(),
        "created_at": TIME,
        "finished_at": nullable(TIME),
    }
)
RETRY = {
    "patch": object_of(description="a JSON merge patch (RFC 7396) on the entry; the whole is checked like any entry"),
    "exclude": {"type": "array", "items": string(), "description": "agents that should not get it"},
    "keep_excluded": {"type": "boolean", "description": "nor those that failed at the old one"},
    "reason": string("for the history"),
}
FILTERS = "the filters of the list, as members; also `task_ids` (at most 1,000). {} is everything the verb is for"
MORE = {"dry_run": {"type": "boolean", "description": "count only, and give a token"}, "token": string("of a preview: carry it out")}


def _letters_parameters() -> list[OpenApiParameter]:
    return [
        OpenApiParameter("kind", OpenApiTypes.STR, many=True, enum=DeadLetter.Kind.values),
        OpenApiParameter("state", OpenApiTypes.STR, enum=DeadLetter.State.values, description="default: waiting"),
        OpenApiParameter("agent", OpenApiTypes.STR, description="who had it last"),
        OpenApiParameter("job_space", OpenApiTypes.STR),
        OpenApiParameter("from", OpenApiTypes.DATETIME),
        OpenApiParameter("to", OpenApiTypes.DATETIME),
        OpenApiParameter("q", OpenApiTypes.STR, description="how the task id begins"),
        *PAGE,
    ]


PAGE = [
    OpenApiParameter("limit", OpenApiTypes.INT, description="1…200, default 50"),
    OpenApiParameter("cursor", OpenApiTypes.STR, description="`next_cursor` of the page before"),
]


def _page(items: Any) -> Any:
    return answered(object_of({"items": {"type": "array", "items": items}, "next_cursor": nullable(string())}), "a page")


def _operation(operation_id: str, summary: str, *, ok: dict[Any, Any], errors: tuple[int, ...], **more: Any) -> dict[str, Any]:
    return {"tags": TAGS, "operation_id": operation_id, "summary": summary, "responses": {**ok, **refused(*errors)}, **more}


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": schema}


DEAD_LETTERS = _operation(
    "list_dead_letters",
    "Tasks that failed or expired and wait for somebody to look",
    ok={(200, "application/json"): _page(LETTER)},
    errors=(400,),
    parameters=_letters_parameters(),
)
REQUEUE_DEAD_LETTER = _operation(
    "requeue_dead_letter",
    "Do it again, as a new task with fresh attempts (operators)",
    description="The new task's id is derived: `t` becomes `t~2`, then `t~3`. The old one stays as it ended; `retry_of` links them.",
    request=_json(object_of(RETRY, additionalProperties=False)),
    ok={(201, "application/json"): answered(TASK, "the new task")},
    errors=(400, 404, 409, 422, 429, 503),
)
DISCARD_DEAD_LETTER = _operation(
    "discard_dead_letter",
    "Take it off the list (operators)",
    request=_json(object_of({"reason": string("why nobody needs to do it")}, required=["reason"], additionalProperties=False)),
    ok={(200, "application/json"): answered(LETTER, "as it is now")},
    errors=(400, 404, 409, 422),
)


def _many(operation_id: str, summary: str, verbs: tuple[str, ...], sample: Any, more: dict[str, Any]) -> dict[str, Any]:
    return _operation(
        operation_id,
        summary,
        description="First with `dry_run`: a count, some of them, and a token. Then `{token}` carries out exactly that, in the "
        "background; or `expected_count` instead, for those who know. Never more are touched than were counted.",
        request=_json(
            object_of(
                {
                    "action": string(enum=list(verbs)), "filter": object_of(description=FILTERS), "reason": string(),
                    "expected_count": {**INTEGER, "minimum": 0}, **MORE, **more,
                },
                additionalProperties=False,
            )
        ),
        ok={
            (200, "application/json"): answered(
                object_of({"count": INTEGER, "sample": {"type": "array", "items": sample}, "token": string(), "valid_seconds": INTEGER}),
                "the preview",
            ),
            (202, "application/json"): answered(ACTION, "under way"),
        },
        errors=(400, 409, 422),
    )  # fmt: skip


PRIORITY = {"priority": {**INTEGER, "minimum": PRIORITY_MIN, "maximum": PRIORITY_MAX, "description": "for reprioritize"}}
TASK_ACTIONS = _many(
    "act_on_tasks",
    "Cancel, requeue or reprioritize by filter (operators)",
    ("cancel", "requeue", "reprioritize"),
    object_of(BRIEF),
    PRIORITY,
)
DEAD_LETTER_ACTIONS = _many(
    "act_on_dead_letters", "Requeue or discard by filter (operators)", ("requeue", "discard"), LETTER,
    {name: schema for name, schema in RETRY.items() if name != "reason"},
)  # fmt: skip
BULK_ACTIONS = _operation(
    "list_bulk_actions", "Bulk actions, the latest first (operators)",
    ok={(200, "application/json"): _page(ACTION)}, errors=(400,), parameters=PAGE,
)  # fmt: skip
BULK_ACTION = _operation(
    "get_bulk_action", "How far it is (operators)", ok={(200, "application/json"): answered(ACTION, "now")}, errors=(404,)
)
STOP_BULK_ACTION = _operation(
    "stop_bulk_action", "Begin nothing more of it (operators)", request=None,
    ok={(200, "application/json"): answered(ACTION, "stopped")}, errors=(404, 409),
)  # fmt: skip
