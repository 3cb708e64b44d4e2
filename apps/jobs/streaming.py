"""A job as it changes, until it ends: for server-sent events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apps.core.errors import Missing
from apps.core.redis import RedisDown
from apps.core.streaming import BEAT_SECONDS, Happening, Stream, stream
from apps.jobs import answers, news
from apps.jobs.calls import JobView, Owner


def follow(manager: Any, job_id: str, owner: Owner) -> Iterator[Happening | None]:
    """`status` for the job as it is and for each change, then `end`; the data is that of the status URL. None is a sign of
    life. Raises UnknownJob before the first."""
    told: dict[str, Any] | None = None
    with news.listen(job_id) as ear:
        while True:
            try:
                job: JobView = manager.status(job_id, owner)
            except Missing:
                if told is None:
                    raise
                return  # purged meanwhile
            body = answers.status_body(job)
            if body != told:
                yield Happening(name="end" if job.has_ended else "status", data=body)
                told = body
            if job.has_ended:
                return
            if not ear.wait(BEAT_SECONDS):
                yield None


def events(manager: Any, job_id: str, owner: Owner) -> Stream:
    """The same as bytes. Raises UnknownJob, Crowded."""
    return stream(follow(manager, job_id, owner), away=RedisDown)
