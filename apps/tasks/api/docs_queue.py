"""What /api/docs says of the queue."""

from __future__ import annotations

from typing import Any

from apps.core.openapi import INTEGER, TIME, answered, nullable, object_of, string
from apps.tasks.api.docs import TASK, refused
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN

NUMBER = {"type": "number"}
TAGS = ["queue"]


def _list(items: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": description}


BOARD = object_of(
    {
        "org_id": string(),
        "paused": nullable(object_of({"reason": string(), "since": nullable(TIME), "by": nullable(string())})),
        "waiting": {**INTEGER, "description": "in the lanes: their turn comes"},
        "delayed": {**INTEGER, "description": "until their not_before, or the next attempt"},
        "parked": {**INTEGER, "description": "until a place of their concurrency key is free"},
        "contested": {**INTEGER, "description": "their key is full and somebody is about to be cancelled"},
        "in_flight": {**INTEGER, "description": "claimed or with agents; counts against max_inflight"},
        "max_inflight": nullable(INTEGER),
        "fair_share_weight": NUMBER,
        "aging_points_per_minute": NUMBER,
        "oldest_queued_at": nullable(TIME),
        "oldest_wait_s": nullable(NUMBER),
        "per_minute": {**NUMBER, "description": "given to agents in the last minute"},
        "lanes": _list(
            object_of(
                {
                    "job_space_id": string(),
                    "waiting": INTEGER,
                    "next_task_id": nullable(string()),
                    "next_arrived_at": nullable(TIME),
                    "next_wait_s": nullable(NUMBER),
                    "per_minute": NUMBER,
                    "paused": {"type": "boolean"},
                }
            ),
            "by job space",
        ),
        "keys": _list(object_of({"key": string(), "parked": INTEGER}), "concurrency keys with most tasks parked, at most 100"),
        "keys_with_parked": INTEGER,
        "reordering": nullable(
            object_of(
                {
                    "script": nullable(string("script, version and hash")),
                    "running": {"type": "boolean"},
                    "looked_at": INTEGER,
                    "of_about": INTEGER,
                    "changed": INTEGER,
                    "started_at": nullable(TIME),
                    "finished_at": nullable(TIME),
                },
                "the last change of the priority script, and how far the waiting tasks follow it",
            )
        ),
    }
)
PAUSING = {
    "application/json": object_of(
        {"reason": string("shown to whoever asks why", maxLength=500), "job_space_id": string("only this one", maxLength=180)},
        additionalProperties=False,
    )
}
QUEUE: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "show_queue",
    "summary": "How the queue stands (operators)",
    "responses": {(200, "application/json"): answered(BOARD, "the queue"), **refused(503)},
}


def _pausing(operation_id: str, summary: str) -> dict[str, Any]:
    return {
        "tags": TAGS,
        "operation_id": operation_id,
        "summary": summary,
        "request": PAUSING,
        "responses": {(200, "application/json"): answered(BOARD, "the queue"), **refused(409, 422, 503)},
    }


PAUSE = _pausing("pause_queue", "Give nothing to agents for now; tasks still come in (operators)")
RESUME = _pausing("resume_queue", "Go on giving tasks to agents (operators)")
PRIORITY: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "set_task_priority",
    "summary": "Another priority for one task (operators)",
    "description": "It takes effect where the task waits, at once; a later change of the priority script leaves it alone.",
    "request": {
        "application/json": object_of(
            {
                "priority": {"type": "integer", "minimum": PRIORITY_MIN, "maximum": PRIORITY_MAX},
                "reason": string("for the history", maxLength=500),
            },
            required=["priority"],
            additionalProperties=False,
        )
    },
    "responses": {(200, "application/json"): answered(TASK, "the task"), **refused(404, 409, 422)},
}
