"""The heart of a process that runs jobs: one thread that says for each of them "still here" (its lease), hears of cancels, writes
progress that waits to be written, ends what does not heed its time limit, and hands back what runs when its process is to stop."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connections

from apps.core import clock, redis
from apps.jobs import news
from apps.jobs.interrupts import JobCancelled, JobHandedBack, JobInterrupted, JobLost, JobTimedOut
from apps.jobs.models import Job
from apps.jobs.progress import Running
from apps.jobs.states import JobStatus, Reason

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
IDLE_SECONDS = 10.0
"""Without a job for so long, it rests until the next one."""


@dataclass
class _Beat:
    job: Job
    running: Running
    time_limit: float
    """monotonic"""
    began: float = field(default_factory=time.monotonic)
    renewed: float = field(default_factory=time.monotonic)
    asked_at: float | None = None
    """When it was first told to stop."""
    why: type[JobInterrupted] = JobTimedOut
    told_again: bool = False


class Heart:
    def __init__(self) -> None:
        self._beats: dict[str, _Beat] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._hand_back_at = float("-inf")

    def hand_back(self, *_signal: object) -> None:
        """What runs now is to be another worker's. May be called by a signal: it takes no lock, and the next tick does the rest."""
        self._hand_back_at = time.monotonic()

    @property
    def is_idle(self) -> bool:
        return not self._beats

    @contextmanager
    def beats_for(self, job: Job, running: Running) -> Iterator[None]:
        beat = _Beat(job=job, running=running, time_limit=time.monotonic() + job.options["timeout_s"])
        with self._lock:
            self._beats[job.id] = beat
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="jobs-heart", daemon=True)
                self._thread.start()
        self._wake.set()
        try:
            yield
        finally:
            with self._lock:
                self._beats.pop(job.id, None)

    def _work(self) -> None:
        ear: Any = None
        idle_since = time.monotonic()
        while True:
            try:
                if self._now_beating():
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > IDLE_SECONDS:
                    ear = self._rest(ear)
                    idle_since = time.monotonic()
                    continue
                ear = self._listen(ear)
                for beat in self._now_beating():
                    self._tend(beat)
            except DatabaseError as error:  # the lease may lapse; the next tick tries again
                log.warning("jobs.lease_not_renewed", extra={"error": str(error)})
                connections.close_all()
                threading.Event().wait(TICK_SECONDS)
            except Exception:  # the boundary of the thread: without it every job of this process would be held dead
                log.exception("jobs.heart_failed")
                threading.Event().wait(TICK_SECONDS)

    def _now_beating(self) -> list[_Beat]:
        with self._lock:
            return list(self._beats.values())

    def _rest(self, ear: Any) -> None:
        if ear is not None:
            with suppress(*redis.RedisDown):
                ear.close()
        connections.close_all()
        self._wake.clear()
        if not self._now_beating():
            self._wake.wait()

    def _listen(self, ear: Any) -> Any:
        """For one tick. Without Redis there is nothing to hear; leases go on, and each renewal sees a cancel in the row."""
        try:
            return self._hear(ear or self._new_ear())
        except redis.RedisDown as error:
            if ear is not None:  # said once
                redis.log_away(error)
            threading.Event().wait(TICK_SECONDS)
            return None

    def _new_ear(self) -> Any:
        ear = redis.client().pubsub()
        ear.subscribe(news.cancels())
        # What was asked for before we listened is in the row.
        for beat in self._now_beating():
            beat.renewed = float("-inf")
        return ear

    def _hear(self, ear: Any) -> Any:
        """Whoever is named is to stop."""
        until = time.monotonic() + TICK_SECONDS
        while (left := until - time.monotonic()) > 0:
            message = ear.get_message(timeout=left)
            if message and message["type"] == "message":
                with self._lock:
                    beat = self._beats.get(message["data"])
                if beat is not None:
                    self._stop(beat, JobCancelled)
        return ear

    def _tend(self, beat: _Beat) -> None:
        at = time.monotonic()
        if beat.asked_at is not None and at - beat.asked_at > settings.JOBS_GRACE_S:
            self._end_by_force(beat)
            return
        if at > beat.time_limit and beat.asked_at is None:
            self._stop(beat, JobTimedOut)
        if beat.began <= self._hand_back_at and beat.asked_at is None:
            self._stop(beat, JobHandedBack)
        if beat.asked_at is not None and not beat.told_again and at - beat.asked_at > settings.JOBS_GRACE_S / 2:
            beat.told_again = True
            if (guard := beat.running.guard) is not None:
                guard.interrupt(beat.why, again=True)
        beat.running.flush()
        if at - beat.renewed > settings.JOBS_LEASE_S / 3:
            self._renew(beat)

    def _renew(self, beat: _Beat) -> None:
        job = beat.job
        mine = Job.objects.filter(pk=job.id, attempt=job.attempt, status=JobStatus.STARTED)
        if not mine.update(tend_at=clock.now() + timedelta(seconds=settings.JOBS_LEASE_S)):
            if job.id in self._beats:
                self._stop(beat, JobLost)
            return
        beat.renewed = time.monotonic()
        if beat.asked_at is None and mine.filter(cancel_requested_at__isnull=False).exists():
            self._stop(beat, JobCancelled)

    def _stop(self, beat: _Beat, why: type[JobInterrupted]) -> None:
        if beat.asked_at is None:
            beat.asked_at, beat.why = time.monotonic(), why
        beat.running.cancelled = beat.running.cancelled or why is JobCancelled
        guard = beat.running.guard
        if guard is not None:
            guard.interrupt(why)

    def _end_by_force(self, beat: _Beat) -> None:
        """It was told and did not stop. Its end is written for it; a process that is its own goes with it."""
        from apps.jobs import runner

        with self._lock:
            self._beats.pop(beat.job.id, None)
        code = Reason.WORKER_STOPPED if beat.why is JobHandedBack else Reason.TIMEOUT
        if runner.lost(beat.job.id, beat.job.attempt, code=code, detail="did not stop when told") and beat.running.alone:
            os.kill(os.getpid(), 9)


heart = Heart()


def _after_fork() -> None:
    global heart
    heart.__init__()


os.register_at_fork(after_in_child=_after_fork)
