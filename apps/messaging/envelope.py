"""Bytes on the wire and the values behind them: deliveries out, reports in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson

from apps.core import tracing
from apps.core.clock import from_ms, iso, to_ms
from apps.core.errors import Malformed
from apps.messaging import subjects
from jobplatform_sdk.limits import MAX_LEVEL, clip, json_problem

HEARTBEAT_SECONDS = 5
MAX_ATTEMPT = 1_000_000
MAX_SEQ = 2**53
MAX_PRICE = 1e12


class ReportKind(StrEnum):
    ACCEPTED = "accepted"
    DECLINED = "declined"
    PROGRESS = "progress"
    LOG = "log"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentReport:
    """One thing an agent said about one attempt. `agent` is the subject id NATS authenticated.

    Present by kind: `result` and `price` (what the agent charges; None: it does not say) completed; `error`, `retryable` failed;
    `reason` declined; `percent` (0…100), `message` progress; `level`, `message` log. Times are the agent's own clock.
    """

    org_id: str
    task_id: str
    agent: str
    kind: ReportKind
    attempt: int
    seq: int
    at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    result: Any = None
    price: float | None = None
    error: str = ""
    retryable: bool = False
    reason: str = ""
    percent: float | None = None
    message: str = ""
    level: str = ""
    trace: str = ""
    """W3C traceparent of the agent's own span."""


class BadReport(Malformed):
    """A report that says nothing usable. Facts: `problem`, and `subject` when it came from NATS."""

    code, sentence = "bad_report", "The report is not valid."


def delivery(
    *,
    org_id: str,
    entry: dict[str, Any],
    attempt: int,
    lease_expires_at: datetime,
    reply_subject: str,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    reviews: Sequence[dict[str, Any]] = (),
    trace: str = "",
) -> bytes:
    """What an agent receives. `entry` has the wire names of a TaskEntry or SubTaskEntry; `reviews` are the verifier's notes on
    earlier attempts, oldest first (TaskReviewData)."""
    return orjson.dumps(
        {
            "event_type": "sub_task" if "sub_task_id" in entry else "task",
            "sender_subject_id": org_id,
            "event_data": entry,
            "attempt": attempt,
            "lease_expires_at": iso(lease_expires_at),
            "reply_subject": reply_subject,
            "heartbeat_seconds": heartbeat_seconds,
            **({"task_reviews": list(reviews)} if reviews else {}),
            **({"traceparent": trace} if trace else {}),
        }
    )


def stop(*, task_id: str, attempt: int, reason: str) -> bytes:
    """Tells an agent, on its control subject, to stop working on one attempt."""
    return orjson.dumps({"type": "cancel", "task_id": task_id, "attempt": attempt, "reason": clip(reason)})


def parse_report(subject: str, data: bytes, *, now: datetime) -> AgentReport:
    """A report as it came from NATS. BadReport when the subject, the sender or the body is not right."""
    try:
        named = subjects.parse_report(subject)
    except ValueError as error:
        raise BadReport(problem=str(error), subject=clip(subject, 500)) from None
    if named.sender_org_id != named.org_id:
        raise BadReport(problem="the sender belongs to another org", subject=clip(subject, 500))
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadReport(problem="the body is not JSON", subject=clip(subject, 500)) from None
    try:
        return read_report(body, org_id=named.org_id, task_id=named.task_id, agent=named.sender_subject_id, now=now)
    except BadReport as error:
        raise BadReport(**error.facts, subject=clip(subject, 500)) from None


def read_report(body: Any, *, org_id: str, task_id: str, agent: str, now: datetime) -> AgentReport:
    """A report from decoded JSON (NATS or REST); who sent it and for which task is already known.

    Unknown fields are ignored (newer agents). Long texts are cut. A clock more than a day off reads as `now`.
    """
    if not isinstance(body, dict):
        raise BadReport(problem="the body is not an object")
    if body.get("task_id", task_id) != task_id:
        raise BadReport(problem="task_id differs from the subject's")
    try:
        kind = ReportKind(body.get("type"))
    except ValueError:
        raise BadReport(problem=f"type must be one of {', '.join(ReportKind)}") from None
    fields: dict[str, Any] = {
        "attempt": _whole(body, "attempt", 1, MAX_ATTEMPT),
        "seq": _whole(body, "seq", 0, MAX_SEQ),
        "at": _instant(body, "at", now) or now,
        "started_at": _instant(body, "started_at", now),
        "ended_at": _instant(body, "ended_at", now),
        "trace": tracing.read(body.get("traceparent")),
    }
    match kind:
        case ReportKind.COMPLETED:
            fields["result"] = body.get("result")
            if problem := json_problem(fields["result"]):
                raise BadReport(problem=f"result: {problem}")
            fields["price"] = _price(body)
        case ReportKind.FAILED:
            fields["error"] = _text(body, "error")
            fields["retryable"] = _flag(body, "retryable")
        case ReportKind.DECLINED:
            fields["reason"] = _text(body, "reason")
        case ReportKind.PROGRESS:
            fields["percent"] = _percent(body)
            fields["message"] = _text(body, "message")
        case ReportKind.LOG:
            fields["level"] = clip(_text(body, "level") or "info", MAX_LEVEL)
            fields["message"] = _text(body, "message")
    return AgentReport(org_id=org_id, task_id=task_id, agent=agent, kind=kind, **fields)


def _whole(body: dict[str, Any], name: str, lowest: int, highest: int) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise BadReport(problem=f"{name} must be a whole number from {lowest} to {highest}")
    return value


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise BadReport(problem=f"{name} must be a string")
    return clip(value or "")


def _flag(body: dict[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise BadReport(problem=f"{name} must be true or false")
    return value


def _price(body: dict[str, Any]) -> float | None:
    value = body.get("price")
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_PRICE:  # NaN is not either
        raise BadReport(problem=f"price must be a number from 0 to {MAX_PRICE:.0f}")
    return float(value)


def _percent(body: dict[str, Any]) -> float | None:
    value = body.get("percent")
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise BadReport(problem="percent must be a number")
    return min(100.0, max(0.0, float(value)))


def _instant(body: dict[str, Any], name: str, now: datetime) -> datetime | None:
    value = body.get(name)
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
        at = from_ms(to_ms(at.replace(tzinfo=UTC) if at.tzinfo is None else at))
    except (TypeError, ValueError, OverflowError):
        raise BadReport(problem=f"{name} must be an ISO 8601 time") from None
    return at if abs(at - now) <= timedelta(days=1) else now
