"""Jobs as the surface meets them: submitted by a manager, moved by the one place that moves jobs, without a worker."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apps.jobs import moves
from apps.jobs.backends.memory import MemoryBackend
from apps.jobs.calls import JobCall, Owner
from apps.jobs.manager import JobManager
from apps.jobs.models import Job
from apps.jobs.moves import Step
from apps.jobs.options import JobOptions
from apps.jobs.states import JobStatus
from tests.factories import NOON

IDLE = MemoryBackend(threads=0)
"""Carries, and runs nothing by itself."""


def submit(owner: Owner, *, now: datetime = NOON, target: str = "examples.views:Reports.write", name: str = "", **options: Any) -> Job:
    made = JobManager(IDLE).enqueue(JobCall(target=target, name=name), JobOptions(**options), owner, now=now)
    return Job.objects.get(pk=made.job.id)


def move(job: Job, *ends: JobStatus, now: datetime = NOON, reason: str = "", **fields: Any) -> Job:
    """Through these states; `fields` go with the last."""
    job.refresh_from_db()
    for end in ends:
        given = dict(fields) if end is ends[-1] else {}
        if end is JobStatus.STARTED:
            given |= {"attempt": job.attempt + 1, "started_at": now}
        elif end not in (JobStatus.RETRYING,):
            given |= {"ended_at": now, **moves.kept_until(job, now=now)}
        assert moves.move(Step(job=job, end=end, fields=given, reason=reason if end is ends[-1] else ""), now=now)
    job.refresh_from_db()
    return job
