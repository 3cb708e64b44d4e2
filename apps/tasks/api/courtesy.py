"""Who submits much gives way: beside thousands of lines a single task goes first, and beside an organization that sends hundreds
of requests at once another one's is behind a few of them (`core/turnstile.py`).

All requests of a web process share one interpreter, and a chunk of lines keeps it for a tenth of a second. So whoever brings
lines takes small chunks while there is company, waits a moment before each while single tasks are in hand, and rests after it
as long as it took, or longer where processors are short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from apps.core.giving_way import Lot
from apps.core.turnstile import Turnstile

COMPANY_SECONDS = 2.0
"""After a single task there may be another."""
GIVE_WAY_SECONDS = 0.05
"""The longest wait before a chunk: many singles in a row slow lines down, and never stop them."""


class Courtesy:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_hand = 0
        self._seen = -COMPANY_SECONDS
        self._turnstile = Turnstile()

    @contextmanager
    def single(self, org_id: str) -> Iterator[None]:
        """A request for one task is in hand. Raises TooManyAtOnce."""
        with self._changed:
            self._in_hand += 1
            self._seen = time.monotonic()
        try:
            with self._turnstile.place(org_id):
                yield
        finally:
            with self._changed:
                self._in_hand -= 1
                self._changed.notify_all()

    @property
    def company(self) -> bool:
        """Single tasks came lately."""
        return time.monotonic() - self._seen < COMPANY_SECONDS

    @contextmanager
    def many(self) -> Iterator[None]:
        """A chunk of lines is in hand."""
        self.give_way()
        lot = Lot()
        yield
        if self.company:
            lot.rest(least=1.0)

    def give_way(self) -> None:
        """Back when no single task is in hand, and soon in any case."""
        with self._changed:
            self._changed.wait_for(lambda: not self._in_hand, GIVE_WAY_SECONDS)


courtesy = Courtesy()
"""This process's."""
