"""Many threads at one door."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(0) … work(count - 1)`, each in its own thread, all let go at the same moment. Their answers, or the first error.

    Every thread gives its database connections back.
    """
    barrier = threading.Barrier(count)

    def run(index: int) -> Any:
        from django.db import connections

        barrier.wait(30)
        try:
            return work(index)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
