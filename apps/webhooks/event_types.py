"""What is told: event types, and the body of a webhook.

    {"type": "task.completed", "timestamp": "2026-11-22T12:00:00.000Z",
     "data": {"org_id", "task_id", "status", "previous_status", "reason", "attempt", "agent", "transition_id"}}
    {"type": "job.finished", "timestamp": "2026-11-22T12:00:00.000Z",
     "data": {"org_id", "job_id", "name", "status", "previous_status", "reason", "error_code", "attempt", "event_id", …}}

Ids and states only: whoever wants the result asks for it, with a key.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from apps.core import clock, ids
from apps.tasks.states import IN_FLIGHT, TaskStatus

PING, DISABLED = "webhook.ping", "webhook.disabled"
TASK_EVENTS = {f"task.{status.value}": f"a task became {status.value.replace('_', ' ')}" for status in TaskStatus}
JOB_EVENTS = {
    "job.started": "a worker began a job",
    "job.retrying": "a job failed and will be tried again",
    "job.finished": "a job finished; its result is there",
    "job.failed": "a job failed for good",
    "job.cancelled": "a job was cancelled",
    "job.expired": "a job was not begun in its time",
}
JOB_ENDS = frozenset({"job.finished", "job.failed", "job.cancelled", "job.expired"})
"""What a job's own `webhook_url` is told."""
EVENTS = {**TASK_EVENTS, **JOB_EVENTS, DISABLED: "another endpoint of yours was disabled, because it failed for days or answered 410"}
"""What an endpoint may ask for, with what it means. `webhook.ping` is sent when asked for."""
ALL = "*"
HELD = frozenset({*IN_FLIGHT, TaskStatus.AWAITING_VERIFICATION})


def wants(events: list[str], event: str) -> bool:
    return ALL in events or event in events


def has_agent(old: str, new: str) -> bool:
    """Whether an agent had the task at that moment."""
    return new in HELD or (old in HELD and new != TaskStatus.QUEUED)


def task_body(
    *, transition_id: str, task_key: str, old: str, new: str, reason: str, attempt: int, agent: str, at: datetime
) -> str:  # fmt: skip
    org_id, task_id = ids.split_task_key(task_key)
    data = {
        "org_id": org_id,
        "task_id": task_id,
        "status": new,
        "previous_status": old or None,
        "reason": reason,
        "attempt": attempt,
        "agent": agent or None,
        "transition_id": transition_id,
    }
    return body(f"task.{new}", at, data)


def body(event: str, at: datetime, data: dict[str, Any]) -> str:
    return orjson.dumps({"type": event, "timestamp": clock.iso(at), "data": data}).decode()


def floor(at: datetime) -> str:
    """The lowest id that `ids.time_ordered` can have made at that moment."""
    return f"{clock.to_ms(at) << 16:016x}{'0' * 16}"
