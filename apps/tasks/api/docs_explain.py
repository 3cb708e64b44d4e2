"""What /api/docs says of explain and simulate: arguments of `extend_schema`."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample

from apps.dsl.policies import Hook
from apps.tasks.api.docs import ANY, ENTRY, INTEGER, SAMPLE_ENTRY, TAGS, TIME, Schema, _errors, _nullable, _object, _ok, _string

STEP = _object(
    {
        "step": INTEGER,
        "kind": _string(enum=["policy", "auction", "decision", "assignment", "transition"]),
        "at": TIME,
        "id": _string(),
        "summary": _string("one sentence"),
        "config_version": _nullable(INTEGER),
    },
    "the whole record beside it: a policy's script, version, sha256, input, output and error; an auction's terms and every bid with the "
    "parts of its score; an assignment's pool, who was barred and why, tie-break and winner",
)
WAITING = _object(
    {
        "for": _string("an agent, a person, or the agent that has it"),
        "since": TIME,
        "held_by": {"type": "array", "items": _string(), "description": "what keeps it where it is; empty: it is next in line"},
        "position": _nullable({**INTEGER, "description": "how many of its job space are before it"}),
        "estimate_s": _nullable({"type": "number", "description": "seconds; null: nobody can say, and estimate_why says why"}),
        "estimate_why": _string(),
        "candidates": _nullable(_object(description="the pool as it is now")),
    }
)
EXPLANATION = _object(
    {
        "task_id": _string(),
        "status": _string(),
        "summary": _string("one sentence: where it is and why"),
        "config_version": _object({"now": INTEGER, "decided_with": {"type": "array", "items": INTEGER}}),
        "steps": {"type": "array", "items": STEP},
        "cut": {"type": "array", "items": _string(), "description": "what there is more of than is shown"},
        "waiting": _nullable(WAITING),
    }
)
EXPLAIN: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "explain_task",
    "summary": "Why the task is where it is: every decision in order, and what it waits for",
    "responses": {(200, "application/json"): _ok(EXPLANATION, "the explanation"), **_errors(404)},
}

SCRIPT: Schema = {
    "oneOf": [_string("a script id"), _object({"script_id": _string(), "version": {**INTEGER, "description": "drafts too"}})],
}
OPTIONS = _object(
    {
        "scripts": _object({hook.value: SCRIPT for hook in Hook}, "asked instead of what the entry or the org names"),
        "config": _object(description="configuration values instead of the org's"),
        "ask_bids": {"type": "boolean", "description": "really call for bids; nothing is awarded"},
    },
    "for operators",
)
SIMULATE: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "simulate_task",
    "summary": "What would become of this entry, without effect",
    "description": "Takes a task entry, or `{type, data, options}`. The same code decides as for a real task; nothing is stored, queued, "
    "counted or sent. A remote policy, a role service and (with `ask_bids`) agents are really asked.",
    "request": {"application/json": {"oneOf": [ENTRY, _object({"type": _string(), "data": ENTRY, "options": OPTIONS})]}},
    "examples": [
        OpenApiExample("an entry", value=SAMPLE_ENTRY, request_only=True),
        OpenApiExample(
            "with a draft",
            value={"type": "task", "data": SAMPLE_ENTRY,
                   "options": {"scripts": {"approval": {"script_id": "approval/mine", "version": 3}}, "config": {"max_attempts": 1}}},
            request_only=True,
        ),
    ],
    "responses": {
        (200, "application/json"): _ok(
            _object(
                {
                    "task_id": _string(),
                    "outcome": _string(
                        enum=["assigned", "auction", "waiting", "no_head_agent", "rejected", "awaiting_approval", "repeated"]
                    ),
                    "summary": _string("one sentence"),
                    "status": _string("as it would be born"),
                    "policies": {"type": "array", "items": ANY},
                    "priority": _object({"submitted": INTEGER, "effective": INTEGER}),
                    "queue": _nullable(_object({"position": INTEGER, "ahead_in_org": INTEGER, "lane_size": INTEGER})),
                    "candidates": _nullable(_object()),
                    "choice": _nullable(_object()),
                    "auction": _nullable(_object()),
                    "config_version": INTEGER,
                }
            ),
            "what would become of it",
        ),
        **_errors(400, 403, 404, 409, 422, 503),
    },
}  # fmt: skip
