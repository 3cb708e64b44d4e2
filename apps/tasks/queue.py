"""The priority queue in Redis: who is next. Exact priority, first come first served among equals.

One lane per (org, job space): the candidate pool, and so the room at the agents, is the same for a whole lane. A claim
takes the best of an org's lanes, each up to the room its pool has, in one script (`queue.lua`, with the table of keys).
All of it can be rebuilt from the database (`loader.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from apps.core import clock, redis
from apps.tasks.models import Task

CLAIM_SECONDS = 15
"""How long a dispatcher may sit on what it claimed before it returns to the queue."""
TICK_LIMIT = 1000
PUSH_CHUNK = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueItem:
    key: str
    lane: str
    priority: int
    sequence: int
    not_before_ms: int = 0

    @property
    def member(self) -> str:
        """Sorts by arrival among equal priorities."""
        return f"{self.sequence:016x}:{self.key}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    key: str
    lane: str
    ticket: str
    """What Redis knows it by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    org_id: str
    lane: str
    size: int


def item_of(task: Task) -> QueueItem:
    return QueueItem(
        key=task.key,
        lane=task.job_space_id,
        priority=task.priority,
        sequence=task.sequence,
        not_before_ms=clock.to_ms(task.not_before) if task.not_before else 0,
    )


@lru_cache(maxsize=1)
def _script() -> Any:
    return redis.script(Path(__file__).with_name("queue.lua"))


class PriorityQueue:
    def _run(self, verb: str, *arguments: Any) -> Any:
        return _script()(keys=[redis.key()], args=[verb, *arguments], client=redis.client())

    def push(self, org_id: str, items: Sequence[QueueItem], *, now: datetime) -> int:
        """Add items (or move delayed ones whose time has come); answers how many drains are alive to see them."""
        alive = 0
        for start in range(0, len(items), PUSH_CHUNK):
            flat = [x for item in items[start : start + PUSH_CHUNK] for x in (item.lane, item.priority, item.member, item.not_before_ms)]
            alive = self._run("push", clock.to_ms(now), org_id, *flat)
        return alive

    def tick(self, *, now: datetime) -> int:
        """Return due items and lapsed claims to their queues."""
        return self._run("tick", clock.to_ms(now), TICK_LIMIT)

    def lanes(self) -> list[Lane]:
        flat = self._run("lanes")
        return [Lane(org_id=flat[i], lane=flat[i + 1], size=flat[i + 2]) for i in range(0, len(flat), 3)]

    def claim(self, org_id: str, room: Mapping[str, int], *, limit: int, now: datetime) -> list[Claim]:
        """Take up to `limit` items, best first, at most `room[lane]` from each lane."""
        flat = [x for lane, capacity in room.items() for x in (lane, capacity)]
        until = clock.to_ms(now + timedelta(seconds=CLAIM_SECONDS))
        tickets = self._run("claim", until, limit, org_id, *flat) if flat and limit > 0 else []
        return [_claim(ticket) for ticket in tickets]

    def settle(self, claims: Iterable[Claim]) -> None:
        """These claims are dealt with."""
        if tickets := [claim.ticket for claim in claims]:
            self._run("settle", *tickets)

    def release(self, claims: Iterable[Claim]) -> None:
        """Back to the same place in the queue."""
        if tickets := [claim.ticket for claim in claims]:
            self._run("release", *tickets)

    def remove(self, org_id: str, items: Iterable[QueueItem]) -> int:
        flat = [x for item in items for x in (item.lane, item.priority, item.member)]
        return self._run("remove", org_id, *flat) if flat else 0

    def missing(self, org_id: str, items: Sequence[QueueItem]) -> list[QueueItem]:
        """Those of the items that Redis does not know in any form."""
        found: list[QueueItem] = []
        for start in range(0, len(items), PUSH_CHUNK):
            chunk = items[start : start + PUSH_CHUNK]
            indexes = self._run("missing", org_id, *[x for item in chunk for x in (item.lane, item.priority, item.member)])
            found += [chunk[int(index) - 1] for index in indexes]
        return found

    def position(self, org_id: str, item: QueueItem) -> int | None:
        """0 is next in its lane; None when it is not waiting."""
        return redis.client().zrank(redis.key("queue", org_id, item.lane), item.member)

    def size(self, org_id: str) -> int:
        """Items waiting now, in all lanes of the org (delayed and claimed ones not counted)."""
        return sum(lane.size for lane in self.lanes() if lane.org_id == org_id)

    # Drains: the dispatchers that are looking at the queue right now.

    def enter(self, drain_id: str, *, now: datetime, seconds: float) -> int:
        """This drain is alive for `seconds` more; answers how many are."""
        return self._run("enter", clock.to_ms(now), clock.to_ms(now + timedelta(seconds=seconds)), drain_id)

    def leave(self, drain_id: str) -> bool:
        """This drain looks no more. True when work is waiting (it may have come after the last look)."""
        return bool(self._run("leave", drain_id))

    def nudge(self, *, now: datetime) -> tuple[bool, int]:
        """Somebody may have room now: wake the waiting drains. (work is waiting, drains alive)."""
        waiting, alive = self._run("nudge", clock.to_ms(now))
        return bool(waiting), alive

    def wait(self, seconds: float) -> bool:
        """Block until something may have changed, at most `seconds`. True when woken."""
        return redis.client().blpop([redis.key("wake")], timeout=seconds) is not None


def _claim(ticket: str) -> Claim:
    _, lane, _, member = json.loads(ticket)
    return Claim(key=member[17:], lane=lane, ticket=ticket)
