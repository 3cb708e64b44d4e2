"""What the worker of every backend calls: one attempt of one job.

Claim it (one conditional update: a doubled or late message does nothing), call its method within its limits, write its end. Whatever
the job does, `run` returns: a backend never sees an exception of a job and never retries by itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import close_old_connections

from apps.core import bulk, clock, logs
from apps.jobs import faults, moves, progress, results, sending
from apps.jobs.backends import of
from apps.jobs.guard import Guard
from apps.jobs.heart import heart
from apps.jobs.interrupts import JobCancelled, JobHandedBack, JobLost, JobTimedOut
from apps.jobs.models import Job
from apps.jobs.moves import Step
from apps.jobs.options import pause_before_retry
from apps.jobs.progress import Running
from apps.jobs.states import WAITING, JobStatus, Reason

log = logging.getLogger(__name__)

CLAIMED_FIELDS = (
    "org_id", "owner", "actor", "target", "name", "queue", "backend", "priority", "request", "arguments", "options", "status", "attempt",
    "handed_back", "waits_for", "not_before", "start_before", "ended_as", "unique_key", "created_at",
)  # fmt: skip
EARLY = timedelta(milliseconds=50)
"""A job may start so long before its time: clocks differ."""
NO_ERROR = {"error_code": "", "error": "", "errors": None, "traceback": ""}
"""Attempts before may have had one."""
NO_ANSWER = {"result_status": None, "errors": None}
AGAIN = {"deadline": None, "start_before": None}
"""Of an attempt that is followed by another: the job has begun in time."""
SAYS = {
    Reason.TIMEOUT: "The job took longer than its time limit of {timeout_s:g} s.",
    Reason.WORKER_LOST: "The worker of the job died.",
    Reason.WORKER_STOPPED: "The worker of the job was stopped before the job ended.",
    Reason.OUT_OF_MEMORY: "The job needed more memory than its limit of {memory_mb} MB.",
    Reason.CANCELLED: "The job was cancelled.",
}


def run(job_id: str, attempt: int, *, worker: str = "", alone: bool = False, is_told_to_end: Callable[[], bool] = lambda: False) -> None:
    """Make this attempt, unless somebody else has or it is not its time. `alone`: this process runs one job at a time, so that
    its memory may be limited. `is_told_to_end`: a SystemExit came from a signal, not from the method."""
    close_old_connections()
    with logs.bind(job=job_id):
        try:
            job = claim(job_id, attempt, worker=worker, now=clock.now())
            if job is not None:
                _attempt(job, alone=alone, is_told_to_end=is_told_to_end)
        except Exception:  # the boundary to every backend: its own retries would know nothing of ours
            log.exception("job.not_run")


def claim(job_id: str, attempt: int, *, worker: str, now: datetime) -> Job | None:
    job = bulk.load(Job, [job_id], CLAIMED_FIELDS).get(job_id)
    if (
        job is None
        or job.status not in WAITING
        or job.attempt != attempt - 1
        or job.waits_for
        or (job.not_before is not None and job.not_before > now + EARLY)
        or (job.start_before is not None and job.start_before <= now)
    ):
        return None
    fields = {
        "attempt": attempt,
        "worker": worker[:255],
        "started_at": now,
        "deadline": now + timedelta(seconds=job.options["timeout_s"]),
        "tend_at": now + timedelta(seconds=settings.JOBS_LEASE_S),
        "progress": None, "rate": None, "eta_s": None, "message": "",
    }  # fmt: skip
    step = Step(job=job, end=JobStatus.STARTED, fields=fields, actor="")
    return job if moves.move(step, now=now) else None


def _attempt(job: Job, *, alone: bool, is_told_to_end: Callable[[], bool]) -> None:
    running = Running(job.id, job.attempt, alone=alone)
    with heart.beats_for(job, running):
        try:
            with Guard(job, running, alone=alone), progress.within(running):
                value, status = _call(job)
            finish(job, results.plain(value), status, running=running)
        except JobCancelled:
            cancelled(job, running=running)
        except JobLost:
            log.info("job.lost_to_another")
        except JobHandedBack:
            hand_back(job, running=running)
        except JobTimedOut:
            fail(job, Reason.TIMEOUT.value, sentence(job, Reason.TIMEOUT), running=running)
        except MemoryError:
            fail(job, Reason.OUT_OF_MEMORY.value, sentence(job, Reason.OUT_OF_MEMORY), running=running)
        except (Exception, SystemExit) as error:  # whatever the method raised is the end of the attempt
            if isinstance(error, SystemExit) and is_told_to_end():
                hand_back(job, running=running)
                return
            fault = faults.of(error)
            fail(
                job, fault.code, fault.sentence, trace=results.trace(error), running=running, may_retry=fault.retry_helps,
                answers=fault.fields,
            )  # fmt: skip


def _call(job: Job) -> tuple[Any, int | None]:
    # Not at the top: upkeep ends jobs too, and has no use for the frameworks.
    from apps.jobs import calling, marks

    found = marks.resolve(job.target)
    prepared = calling.prepare(found, request=job.request, arguments=job.arguments)
    value = prepared.run()
    if asyncio.iscoroutine(value):
        value = asyncio.run(value)
    answer = calling.answered(value)
    return answer.value, answer.status


# ---- ends -------------------------------------------------------------------------------------------------------


def finish(job: Job, result: Any, status: int | None, *, running: Running | None = None) -> bool:
    now = clock.now()
    said = {"result": result, **NO_ERROR, "result_status": status}
    fields = {**said, **_last_progress(running, now), **_end(job, now)}
    return _move(job, JobStatus.FINISHED, fields, now=now)


def cancelled(job: Job, *, running: Running | None = None) -> bool:
    now = clock.now()
    fields = {"error_code": Reason.CANCELLED.value, "error": SAYS[Reason.CANCELLED], **_last_progress(running, now), **_end(job, now)}
    asked = Job.objects.filter(pk=job.id).values_list("cancel_reason", "cancel_actor").first() or ("", "")
    return _move(job, JobStatus.CANCELLED, fields, now=now, reason=asked[0] or "cancelled", actor=asked[1])


def fail(
    job: Job, code: str, error: str, *, trace: str = "", running: Running | None = None, may_retry: bool = True,
    answers: dict[str, Any] = NO_ANSWER, now: datetime | None = None,
) -> bool:  # fmt: skip
    """The attempt failed: try again if the job has attempts left, else that is its end. `answers`: what HTTP would answer
    (`faults.Fault.fields`)."""
    now = now or clock.now()
    said = {"error_code": code, "error": error[:1000], "traceback": trace, **answers, **_last_progress(running, now)}
    pause = pause_before_retry(job.options, failed=job.attempt - job.handed_back, random=random.random()) if may_retry else None
    if pause is None:
        return _move(job, JobStatus.FAILED, {**said, **_end(job, now)}, now=now, reason=error)
    due = now + timedelta(seconds=pause)
    fields = {**said, "not_before": due, "tend_at": due, "sent_at": None, **AGAIN}
    return _move(job, JobStatus.RETRYING, fields, now=now, reason=error)


def hand_back(job: Job, *, running: Running | None = None, now: datetime | None = None) -> bool:
    """Its worker stops. A job that may run twice (it has `retries`) is another worker's at once, and this attempt does not count;
    of any other nobody knows how far it came, so it fails."""
    now, said = now or clock.now(), sentence(job, Reason.WORKER_STOPPED)
    if Job.objects.filter(pk=job.id, cancel_requested_at__isnull=False).exists():
        return cancelled(job, running=running)
    if not job.options.get("retries"):
        return fail(job, Reason.WORKER_STOPPED.value, said, running=running, may_retry=False, now=now)
    fields = {
        "error_code": Reason.WORKER_STOPPED.value, "error": said, "traceback": "", **NO_ANSWER, "handed_back": job.handed_back + 1,
        "not_before": now, "sent_at": now, "tend_at": sending.look_at(now=now), **AGAIN, **_last_progress(running, now),
    }  # fmt: skip
    if not _move(job, JobStatus.RETRYING, fields, now=now, reason=said):
        return False
    sending.send(of(job.backend), [job])
    return True


def lost(job_id: str, attempt: int, *, code: str = Reason.WORKER_LOST.value, detail: str = "", now: datetime | None = None) -> bool:
    """Somebody saw the worker of this attempt die, or ended it, or upkeep heard nothing of it for a lease. False: the attempt was over."""
    job = bulk.load(Job, [job_id], (*CLAIMED_FIELDS, "cancel_requested_at", "worker")).get(job_id)
    if job is None or job.status != JobStatus.STARTED or job.attempt != attempt:
        return False
    if code != Reason.WORKER_STOPPED:
        log.warning("job.worker_lost", extra={"job": job_id, "attempt": attempt, "worker": job.worker, "code": code, "detail": detail})
    if job.cancel_requested_at is not None:
        return cancelled(job)
    if code == Reason.WORKER_STOPPED:
        return hand_back(job, now=now)
    return fail(job, code, sentence(job, Reason(code)), now=now)


def sentence(job: Job, reason: Reason) -> str:
    return SAYS[reason].format(**job.options)


def _move(job: Job, end: JobStatus, fields: dict[str, Any], *, now: datetime, reason: str = "", actor: str = "") -> bool:
    also: Callable[[], None] | None = None
    if job.backend == "celery" and end in (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED):
        from apps.jobs.backends import celery_results

        also = celery_results.writer(job, end, fields, now=now)
    return moves.move(Step(job=job, end=end, fields=fields, reason=reason, actor=actor), now=now, also=also)


def _end(job: Job, now: datetime) -> dict[str, Any]:
    return {"ended_at": now, **moves.kept_until(job, now=now)}


def _last_progress(running: Running | None, now: datetime) -> dict[str, Any]:
    return running.fields(now=now) if running is not None else {}
