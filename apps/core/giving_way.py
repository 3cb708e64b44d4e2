"""Whoever has thousands of things to do rests between one lot of them and the next, while others have a few.

What follows from a lot (rows, messages, reports, answers) keeps every process of a small machine busy, and each step of a single
task then waits for a processor. So the rest is the longer the longer this thread itself had to wait for one: nothing on a machine
with processors to spare, up to three times as long as the lot took where they are short.
"""

from __future__ import annotations

import time
from pathlib import Path

LONGEST_SECONDS = 0.2
MOST = 3.0
"""A rest is at most so many times as long as what came before it, if nobody says otherwise."""
STEEPNESS = 6.0
"""So a thread that waited half as long as it ran rests as long as it can."""
SCHEDSTAT = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds this thread ran, and waited for a processor while it could have run."""


class Lot:
    """From its making to its `rest`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._ran, self._waited = _spent()

    def rest(self, *, least: float = 0.0, most: float = MOST) -> None:
        """`least`: times what the lot took, whatever there is of processors. `most`: however few there are."""
        ran, waited = _spent()
        ran, waited, took = ran - self._ran, waited - self._waited, time.monotonic() - self._began
        time.sleep(seconds_of_rest(took, ran=ran, waited=waited, least=least, most=most))


def seconds_of_rest(took: float, *, ran: int, waited: int, least: float = 0.0, most: float = MOST) -> float:
    """After a lot that took so many seconds, of which this thread ran and waited for a processor so long (in one unit)."""
    shortage = waited / ran if ran > 0 else 0.0
    return min(took * min(most, max(least, STEEPNESS * shortage)), LONGEST_SECONDS)


def _spent() -> tuple[int, int]:
    """Nanoseconds run, and waited. Where the system does not say, as if it had waited a sixth of the time."""
    try:
        ran, waited, _ = SCHEDSTAT.read_text().split()
    except (OSError, ValueError):
        ran_ns = time.thread_time_ns()
        return ran_ns, ran_ns // 6
    return int(ran), int(waited)
