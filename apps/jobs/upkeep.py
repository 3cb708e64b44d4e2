"""What beat rings for: jobs whose time has come, whose message or worker was lost, whose result is over. Each may be done by several
copies at once, and again: every step is a conditional update."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef

from apps.core import clock
from apps.jobs import dependencies, moves, runner, sending
from apps.jobs.backends import celery_results, of
from apps.jobs.models import Job, JobDependency, JobEvent
from apps.jobs.moves import Step
from apps.jobs.states import ENDED, WAITING, JobStatus, Reason

log = logging.getLogger(__name__)

BATCH = 500
MOST = 20_000
"""Rows of one call: the next tick does the rest."""
LATE = "The job was not started in time."


def tend_jobs(*, now: datetime | None = None) -> int:
    """How many rows it looked at."""
    now = now or clock.now()
    seen = 0
    while seen < MOST:
        due = list(Job.objects.filter(tend_at__lte=now).order_by("tend_at").defer("result", "traceback")[:BATCH])
        for row in due:
            _tend(row, now=now)
        _send([row for row in due if row.status in WAITING], now=now)
        seen += len(due)
        if len(due) < BATCH:
            break
    _settle_forgotten(now=now)
    return seen


def _tend(row: Job, *, now: datetime) -> None:
    if row.status in WAITING:
        if row.start_before is not None and row.start_before <= now:
            said = {"error_code": Reason.NOT_STARTED.value, "error": LATE, "ended_at": now, "result_expires_at": now}
            moves.move(Step(job=row, end=JobStatus.EXPIRED, fields={**said, "tend_at": _purge_at(now)}, reason=LATE), now=now)
    elif row.status == JobStatus.STARTED:
        over = row.deadline is not None and row.deadline <= now
        if runner.lost(row.id, row.attempt, code=Reason.TIMEOUT if over else Reason.WORKER_LOST, detail="silent for a lease", now=now):
            # Should it live on in a loop that heeds nothing, its process goes.
            of(row.backend).interrupt(row.id, row.worker)
    elif row.status == JobStatus.EXPIRED:
        purge(row)
    else:
        expire(row, now=now)


def _send(rows: list[Job], *, now: datetime) -> None:
    """Whose time has come, and whose message must be lost: sent, not taken, and no longer on its queue."""
    by_backend: dict[str, list[Job]] = {}
    depths: dict[tuple[str, str], int | None] = {}
    for row in rows:
        if row.waits_for or row.status not in WAITING:
            continue
        where = (row.backend, row.queue)
        if row.sent_at is not None and where not in depths:
            depths[where] = of(row.backend).depth(row.queue)
        first_sent = row.not_before or row.created_at
        is_lost = row.sent_at is None or not depths[where]
        fields = {"tend_at": sending.look_at(now=now, start_before=row.start_before, first_sent=first_sent)}
        if is_lost:
            fields["sent_at"] = now
        # Another copy may have sent it between our read and this update; then it has another time to be looked at.
        mine = Job.objects.filter(pk=row.pk, status=row.status, attempt=row.attempt, tend_at=row.tend_at).update(**fields)
        if mine and is_lost:
            row.sent_at = now
            by_backend.setdefault(row.backend, []).append(row)
    for name, lost in by_backend.items():
        sending.send(of(name), lost)


def expire(row: Job, *, now: datetime) -> bool:
    """What it gave is erased, and so is what it was given; that it was there is known until it is purged."""
    fields = {
        "result": None, "error": "", "errors": None, "traceback": "", "message": "", "request": None, "arguments": {}, "unique_key": None,
        "body_hash": "", "tend_at": _purge_at(now),
    }  # fmt: skip
    request, backend = row.request, row.backend
    if not moves.move(Step(job=row, end=JobStatus.EXPIRED, fields=fields, reason="its result's time is over"), now=now):
        return False
    if backend == "celery":
        celery_results.forget(row.id)
    _erase_files(request)
    return True


def purge(row: Job) -> None:
    """Nothing is left of it."""
    if Job.objects.filter(pk=row.pk, status=row.status, attempt=row.attempt).delete()[0]:
        JobEvent.objects.filter(job_id=row.pk).delete()
        JobDependency.objects.filter(job_id=row.pk).delete()
        _erase_files(row.request)


def sweep_files(*, now: datetime) -> int:
    """Uploads that belong to no job are deleted; how many they were."""
    from apps.jobs import files  # the storage is loaded by those who look there

    deleted = files.sweep(now=now)
    if deleted:
        log.info("jobs.stray_files_deleted", extra={"files": deleted})
    return deleted


def _settle_forgotten(*, now: datetime) -> None:
    """Whoever ended a job may have died before telling those that wait for it."""
    ended = Exists(Job.objects.filter(pk=OuterRef("on_id"), status__in=ENDED))
    dependencies.settle(JobDependency.objects.filter(ended, is_open=True).values_list("on_id", flat=True).distinct()[:BATCH], now=now)


def _erase_files(request: dict | None) -> None:
    if request is not None:
        from apps.jobs import snapshot

        snapshot.erase(request)


def _purge_at(now: datetime) -> datetime:
    return now + timedelta(days=settings.JOBS_KEEP_DAYS)
