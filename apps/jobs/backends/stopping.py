"""How a worker stops while it runs jobs: it takes none any more, waits `JOBS_STOP_S` for those that run, then tells their processes to
hand them back. A process that has not done so `JOBS_GRACE_S` later is killed, and its job is handed back for it (`runner.hand_back`)."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from django.conf import settings
from django.db import DatabaseError, connections

from apps.jobs import runner
from apps.jobs.heart import TICK_SECONDS, heart
from apps.jobs.states import Reason

log = logging.getLogger(__name__)

HAND_BACK = signal.SIGUSR2
"""What a worker tells the process of a job. Not SIGTERM: that one has meanings of its own to each library."""
LOOK_SECONDS = 0.2


class Held(NamedTuple):
    """A job that a process runs now."""

    job_id: str
    attempt: int
    pid: int


def listen() -> None:
    """In a process that runs jobs, before its first one."""
    signal.signal(HAND_BACK, heart.hand_back)


def grace_seconds() -> float:
    """How long a process that was told may take. Its heart hears of it with its next tick, and ends by force what does not heed it."""
    return settings.JOBS_GRACE_S + 2 * TICK_SECONDS


def longest_seconds() -> float:
    """From the signal to the end of a worker whose jobs heed nothing."""
    return settings.JOBS_STOP_S + grace_seconds() + 1.0


class Stopping:
    """Of one worker. `held` says what its processes run."""

    def __init__(self, held: Callable[[], Sequence[Held]]) -> None:
        self._held = held
        self._thread: threading.Thread | None = None

    @property
    def has_begun(self) -> bool:
        return self._thread is not None

    def begin(self) -> None:
        """Returns at once; may be called by a signal, and again."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="jobs-stopping", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        _pause(settings.JOBS_STOP_S)
        until = time.monotonic() + grace_seconds()
        while (held := self._held()) and time.monotonic() < until:
            for each in held:
                _signal(each.pid, HAND_BACK)  # again and again: one may have begun only now
            _pause(LOOK_SECONDS)
        try:
            for each in held:
                _signal(each.pid, signal.SIGKILL)
                runner.lost(each.job_id, each.attempt, code=Reason.WORKER_STOPPED, detail="killed by its worker, which was told to stop")
        except DatabaseError as error:  # upkeep finds it when its lease lapses
            log.warning("jobs.not_handed_back", extra={"error": str(error)})
        finally:
            connections.close_all()


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
