"""How far a running job is. `update(percent, message)` from anywhere below its method; monotonic within an attempt."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from apps.core import clock
from apps.jobs import news
from apps.jobs.interrupts import JobCancelled
from apps.jobs.models import Job
from apps.jobs.states import JobStatus

MIN_SECONDS = 0.25
"""Between two writes of one job."""
SAMPLES = 20
"""Rate and time left are those of the last so many written steps."""
MESSAGE_LENGTH = 500


class Running:
    """The job in hand, as its method may know it."""

    def __init__(self, job_id: str, attempt: int, *, alone: bool = False) -> None:
        self.job_id, self.attempt = job_id, attempt
        self.alone = alone
        """Nothing else runs in this process."""
        self.cancelled = False
        """Set by whoever hears of a cancel."""
        self.guard: Any = None
        """What can break into the method (`guard.Guard`), while it runs."""
        self.percent: float | None = None
        self.message = ""
        self._written_at = float("-inf")
        self._pending = False
        self._steps: deque[tuple[float, float]] = deque(maxlen=SAMPLES)
        self._lock = threading.Lock()

    def update(self, percent: float, message: str = "") -> None:
        """Percent 0…100; less than before counts as before. Raises JobCancelled once the job is to be cancelled."""
        self.check()
        if not isinstance(percent, int | float) or percent != percent:
            raise TypeError("percent must be a number, 0…100")
        with self._lock:
            self.percent = max(self.percent or 0.0, min(100.0, max(0.0, float(percent))))
            self.message = str(message)[:MESSAGE_LENGTH] if message else self.message
            self._pending = True
        if asyncio._get_running_loop() is None:  # on an event loop nothing may wait for the database: the heart writes it
            self.flush()

    def check(self) -> None:
        """A place where the job may be cancelled. Raises JobCancelled."""
        if self.cancelled:
            raise JobCancelled()

    def flush(self) -> None:
        """Write what was not written yet, if it is time to. Also called by the heart, so that a step in between is seen too."""
        with self._lock:
            if not self._pending or time.monotonic() - self._written_at < MIN_SECONDS:
                return
            self._written_at, self._pending = time.monotonic(), False
            fields = self.fields(now=clock.now())
        if not Job.objects.filter(pk=self.job_id, attempt=self.attempt, status=JobStatus.STARTED).update(**fields):
            return  # ended meanwhile
        news.tell([self.job_id])

    def fields(self, *, now: datetime) -> dict[str, Any]:
        """The columns; for the end of the job, with the last step whether it was written or not."""
        if self.percent is None:
            return {}
        at = time.monotonic()
        if not self._steps or self._steps[-1][1] != self.percent:
            self._steps.append((at, self.percent))
        (_, first), gone = self._steps[0], at - self._steps[0][0]
        rate = (self.percent - first) / gone if len(self._steps) > 1 and gone > 0 else None
        return {
            "progress": self.percent,
            "message": self.message,
            "rate": rate,
            "eta_s": (100 - self.percent) / rate if rate else None,
            "progress_at": now,
        }


_current: ContextVar[Running | None] = ContextVar("running_job", default=None)


def current() -> Running | None:
    """The job whose method we are in; None outside of one."""
    return _current.get()


def update(percent: float, message: str = "") -> None:
    """Of the job we are in; nothing outside of one, so that a method can be called without."""
    running = _current.get()
    if running is not None:
        running.update(percent, message)


@contextmanager
def undisturbed() -> Iterator[None]:
    """For what must not be cut in two, such as a message on a connection that is used again: a cancel, or the end of the job's time,
    waits for the end of this. Keep it short: after `JOBS_GRACE_S` a job that does not stop is ended by force."""
    running = _current.get()
    with running.guard.held() if running is not None and running.guard is not None else nullcontext():
        yield


@contextmanager
def within(running: Running) -> Iterator[None]:
    token = _current.set(running)
    try:
        yield
    finally:
        _current.reset(token)
