"""What keeps a method within its limits, from inside its own process: a timer, and a bound on memory.

In a main thread an alarm signal breaks into whatever Python is doing. In another thread an exception is planted, which it meets at its
next step of Python. It comes once, so that the method can clean up, and once more at half of its grace, should it have been swallowed
(`heart`). What heeds neither (a loop in C) is ended by the carrier.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType

from apps.jobs.interrupts import JobCancelled, JobInterrupted, JobTimedOut
from apps.jobs.models import Job
from apps.jobs.progress import Running


class Guard:
    """`with Guard(job, running): …` raises JobTimedOut at the deadline, and whatever `interrupt` is told, in the thread that entered."""

    def __init__(self, job: Job, running: Running, *, alone: bool = False) -> None:
        self._seconds: float = job.options["timeout_s"]
        self._memory_mb: int | None = job.options.get("memory_mb") if alone else None
        self._running = running
        self._why: type[JobInterrupted] = JobTimedOut
        self._active = False
        self._told = False
        self._held = 0
        self._due = False
        """Something wanted to break in while it was held."""
        self._lock = threading.Lock()

    def __enter__(self) -> Guard:
        self._thread = threading.current_thread()
        self._in_main = self._thread is threading.main_thread()
        if self._memory_mb is not None:
            self._old_limit = _limit_memory(self._memory_mb)
        self._active = True
        self._running.guard = self
        if self._in_main:
            self._old_handler = signal.signal(signal.SIGALRM, self._alarm)
            self._old_timer = signal.setitimer(signal.ITIMER_REAL, self._seconds)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._active = False
        self._running.guard = None
        if self._in_main:
            signal.setitimer(signal.ITIMER_REAL, *self._old_timer)
            signal.signal(signal.SIGALRM, self._old_handler)
        if self._memory_mb is not None:
            resource.setrlimit(resource.RLIMIT_DATA, self._old_limit)

    def interrupt(self, why: type[JobInterrupted], *, again: bool = False) -> None:
        """From any thread: break into the method now, unless that was done before; then only with `again`."""
        with self._lock:
            if not self._active or (self._told and not again):
                return
            self._why, self._told = why, True
            if self._held:
                self._due = True
            elif self._in_main:
                # The handler runs in the main thread, also when that waits in a system call.
                signal.pthread_kill(self._thread.ident, signal.SIGALRM)
            else:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(why))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing breaks in before the end of this; then it does."""
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1
        if self._due and not self._held:
            raise self._reason

    @property
    def _reason(self) -> type[JobInterrupted]:
        return JobCancelled if self._running.cancelled else self._why

    def _alarm(self, _signal: int, _frame: FrameType | None) -> None:
        self._told = True
        if self._active and self._held:
            self._due = True
        elif self._active:
            raise self._reason


def _limit_memory(megabytes: int) -> tuple[int, int]:
    """This process may have so much more than it has now. The old limit."""
    old = resource.getrlimit(resource.RLIMIT_DATA)
    with suppress(OSError, ValueError):  # not Linux, or a lower limit stands already
        resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + megabytes * 1024 * 1024, old[1]))
    return old


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmData")
