"""A turnstile: while several organizations want something, each has a few places inside, and a line of its own before it.

All requests of a process share one interpreter, and each step of a request waits for it behind those that are at work. So of an
organization that sends hundreds at once only a few are at work at a time while there are others; the rest of them cost nothing while they
wait, and whoever comes with one request is behind a few. A place of an organization with a line is given on after a rest, where
processors are short (`giving_way.py`), unless others without a line get as much done as it does: who keeps pace with them is no crowd.
An organization that is alone goes in as it comes.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from apps.core.errors import PlatformError
from apps.core.giving_way import Lot

PLACES = 2
LINE = 64
"""Of one organization; more are told to come back."""
COMPANY_SECONDS = 2.0
"""After one request there may be another."""
PACE_SECONDS = 2.0
"""Over which the pace of an organization is taken."""
MOST_REST = 8.0
"""Times what a request took."""
ORGS_SEEN = 64

_inside = threading.local()


class TooManyAtOnce(PlatformError):
    status, code, sentence, retry_helps = 429, "too_many_at_once", "Too many requests of the organization at the same time.", True
    shown = ("limit", "retry_after_seconds")


@dataclass(slots=True)
class _Side:
    """One organization's side of the turnstile."""

    inside: int = 0
    line: deque[threading.Event] = field(default_factory=deque)


@dataclass(slots=True)
class _Pace:
    """How an organization comes and goes."""

    came_at: float = 0.0
    _left_at: float = 0.0
    _rate: float = 0.0

    def leave(self, now: float) -> None:
        self._rate, self._left_at = self.rate(now) + 1 / PACE_SECONDS, now

    def rate(self, now: float) -> float:
        """Requests done a second, the older the less they count."""
        return self._rate * math.exp((self._left_at - now) / PACE_SECONDS)


class Turnstile:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sides: dict[str, _Side] = {}
        self._paces: dict[str, _Pace] = {}
        """Of who came last the last."""

    @contextmanager
    def place(self, org_id: str) -> Iterator[None]:
        """Inside. Raises TooManyAtOnce when the organization's line is full."""
        self._enter(org_id)
        lot, _inside.here = Lot(), (self, org_id)
        try:
            yield
        finally:
            _inside.here = None
            self._count(org_id)
            if self._is_crowd(org_id):
                lot.rest(most=MOST_REST)
            self._leave(org_id)

    def _enter(self, org_id: str, *, again: bool = False) -> None:
        with self._lock:
            self._note(org_id)
            side = self._sides.setdefault(org_id, _Side())
            if not side.line and self._has_room(org_id, side):
                side.inside += 1
                return
            if len(side.line) >= LINE and not again:
                raise TooManyAtOnce(limit=PLACES + LINE, retry_after_seconds=1)
            called = threading.Event()
            side.line.appendleft(called) if again else side.line.append(called)
        called.wait()  # whoever calls has counted us in

    def _leave(self, org_id: str) -> None:
        with self._lock:
            side = self._sides[org_id]
            side.inside -= 1
            while side.line and self._has_room(org_id, side):
                side.inside += 1
                side.line.popleft().set()
            if not side.inside:
                del self._sides[org_id]

    def _has_room(self, org_id: str, side: _Side) -> bool:
        return side.inside < PLACES or not self._has_company(org_id)

    def _has_company(self, org_id: str) -> bool:
        return next(self._company(org_id), None) is not None

    def _company(self, org_id: str) -> Iterator[str]:
        """The other organizations that came lately."""
        since = time.monotonic() - COMPANY_SECONDS
        for other in reversed(self._paces):
            if self._paces[other].came_at < since:
                return
            if other != org_id:
                yield other

    def _count(self, org_id: str) -> None:
        """One of it is done."""
        with self._lock:
            self._paces.setdefault(org_id, _Pace()).leave(time.monotonic())

    def _is_crowd(self, org_id: str) -> bool:
        """It has a line; others have none (among crowds nobody gains by another's rest), and get less done."""
        with self._lock:
            if not self._has_line(org_id) or org_id not in self._paces:
                return False
            now = time.monotonic()
            others = [self._paces[other].rate(now) for other in self._company(org_id) if not self._has_line(other)]
            return bool(others) and self._paces[org_id].rate(now) > max(others)

    def _has_line(self, org_id: str) -> bool:
        side = self._sides.get(org_id)
        return side is not None and bool(side.line)

    def _note(self, org_id: str) -> None:
        pace = self._paces[org_id] = self._paces.pop(org_id, None) or _Pace()
        pace.came_at = time.monotonic()
        if len(self._paces) > ORGS_SEEN:
            del self._paces[next(iter(self._paces))]


@contextmanager
def aside() -> Iterator[None]:
    """This thread waits for somebody outside: its place, if it has one, is free for others until it comes back."""
    here = getattr(_inside, "here", None)
    if here is None:
        yield
        return
    turnstile, org_id = here
    turnstile._leave(org_id)
    try:
        yield
    finally:
        turnstile._enter(org_id, again=True)
