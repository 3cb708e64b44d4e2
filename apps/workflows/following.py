"""Following a session: what a live tree is drawn from.

First the session and each of its steps as they are now, then every change as it happens, until the session has ended and
nothing of it moves any more. Steps are told whole and by path, so hearing one twice does no harm; moves are told once each
and carry their id, with which a follower goes on after his connection broke.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from apps.core import clock
from apps.tasks.arrivals import BEAT_SECONDS, Happening
from apps.workflows import news, views
from apps.workflows.engine import store, undoing
from apps.workflows.models import Session, SessionEvent, Step
from apps.workflows.states import SESSION_ENDED, STEP_STARTED

LOOK_EVERY_SECONDS = 0.25
"""However fast items end, a follower is told of it this often."""
LATE = timedelta(seconds=10)
"""Moves written by several processes become visible out of order by less than this."""
AT_ONCE = 1000
UNDER_WAY = [status.value for status in STEP_STARTED]


class Follower:
    """One follower of one session. Raises UnknownSession when there is none."""

    def __init__(self, org_id: str, session_id: str, *, after: str = "") -> None:
        """`after`: the last move he knows of, from a stream that broke."""
        self._key, self._after = store.session_key(org_id, session_id), after
        self._told: set[str] = set()
        self._steps: dict[str, dict[str, Any]] = {}
        self._said: dict[str, Any] = {}
        self._first = self._row()

    @property
    def knows_all(self) -> bool:
        """There is nothing to tell one who knows how it ended."""
        return bool(self._after) and over(self._first) and not self._events().filter(id__gt=self._after).exists()

    def follow(self, *, beat_seconds: float = BEAT_SECONDS) -> Iterator[Happening | None]:
        """None is a sign of life. A session that is deleted meanwhile ends the stream."""
        with news.listening(self._key) as woken:
            self._skip_past()
            looked: datetime | None = None
            while True:
                woken.clear()
                began, now = time.monotonic(), clock.now()
                try:
                    row = self._row()
                except store.UnknownSession:
                    return
                last = over(row)  # seen before the rest is read: when it holds, the rest is complete
                yield from self._changes(row, since=looked)
                if last:
                    yield Happening(name="end", data=self._said)
                    return
                looked = now
                if not woken.wait(beat_seconds):
                    yield None
                _rest(LOOK_EVERY_SECONDS - (time.monotonic() - began))

    def _changes(self, row: Session, *, since: datetime | None) -> Iterator[Happening]:
        steps = views.steps(row, self._moving(since))
        session = views.session(row)
        told = [Happening(name="session", data=session)] if session != self._said else []
        self._said = session
        if since is None:
            yield from told
        for step in steps:
            if self._steps.get(step["path"]) != step:
                self._steps[step["path"]] = step
                yield Happening(name="step", data=step)
        if since is not None:
            yield from told
        for move in self._moves():
            yield Happening(name="move", id=move.id, data=views.event(move))

    def _moving(self, since: datetime | None) -> list[Step]:
        """Steps that have moved since then, and those whose items are at it; None: all of them."""
        rows = Step.objects.filter(session_key=self._key).defer("override")
        if since is not None:
            rows = rows.filter(Q(updated_at__gte=since - LATE) | Q(status__in=UNDER_WAY))
        return sorted(rows, key=lambda step: (step.parent == store.UNDOING, step.position))

    def _skip_past(self) -> None:
        """A new follower is told how it stands; what led there is in the list of events. One who was here before hears
        what came after the last move he knows."""
        found = self._events().order_by("-id").values_list("id", flat=True)
        if self._after:
            found = found.filter(id__gt=_before(self._after), id__lte=self._after)
        self._told.update(found[:AT_ONCE])
        self._after = self._after or max(self._told, default="")

    def _moves(self) -> list[SessionEvent]:
        rows = self._events().filter(id__gt=_before(self._after)).order_by("id")
        found = [row for row in rows if row.id not in self._told]
        if found:
            self._after = max(self._after, found[-1].id)
            floor = _before(self._after)
            self._told = {one for one in self._told | {row.id for row in found} if one > floor}
        return found

    def _row(self) -> Session:
        row = Session.objects.filter(pk=self._key).defer("document").first()
        if row is None:
            raise store.UnknownSession(key=self._key)
        return row

    def _events(self) -> Any:
        return SessionEvent.objects.filter(session_key=self._key)


def over(row: Session) -> bool:
    """Ended, its result written, nothing being undone: it moves no more until somebody takes it up again."""
    return row.status in SESSION_ENDED and row.published and row.compensation != undoing.RUNNING


def _before(event_id: str) -> str:
    """An id that is LATE older: ids begin with the milliseconds at which they were made."""
    if not event_id:
        return ""
    return f"{max(int(event_id[:12], 16) - int(LATE.total_seconds() * 1000), 0):012x}"


def _rest(seconds: float) -> None:
    if seconds > 0:
        threading.Event().wait(seconds)
