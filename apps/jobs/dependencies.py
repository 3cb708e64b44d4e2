"""Jobs that wait for others. Each pair is a row that is closed once, by whoever first sees the other job ended; the count of open
ones decides when a job is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import router, transaction
from django.db.models import F

from apps.core import bulk, clock
from apps.core.errors import Invalid, Problem
from apps.jobs import moves, sending
from apps.jobs.calls import Owner
from apps.jobs.events import JobsMoved
from apps.jobs.models import Job, JobDependency
from apps.jobs.moves import Step
from apps.jobs.states import ENDED, WAITING, JobStatus, Reason


class _Pair(NamedTuple):
    id: int
    job_id: str
    on_id: str
    when: str


def load(job_ids: Collection[str], owner: Owner) -> dict[str, Job]:
    """The jobs that a new one is to wait for. Invalid, naming each that is not there or not the owner's."""
    if not job_ids:
        return {}
    found = {row.id: row for row in Job.objects.filter(pk__in=job_ids) if owner.may_see(row)}
    unknown = sorted(set(job_ids) - found.keys())
    if unknown:
        raise Invalid([Problem(field="depends_on", code="unknown_job", message=f"job {each[:80]} is not known") for each in unknown])
    return found


def insert(pairs: Sequence[tuple[Job, str, str]]) -> None:
    """(job, the id it waits for, success or always); in the transaction that inserts the job."""
    JobDependency.objects.bulk_create([JobDependency(job_id=job.id, on_id=on, when=when) for job, on, when in pairs])


def settle(ended_ids: Iterable[str], *, now: datetime) -> None:
    """What waits for these jobs, which have ended. May be called again and again."""
    ended = list(ended_ids)
    if not ended:
        return
    # Nearly nothing has dependents, and this is asked at the end of every job: the short way to the rows.
    fields = ("id", "job_id", "on_id", "when")
    pairs = [_Pair(*row) for each in ended for row in bulk.scan(JobDependency, fields, order="id", on_id=each, is_open=True)]
    if not pairs:
        return
    ends = dict(Job.objects.filter(pk__in={pair.on_id for pair in pairs}, status__in=ENDED).values_list("id", "ended_as"))
    for pair in pairs:
        if pair.on_id in ends:
            _close(pair, ends[pair.on_id], now=now)


def _close(pair: _Pair, ended_as: str, *, now: datetime) -> None:
    with bulk.atomic(Job):
        if not JobDependency.objects.filter(pk=pair.id, is_open=True).update(is_open=False):
            return  # another copy was first
        waiting = Job.objects.filter(pk=pair.job_id, status__in=WAITING)
        waiting.update(waits_for=F("waits_for") - 1)
        job = waiting.first()
        if job is None:
            return
        if pair.when == "success" and ended_as != JobStatus.FINISHED:
            _fail(job, pair.on_id, ended_as, now=now)
        elif job.waits_for == 0:
            release(job, now=now)


def release(job: Job, *, now: datetime) -> None:
    """Nothing more to wait for: it is sent now, or left to upkeep until its time."""
    from apps.jobs.backends import of

    is_sent = job.not_before is None or job.not_before <= now
    job.sent_at = now if is_sent else None
    job.tend_at = sending.look_at(now=now, due=job.not_before, start_before=job.start_before, is_sent=is_sent)
    Job.objects.filter(pk=job.pk, attempt=job.attempt, status__in=WAITING).update(sent_at=job.sent_at, tend_at=job.tend_at)
    if is_sent:
        transaction.on_commit(lambda: sending.send(of(job.backend), [job]), using=router.db_for_write(Job))


def _fail(job: Job, on_id: str, ended_as: str, *, now: datetime) -> None:
    sentence = f"Job {on_id}, which this one waits for, ended as {ended_as or 'unknown'}."
    fields = {"error_code": Reason.DEPENDENCY_FAILED.value, "error": sentence, "ended_at": now, **moves.kept_until(job, now=now)}
    moves.move(Step(job=job, end=JobStatus.FAILED, fields=fields, reason=sentence), now=now)


def heard(event: JobsMoved) -> None:
    """Handler of news: whoever waits for a job that has ended goes on."""
    settle([move.job_id for move in event.moves if move.new in ENDED], now=clock.now())
