"""Writing down what a worker has done while it does the next.

An item that waits for something, or works outside of Python, leaves its worker's processor idle; what follows from the item
before it (its result, its step's end, whose turn it is now) is written meanwhile by one thread beside it. Where nothing else
waits to be done, nothing is won by that: the worker goes on itself (`work.py`).
"""

from __future__ import annotations

import contextvars
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable

from django.db import close_old_connections

from apps.workflows.engine.store import UnknownSession

log = logging.getLogger(__name__)

BEGINS_SECONDS = 0.01
"""So long the worker has the interpreter for itself, to take its next chunk; then it works, or there is none."""
BEHIND = 1
"""So many pieces may wait for the thread; who has another one waits until one is done."""

SWITCH_SECONDS = 0.0005


class _Afterwards:
    def __init__(self) -> None:
        self._pieces: queue.Queue[tuple[contextvars.Context, Callable[[], None]]] = queue.Queue(BEHIND)
        self._thread: threading.Thread | None = None
        self.begun = threading.Event()

    def hand_over(self, piece: Callable[[], None]) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="workflows-afterwards", daemon=True)
            self._thread.start()
            # Whoever waits for the interpreter may hold SQLite's write lock: five milliseconds would be everybody's.
            sys.setswitchinterval(SWITCH_SECONDS)
        self.begun.clear()
        self._pieces.put((contextvars.copy_context(), piece))

    def settle(self) -> None:
        self._pieces.join()

    def _run(self) -> None:
        while True:
            context, piece = self._pieces.get()
            self.begun.wait(BEGINS_SECONDS)
            try:
                close_old_connections()
                context.run(piece)
            except UnknownSession:
                pass  # deleted meanwhile, and all that would be written with it
            except Exception:  # the thread goes on; the piece's chunk has a lease that lapses, and is found by upkeep
                log.exception("afterwards.failed")
            finally:
                self._pieces.task_done()


_afterwards = _Afterwards()


def hand_over(piece: Callable[[], None]) -> None:
    """Have it done soon, in the order of these calls. Waits when the thread is behind."""
    _afterwards.hand_over(piece)


def begun() -> None:
    """The worker is at its next chunk's items: now is the time."""
    _afterwards.begun.set()


def settle() -> None:
    """Wait until all of it is done: a worker that stops owes it."""
    _afterwards.settle()


def reset() -> None:
    """After a fork: the thread stayed behind."""
    global _afterwards
    _afterwards = _Afterwards()


os.register_at_fork(after_in_child=reset)
