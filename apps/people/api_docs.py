"""What /api/docs says of the inbox."""

from __future__ import annotations

from typing import Any

from apps.core.openapi import answered, object_of, string
from apps.tasks.api.docs import BRIEF, TASK, refused

TAGS = ["inbox"]
_LIST = {"type": "array", "items": object_of(BRIEF)}

INBOX: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "inbox",
    "summary": "What the subject of the key has to do and to decide, oldest first",
    "responses": {
        (200, "application/json"): answered(
            object_of(
                {
                    "subject_id": string(),
                    **dict.fromkeys(("to_do", "in_progress", "approvals", "assignments", "verifications"), _LIST),
                    "more": {"type": "boolean", "description": "at most 100 of each kind are listed; there are more"},
                    "roles_unknown": {
                        "type": "string",
                        "nullable": True,
                        "description": "why questions put to a role may be missing: the role service does not say who holds it",
                    },
                }
            ),
            "the inbox",
        )
    },
}


ONE: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "get_inbox_task",
    "summary": "A task of the inbox, with all that came with it",
    "responses": {(200, "application/json"): answered(TASK, "the task"), **refused(404)},
}


def _saying(operation_id: str, summary: str, properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    body = object_of(properties, additionalProperties=False, **({"required": required} if required else {}))
    return {
        "tags": TAGS,
        "operation_id": operation_id,
        "summary": summary,
        "request": {"application/json": body},
        "responses": {(200, "application/json"): answered(TASK, "the task"), **refused(404, 409, 422)},
    }


START = _saying("start_inbox_task", "Begin to work on a task in the inbox", {})
PROGRESS = _saying(
    "tell_inbox_progress",
    "Say how far it is",
    {"percent": {"type": "number", "minimum": 0, "maximum": 100}, "message": string()},
    ["percent"],
)
COMPLETE = _saying("complete_inbox_task", "Hand in the result", {"result": {"description": "any JSON"}})
DECLINE = _saying("decline_inbox_task", "Give it back: somebody else shall do it", {"reason": string()})
FAIL = _saying("fail_inbox_task", "End it as failed", {"reason": string()}, ["reason"])
