"""Several worker processes that are one: each is replaced when it dies, all stop together."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from django.db import connections

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1
SHORT_LIFE_SECONDS = 2.0
"""One that dies sooner is replaced with a pause."""


def keep(
    work: Callable[[], None], *, processes: int, patience_seconds: float, died: Callable[[int, int, bool], None] | None = None
) -> None:
    """Run `work` in so many forked processes until told to stop (SIGTERM or Ctrl-C; a second one is passed on too). `work` handles
    SIGTERM itself, and returns then; a process that does not within `patience_seconds` is killed. `died` hears the process id and wait
    status of each that ended, and whether it was told to."""
    born: dict[int, float] = {}
    stop = threading.Event()

    def tell(_signal: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGALRM, lambda *_: _signal_all(born, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, patience_seconds)
        _signal_all(born, signal.SIGTERM)

    for number in STOP_SIGNALS:
        signal.signal(number, tell)
    while born or not stop.is_set():
        while len(born) < processes and not stop.is_set():
            # It is known here, and can be told to stop, before either of us is.
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            born[_fork(work)] = time.monotonic()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        pid, status = os.wait()
        age = time.monotonic() - born.pop(pid)
        if died is not None:
            died(pid, status, stop.is_set())
        if age < SHORT_LIFE_SECONDS:
            stop.wait(SHORT_LIFE_SECONDS)
    # An alarm while this process ends would find no handler, and end it as a failure.
    signal.setitimer(signal.ITIMER_REAL, 0)


def _signal_all(pids: Iterable[int], number: int) -> None:
    for pid in tuple(pids):
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, number)


def _fork(work: Callable[[], None]) -> int:
    # No connection to the database crosses the fork: two processes would talk on one.
    connections.close_all()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            # Ctrl-C comes to all of a terminal's processes: the parent tells its children.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            _stop_without(parent)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            work()
            status = 0
        except Exception:  # the boundary of the process
            log.exception("jobs.worker_failed")
        finally:
            os._exit(status)
    return pid


def _stop_without(parent: int) -> None:
    """Linux tells this process to stop when its parent has died, by whatever hand."""
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    except AttributeError:
        return  # another system: those that are left go on until somebody stops them
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def ended_with(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"its process ended with {f'signal {-code}' if code < 0 else f'status {code}'}"
