"""Steps of jobs: the one place that changes a status. A step is one conditional update with its event, in one transaction; whoever
comes second changes nothing. What follows (news, dependents) is told after the commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import router, transaction

from apps.core import bulk, events, ids
from apps.jobs import news
from apps.jobs.events import JobMoved, JobsMoved
from apps.jobs.models import Job, JobEvent
from apps.jobs.states import ENDED, JOB_STATES, WAITING, JobStatus, Reason

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A row as it was read, and what it is to become."""

    job: Job
    end: JobStatus
    fields: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    actor: str = ""
    guards: dict[str, Any] = field(default_factory=dict)
    """What must still be true, beside the status and the attempt."""


def move(step: Step, *, now: datetime, also: Callable[[], None] | None = None) -> bool:
    """Whether it won. `also` writes what belongs to it in the same transaction. The row is brought up to date."""
    return bool(move_many([step], now=now, also=also))


def move_many(steps: Sequence[Step], *, now: datetime, also: Callable[[], None] | None = None) -> list[Job]:
    """The rows of the steps that won."""
    changes = [_change(step) for step in steps]
    with bulk.atomic(Job, savepoint=False):
        pks = bulk.compare_and_set(Job, changes)
        won = [(step, change) for step, change in zip(steps, changes, strict=True) if change.pk in pks]
        if not won:
            return []
        rows = [_event(step, change.fields, now=now) for step, change in won]
        bulk.insert(rows)
        if also is not None:
            also()
        transaction.on_commit(lambda: _after([(row, *each) for row, each in zip(rows, won, strict=True)]), using=router.db_for_write(Job))
    for step, change in won:
        for name, value in change.fields.items():
            setattr(step.job, name, value)
    return [step.job for step, _ in won]


def _after(won: Sequence[tuple[JobEvent, Step, bulk.Change]]) -> None:
    for row, step, change in won:
        _log(row, step.job, change.fields.get("error_code", ""))
    tell([row for row, _, _ in won], [step.job for _, step, _ in won])


def _log(row: JobEvent, job: Job, code: str) -> None:
    """Whatever did not go well, with all that somebody needs who looks for it at night."""
    late = row.new == JobStatus.EXPIRED and row.old in WAITING
    if row.new not in (JobStatus.FAILED, JobStatus.RETRYING) and not late:
        return
    # What follows from something that was said already, or was meant, is none to wake up for.
    expected = code == Reason.DEPENDENCY_FAILED or (code == Reason.WORKER_STOPPED and row.new == JobStatus.RETRYING)
    ids = {"job": row.job_id, "org": row.org_id, "queue": job.queue, "method": job.name, "attempt": row.attempt}
    log.log(logging.INFO if expected else logging.WARNING, f"job.{row.new}", extra={**ids, "code": code, "reason": row.reason})


def tell(rows: Sequence[JobEvent], jobs: Sequence[Job]) -> None:
    """Whoever waits for a job, and those that depend on it."""
    news.tell([row.job_id for row in rows])
    moves = (
        JobMoved(job_id=row.job_id, org_id=row.org_id, queue=job.queue, old=row.old, new=row.new, reason=row.reason, actor=row.actor,
                 attempt=row.attempt, at=row.at, seconds=_seconds(row, job))
        for row, job in zip(rows, jobs, strict=True)
    )  # fmt: skip
    events.publish(JobsMoved(moves=tuple(moves)))


def _seconds(move: JobEvent, job: Job) -> float | None:
    """In the status before: since it was due, or since the attempt began."""
    known = job.__dict__  # what was not read is not asked for now
    since = known.get("started_at") if move.old == JobStatus.STARTED else known.get("not_before") or known.get("created_at")
    return max(0.0, (move.at - since).total_seconds()) if since is not None else None


def kept_until(job: Job, *, now: datetime) -> dict[str, datetime | None]:
    """The columns that say how long what an ended job gave is kept."""
    ttl = job.options.get("result_ttl_s")
    until = None if ttl is None else now + timedelta(seconds=ttl)
    return {"result_expires_at": until, "tend_at": until}


def _change(step: Step) -> bulk.Change:
    job = step.job
    if not JOB_STATES.allows(JobStatus(job.status), step.end):
        raise ValueError(f"a job does not move from {job.status} to {step.end}")
    fields = {"status": step.end.value, **step.fields}
    if step.end in ENDED and not job.ended_as:
        fields["ended_as"] = step.end.value
    return bulk.Change(pk=job.id, guards={"status": job.status, "attempt": job.attempt, **step.guards}, fields=fields)


def _event(step: Step, fields: dict[str, Any], *, now: datetime) -> JobEvent:
    job = step.job
    return bulk.new(
        JobEvent, id=ids.time_ordered(), job_id=job.id, org_id=job.org_id, at=now, old=job.status, new=step.end.value,
        attempt=fields.get("attempt", job.attempt), reason=step.reason[:1000], actor=step.actor,
    )  # fmt: skip
