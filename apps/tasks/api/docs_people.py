"""What /api/docs says of the answers that people give."""

from __future__ import annotations

from apps.core.openapi import object_of, string
from apps.tasks.api.docs import steering

APPROVE = steering("approve_task", "Let a task in that waits for a person: one of those it names, else operators", 403, 503)
REJECT = steering("reject_task", "Turn away a task that waits for a person: one of those it names, else operators", 403, 503)
ASSIGN = {
    **steering("assign_task", "Choose the head agent of a task that waits for that, or is queued", 403, 503),
    "description": "Without `subject_id`: the one the platform proposes (mode hybrid). The subject must be in the candidate pool.",
    "request": {"application/json": object_of({"subject_id": string(), "reason": string()}, additionalProperties=False)},
}
VERIFY = {
    **steering("verify_task", "Decide about a result that waits for its verifier", 403, 503),
    "description": "accept: completed. reject: failed. send_back: another attempt; its agent gets the reason as a note.",
    "request": {
        "application/json": object_of(
            {"verdict": string(enum=["accept", "reject", "send_back"]), "reason": string()}, required=["verdict"],
            additionalProperties=False,
        )
    },
}  # fmt: skip
