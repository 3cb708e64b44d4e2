"""Jobs in this process, for tests and first steps: a thread takes them by priority, in their order. Nothing is left when it ends."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Sequence

from django.conf import settings
from django.db import connections

from apps.jobs.backends.base import Traits, Wake


class MemoryBackend:
    """`threads=0`: nothing runs until `run_all` is called, in the caller's thread."""

    name = "memory"
    traits = Traits(
        priority="exact, within this process",
        hard_kill="nobody: it is marked failed, its thread goes on",
        worker_death="nobody: the process is the worker",
        told_to_stop="`close()` waits, then raises it in the job's thread; a process that just ends leaves its jobs to the lease",
        concurrency="threads",
        wire="none",
        results="the row",
    )

    def __init__(self, *, threads: int = 1) -> None:
        self._threads = threads
        self._started: list[threading.Thread] = []
        self._waiting: list[tuple[int, int, Wake]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def send(self, wakes: Sequence[Wake]) -> bool:
        with self._changed:
            for wake in wakes:
                heapq.heappush(self._waiting, (-wake.priority, next(self._order), wake))
            while len(self._started) < self._threads:
                thread = threading.Thread(target=self._work, name=f"jobs-memory-{len(self._started) + 1}", daemon=True)
                self._started.append(thread)
                thread.start()
            self._changed.notify_all()
        return True

    def depth(self, queue: str) -> int | None:
        with self._changed:
            return sum(wake.queue == queue for _, _, wake in self._waiting)

    def interrupt(self, job_id: str, worker: str) -> None:
        """The heart of this process hears of it."""

    def close(self) -> None:
        """What waits is left to upkeep; what runs is waited for, then handed back."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._join(settings.JOBS_STOP_S):
            return
        from apps.jobs.backends import stopping

        stopping.heart.hand_back()
        self._join(stopping.grace_seconds())

    def run_all(self) -> int:
        """Run what waits, and what that sends, here and now; how many."""
        ran = 0
        while (wake := self._next(wait=False)) is not None:
            self._run(wake)
            ran += 1
        return ran

    def _join(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        for thread in self._started:
            thread.join(timeout=max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._started)

    def _next(self, *, wait: bool) -> Wake | None:
        with self._changed:
            while wait and not self._waiting and not self._closed:
                self._changed.wait()
            return heapq.heappop(self._waiting)[2] if self._waiting and not self._closed else None

    def _work(self) -> None:
        try:
            while (wake := self._next(wait=True)) is not None:
                self._run(wake)
        finally:
            connections.close_all()

    def _run(self, wake: Wake) -> None:
        from apps.jobs import runner  # the runner knows the manager, which knows the backends

        runner.run(wake.job_id, wake.attempt, worker=f"memory:{threading.current_thread().name}")
