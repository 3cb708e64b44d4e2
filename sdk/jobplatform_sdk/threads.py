"""Threads for handlers that are ordinary functions.

They are daemons: a handler that never returns must not keep its process from ending, as the threads of
`concurrent.futures` would.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Threads:
    """At most `size` threads, started when first needed. Used from one event loop."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._started = self._busy = 0

    def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """A future of what `work` returns or raises."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._busy += 1
        if self._busy > self._started and self._started < self._size:
            self._started += 1
            threading.Thread(target=self._serve, args=(future.get_loop(),), name=f"handler-{self._started}", daemon=True).start()
        self._jobs.put((work, future))
        return future

    def close(self) -> None:
        """Idle threads end; busy ones when their work returns, if ever."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._jobs.get()) is not None:
            work, future = job
            outcome: Any = None
            error: BaseException | None = None
            try:
                outcome = work()
            except BaseException as raised:  # the boundary of foreign code: whatever it raises is its answer
                error = raised
            try:
                loop.call_soon_threadsafe(self._finish, future, outcome, error)
            except RuntimeError:  # the loop is gone, and whoever waited with it
                return
            del job, work, future, outcome, error

    def _finish(self, future: asyncio.Future[Any], outcome: Any, error: BaseException | None) -> None:
        self._busy -= 1
        if future.done():
            return
        if error is None:
            future.set_result(outcome)
        elif isinstance(error, StopIteration):  # a future cannot carry it
            future.set_exception(RuntimeError("StopIteration"))
        else:
            future.set_exception(error)
