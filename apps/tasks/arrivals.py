"""Arrivals: how a request hears that a task has moved, without asking again and again.

Whoever moves a task says so on `events.<org>.<task>` (core NATS: news, not truth). A request that waits or streams listens
there and reads the database whenever it hears something, so that a doubled, late or lost message can delay what it tells
but not falsify it. Each such request holds a thread; `Seats` bounds how many.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

import orjson

from apps.core import clock, ids, streaming
from apps.core.errors import Missing
from apps.core.streaming import BEAT_SECONDS, Happening, Stream
from apps.messaging import subjects
from apps.messaging.connection import WireDown, wire
from apps.tasks.events import TaskMoved, TaskProgressed, TasksMoved, TasksProgressed
from apps.tasks.models import Task, Transition
from apps.tasks.states import TERMINAL, TaskStatus

INBOX_LENGTH = 5000


# ---- telling ----------------------------------------------------------------------------------------------


def announce(event: TasksMoved) -> None:
    wire().publish([(subjects.news(move.org_id, move.task_id), orjson.dumps(moved_json(move))) for move in event.moves])


def announce_progress(event: TasksProgressed) -> None:
    wire().publish([(subjects.news(step.org_id, step.task_id), orjson.dumps(_progress_json(step))) for step in event.steps])


def moved_json(move: TaskMoved | Transition, *, task_id: str = "", agent: str = "") -> dict[str, Any]:
    """One shape for news and for the stored transition it tells of."""
    if isinstance(move, TaskMoved):
        task_id, agent = move.task_id, move.agent
    return {
        "type": "status",
        "task_id": task_id,
        "old": move.old,
        "status": move.new,
        "reason": move.reason,
        "actor": move.actor,
        "attempt": move.attempt,
        "agent": agent or None,
        "at": clock.iso(move.at),
    }


def _progress_json(step: TaskProgressed) -> dict[str, Any]:
    return {"type": "progress", "task_id": step.task_id, "percent": step.percent, "message": step.message, "at": clock.iso(step.at)}


# ---- listening --------------------------------------------------------------------------------------------


class _Inbox(AbstractContextManager["_Inbox"]):
    """What has been heard on a subject and not yet looked at. A reader that is too slow loses the oldest."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._heard: deque[bytes] = deque()
        self._news = threading.Event()
        self.dropped = 0

    def __enter__(self) -> _Inbox:
        # Whatever was missed while the connection was away is in the database: a look finds it.
        self._subscription = wire().subscribe(self._subject, self._hear, on_gap=self._news.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.close()

    def _hear(self, _subject: str, payload: bytes) -> None:
        if len(self._heard) >= INBOX_LENGTH:
            self._heard.popleft()
            self.dropped += 1
        self._heard.append(payload)
        self._news.set()

    def wait(self, seconds: float) -> list[dict[str, Any]]:
        """Everything heard since the last look; blocks up to `seconds` while that is nothing."""
        self._news.wait(seconds)
        self._news.clear()
        found = []
        while self._heard:
            found.append(orjson.loads(self._heard.popleft()))
        return found


Snapshot = Callable[[Task], dict[str, Any]]


class Arrivals:
    def wait(self, key: str, reached: Callable[[Task], bool], *, seconds: float) -> Task:
        """The task as soon as `reached` says so; as it is by then when time runs out or no seat is free."""
        seat = streaming.seats().take() if seconds > 0 else None
        if seat is None:
            return _load(key)
        with seat, suppress(WireDown), _Inbox(subjects.news(*ids.split_task_key(key))) as inbox:
            until = time.monotonic() + seconds
            task = _load(key)
            while not reached(task) and (left := until - time.monotonic()) > 0:
                inbox.wait(left)
                task = _load(key)
            return task
        return _load(key)

    def follow(self, task: Task, *, snapshot: Snapshot, after: str = "", beat_seconds: float = BEAT_SECONDS) -> Iterator[Happening | None]:
        """The task as it is (unless the follower goes on `after` a transition he knows), then each change; None is a
        sign of life. Ends after a terminal status. Transitions are looked up, so none is left out; progress is told as it is
        heard, which may be never."""
        with _Inbox(subjects.news(task.org_id, task.task_id)) as inbox:
            if not after:
                # Transitions first: what moves in between is then told twice rather than never.
                told = {transition.id for transition in _transitions(task.key)}
                task = _load(task.key)
                yield Happening(name="task", data=snapshot(task), id=task.last_transition_id)
                if TaskStatus(task.status) in TERMINAL:
                    return
            else:
                told = {transition.id for transition in _transitions(task.key) if transition.id <= after}
                if nothing_more(_load(task.key), after):
                    return
            news: list[dict[str, Any]] = []
            while True:
                for transition in _transitions(task.key):
                    if transition.id in told:
                        continue
                    told.add(transition.id)
                    ended = TaskStatus(transition.new) in TERMINAL
                    task = _load(task.key)
                    data = moved_json(transition, task_id=task.task_id, agent=task.head_agent_subject_id)
                    yield Happening(name="status", id=transition.id, data={**data, "result": task.result} if ended else data)
                    if ended:
                        return
                yield from (Happening(name="progress", data=item) for item in news if item["type"] == "progress")
                news = inbox.wait(beat_seconds)
                if not news:
                    yield None

    def listen(self, org_id: str, *, opening: Callable[[], Happening], beat_seconds: float = BEAT_SECONDS) -> Iterator[Happening | None]:
        """The opening, then news of all tasks of an org as it comes: hints, without a look at the database."""
        with _Inbox(subjects.all_news(org_id)) as inbox:
            yield opening()
            while True:
                news = inbox.wait(beat_seconds)
                if not news:
                    yield None
                if inbox.dropped:
                    dropped, inbox.dropped = inbox.dropped, 0
                    yield Happening(name="lagged", data={"dropped": dropped})
                yield from (Happening(name=item["type"], data=item) for item in news)


def nothing_more(task: Task, after: str) -> bool:
    """True for a follower who knows how it ended: there is nothing to stream."""
    return bool(after) and TaskStatus(task.status) in TERMINAL and task.last_transition_id <= after


def stream(happenings: Iterator[Happening | None]) -> Stream:
    """Happenings as server-sent events. Crowded when no seat is free, Unavailable when there is no news to be had."""
    return streaming.stream(happenings, away=WireDown)


def _load(key: str) -> Task:
    try:
        return Task.objects.get(pk=key)
    except Task.DoesNotExist:
        raise Missing() from None


def _transitions(key: str) -> list[Transition]:
    return list(Transition.objects.filter(task_key=key).order_by("id"))
