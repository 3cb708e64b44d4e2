"""What an agent is given to do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class BadDelivery(ValueError):
    """The message is not a task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task or sub-task, with short names. `payload` is `task_job_submission_data`; `raw` is everything that came,
    wire names. `attempt` is the fencing token: what is reported on an older attempt changes nothing."""

    org_id: str
    task_id: str
    attempt: int
    kind: str = "task"
    """`task` or `sub_task`."""
    parent_id: str = ""
    """Of a sub-task: the task it is a part of."""
    goal: str = ""
    intent: str = ""
    priority: int = 0
    submitter_subject_id: str = ""
    job_space_id: str = ""
    execution_dsl: str = ""
    payload: dict[str, Any] = field(default_factory=dict)
    lease_expires_at: str = ""
    reviews: tuple[dict[str, Any], ...] = ()
    """Sent back by the verifier: what he wrote on earlier attempts, oldest first (`review_subject_ids`, `review_data`, `ts`)."""
    trace: str = ""
    """W3C traceparent of the delivery; empty when the platform does not trace."""
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


def read_task(envelope: Any, *, org_id: str, task_id: str) -> Task:
    """The task in a decoded envelope. `org_id` and `task_id` are those of its report subject. BadDelivery."""
    if not isinstance(envelope, dict) or not isinstance(entry := envelope.get("event_data"), dict):
        raise BadDelivery("event_data is missing")
    attempt = envelope.get("attempt")
    if not isinstance(attempt, int) or isinstance(attempt, bool) or attempt < 1:
        raise BadDelivery("attempt is missing")
    kind = str(envelope.get("event_type", "task"))
    prefix = "sub_task" if kind == "sub_task" else "task"
    payload = entry.get(f"{prefix}_job_submission_data")
    payload = payload if isinstance(payload, dict) else {}
    return Task(
        org_id=org_id,
        task_id=task_id,
        attempt=attempt,
        kind=kind,
        parent_id=_text(entry, "task_id") if kind == "sub_task" else "",
        goal=_text(entry, f"{prefix}_goal"),
        intent=_text(entry, f"{prefix}_intent"),
        priority=entry.get(f"{prefix}_priority_value") or 0,
        submitter_subject_id=_text(entry, "submitter_subject_id"),
        job_space_id=_text(entry, "job_space_id") or _text(payload, "job_space_id"),
        execution_dsl=_text(entry, f"{prefix}_execution_dsl"),
        payload=payload,
        lease_expires_at=_text(envelope, "lease_expires_at"),
        reviews=tuple(note for note in _list(envelope, "task_reviews") if isinstance(note, dict)),
        trace=_traceparent(envelope),
        raw=entry,
    )


def _traceparent(envelope: dict[str, Any]) -> str:
    text = _text(envelope, "traceparent")
    return text if TRACEPARENT.fullmatch(text) else ""


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    return value if isinstance(value, str) else ""


def _list(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else []
