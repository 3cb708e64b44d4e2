"""Telling the backend which jobs to run. A message may be lost: a job that should have been taken by now is sent again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from apps.jobs.backends.base import JobBackend, Wake
from apps.jobs.models import Job

LOOK_AFTER = timedelta(seconds=10)
"""When upkeep first asks whether a message that nobody took is still on its queue. Then after twice as long, and so on."""


def wake(job: Job) -> Wake:
    return Wake(job_id=job.id, attempt=job.attempt + 1, queue=job.queue, priority=job.priority, timeout_s=job.options.get("timeout_s"))


def send(backend: JobBackend, rows: Sequence[Job]) -> bool:
    """Rows that say they are sent. When the backend is away they say so no more, and upkeep tries again soon."""
    if not rows or backend.send([wake(row) for row in rows]):
        return True
    by_time: dict[datetime | None, list[str]] = defaultdict(list)
    for row in rows:
        by_time[row.sent_at].append(row.id)
    for sent_at, pks in by_time.items():
        Job.objects.filter(pk__in=pks, sent_at=sent_at).update(sent_at=None, tend_at=sent_at)
    return False


def look_at(
    *, now: datetime, due: datetime | None = None, start_before: datetime | None = None, is_sent: bool = True, waits: bool = False,
    first_sent: datetime | None = None,
) -> datetime | None:  # fmt: skip
    """When upkeep looks at a waiting job: at its time, when its message should have been taken, when it is too late to start it."""
    if waits:
        return start_before
    at = now + max(LOOK_AFTER, now - (first_sent or now)) if is_sent else (due or now)
    return at if start_before is None else min(at, start_before)
