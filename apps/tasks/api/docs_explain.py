"""What /api/docs says of explain and simulate: arguments of `extend_schema`."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample

from apps.core.openapi import ANY, INTEGER, TIME, Schema, answered, nullable, object_of, string
from apps.dsl.policies import Hook
from apps.tasks.api.docs import ENTRY, SAMPLE_ENTRY, TAGS, refused

STEP = object_of(
    {
        "step": INTEGER,
        "kind": string(enum=["policy", "auction", "decision", "assignment", "transition"]),
        "at": TIME,
        "id": string(),
        "summary": string("one sentence"),
        "config_version": nullable(INTEGER),
    },
    "the whole record beside it: a policy's script, version, sha256, input, output and error; an auction's terms and every bid with the "
    "parts of its score; an assignment's pool, who was barred and why, tie-break and winner",
)
WAITING = object_of(
    {
        "for": string("an agent, a person, or the agent that has it"),
        "since": TIME,
        "held_by": {"type": "array", "items": string(), "description": "what keeps it where it is; empty: it is next in line"},
        "position": nullable({**INTEGER, "description": "how many of its job space are before it"}),
        "estimate_s": nullable({"type": "number", "description": "seconds; null: nobody can say, and estimate_why says why"}),
        "estimate_why": string(),
        "candidates": nullable(object_of(description="the pool as it is now")),
    }
)
EXPLANATION = object_of(
    {
        "task_id": string(),
        "status": string(),
        "summary": string("one sentence: where it is and why"),
        "config_version": object_of({"now": INTEGER, "decided_with": {"type": "array", "items": INTEGER}}),
        "steps": {"type": "array", "items": STEP},
        "cut": {"type": "array", "items": string(), "description": "what there is more of than is shown"},
        "waiting": nullable(WAITING),
    }
)
EXPLAIN: dict[str, Any] = {
    "tags": TAGS,
    "operation_id": "explain_task",
    "summary": "Why the task is where it is: every decision in order, and what it waits for",
    "responses": {(200, "application/json"): answered(EXPLANATION, "the explanation"), **refused(404)},
}

SCRIPT: Schema = {
    "oneOf": [string("a script id"), object_of({"script_id": string(), "version": {**INTEGER, "description": "drafts too"}})],
}
OPTIONS = object_of(
    {
        "scripts": object_of({hook.value: SCRIPT for hook in Hook}, "asked instead of what the entry or the org names"),
        "config": object_of(description="configuration values instead of the org's"),
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
    "request": {"application/json": {"oneOf": [ENTRY, object_of({"type": string(), "data": ENTRY, "options": OPTIONS})]}},
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
        (200, "application/json"): answered(
            object_of(
                {
                    "task_id": string(),
                    "outcome": string(
                        enum=["assigned", "auction", "waiting", "no_head_agent", "rejected", "awaiting_approval", "repeated"]
                    ),
                    "summary": string("one sentence"),
                    "status": string("as it would be born"),
                    "policies": {"type": "array", "items": ANY},
                    "priority": object_of({"submitted": INTEGER, "effective": INTEGER}),
                    "queue": nullable(object_of({"position": INTEGER, "ahead_in_org": INTEGER, "lane_size": INTEGER})),
                    "candidates": nullable(object_of()),
                    "choice": nullable(object_of()),
                    "auction": nullable(object_of()),
                    "config_version": INTEGER,
                }
            ),
            "what would become of it",
        ),
        **refused(400, 403, 404, 409, 422, 503),
    },
}  # fmt: skip
