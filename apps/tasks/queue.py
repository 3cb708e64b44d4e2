"""The priority queue in Redis: who is next. Exact priority, first come first served among equals, fair between orgs.

One lane per (org, job space): the candidate pool, and so the room at the agents, is the same for a whole lane. A claim
takes the best of each org's lanes, each up to the room its pool has, and shares out what a dispatcher can carry between the
orgs by weight, in one script (`queue.lua`, with the table of keys). docs/queue.md tells the rules.
All of it can be rebuilt from the database (`loader.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
ORGS_AT_ONCE = 64
"""Orgs looked at for one batch; of more, those that waited longest for a look."""
CONTESTS_AT_ONCE = 100
KEYS_SHOWN = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Concurrency:
    """At most `limit` tasks of the org with this key are in flight; `mode` says what becomes of one more."""

    key: str
    limit: int
    mode: str


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueItem:
    key: str
    lane: str
    priority: int
    sequence: int
    not_before_ms: int = 0
    concurrency: Concurrency | None = None

    @property
    def member(self) -> str:
        """Sorts by arrival among equal priorities."""
        return f"{self.sequence:016x}:{self.key}"

    @property
    def keyed(self) -> str:
        found = self.concurrency
        return json.dumps([found.key, found.limit, found.mode]) if found else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    org_id: str
    key: str
    lane: str
    ticket: str
    """What Redis knows it by."""
    keyed: bool = False
    """It has a concurrency key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    org_id: str
    lane: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one org may take of a claim."""

    org_id: str
    room: Mapping[str, int]
    """lane -> how many its agents have room for"""
    weight: float = 1.0
    max_inflight: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """One org with something in its lanes."""

    org_id: str
    aging: float
    """Points a minute by which its lanes are ordered now."""
    in_flight: int
    lanes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """A task whose key is full and whose mode cancels somebody: the newest, or those that run."""

    org_id: str
    task_key: str
    sequence: int
    ticket: str
    concurrency: Concurrency
    there: tuple[tuple[int, str], ...]
    """(sequence, task key) of those that have a place, oldest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What a dispatcher sees before it claims."""

    alive: int
    """Drains that look at the queue."""
    active: int
    """Orgs served in the last moments."""
    waiting: list[Waiting] = field(default_factory=list)
    contests: list[Contest] = field(default_factory=list)


def item_of(task: Task) -> QueueItem:
    return QueueItem(
        key=task.key,
        lane=task.job_space_id,
        priority=task.priority,
        sequence=task.sequence,
        not_before_ms=clock.to_ms(task.not_before) if task.not_before else 0,
        concurrency=concurrency_of(task.concurrency_key, task.concurrency_limit, task.concurrency_mode),
    )


def concurrency_of(key: str, limit: int, mode: str) -> Concurrency | None:
    return Concurrency(key=key, limit=limit, mode=mode) if key else None


def place_of(key: str, sequence: int, concurrency_key: str) -> str:
    """What a hold on the task occupies; "" without a concurrency key."""
    return json.dumps([concurrency_key, f"{sequence:016x}:{key}"]) if concurrency_key else ""


@lru_cache(maxsize=1)
def _script() -> Any:
    return redis.script(redis.PLACES, Path(__file__).with_name("queue.lua"))


def run(verb: str, *arguments: Any) -> Any:
    """One verb of the script."""
    return _script()(keys=[redis.key()], args=[verb, *arguments], client=redis.client())


class PriorityQueue:
    def push(self, org_id: str, items: Sequence[QueueItem], *, now: datetime) -> int:
        """Add items (or move delayed ones whose time has come); answers how many drains are alive to see them."""
        alive = 0
        for start in range(0, len(items), PUSH_CHUNK):
            part = items[start : start + PUSH_CHUNK]
            flat = [x for item in part for x in (item.lane, item.priority, item.member, item.not_before_ms, item.keyed)]
            alive = run("push", clock.to_ms(now), org_id, *flat)
        return alive

    def tick(self, *, now: datetime) -> int:
        """Return due items and lapsed claims to their queues."""
        return run("tick", clock.to_ms(now), TICK_LIMIT)

    def lanes(self) -> list[Lane]:
        return [
            Lane(org_id=org_id, lane=flat[i], size=flat[i + 1]) for org_id, flat in run("lanes") for i in range(0, len(flat), 2)
        ]

    def look(self, *, now: datetime, drain_id: str = "", seconds: float = 0.0) -> View:
        """A tick, and then who has something to claim, and what has to be decided first. One round trip. `drain_id`: who looks;
        this drain has no batch, and is alive for `seconds` more."""
        until = clock.to_ms(now + timedelta(seconds=seconds))
        alive, active, orgs, contests = run(
            "look", clock.to_ms(now), TICK_LIMIT, ORGS_AT_ONCE, CONTESTS_AT_ONCE, drain_id, until
        )
        waiting = [
            Waiting(org_id=org_id, aging=float(slope), in_flight=in_flight, lanes=tuple(flat[::2]))
            for org_id, slope, in_flight, flat in orgs
        ]
        return View(alive=alive, active=active, waiting=waiting, contests=[_contest(*found) for found in contests])

    def claim(self, org_id: str, room: Mapping[str, int], *, limit: int, now: datetime, max_inflight: int | None = None) -> list[Claim]:
        """Take up to `limit` items of one org, best first, at most `room[lane]` from each lane."""
        return self.claim_fairly([Share(org_id=org_id, room=room, max_inflight=max_inflight)], limit=limit, now=now)[0]

    def claim_fairly(
        self, shares: Sequence[Share], *, limit: int, now: datetime, drain_id: str = "", few_first: bool = True
    ) -> tuple[list[Claim], bool]:
        """Take up to `limit` items of several orgs: each org's best first, each org by its weight. Also says whether to look
        again when these are dealt with; if not, nothing is left that could be claimed now, and whatever changes that wakes
        a drain. `drain_id`: who claims. Of several drains one stays free of those orgs that have more than their share, and
        each takes either theirs or those of the others: the others' if `few_first`."""
        flat: list[Any] = []
        for share in shares:
            most = -1 if share.max_inflight is None else share.max_inflight
            flat += [share.org_id, share.weight, most, len(share.room), *(x for lane in share.room.items() for x in lane)]
        if not flat or limit <= 0:
            return [], False
        until = clock.to_ms(now + timedelta(seconds=CLAIM_SECONDS))
        again, *found = run("claim", clock.to_ms(now), until, drain_id, limit, int(few_first), *flat)
        return [_claim(found[i], bool(found[i + 1])) for i in range(0, len(found), 2)], bool(again)

    def keep(self, claims: Sequence[Claim], *, now: datetime) -> list[bool]:
        """Go on holding these; False for one that has lapsed meanwhile: it may be another's by now."""
        until = clock.to_ms(now + timedelta(seconds=CLAIM_SECONDS))
        return [bool(kept) for kept in run("keep", until, *(claim.ticket for claim in claims))] if claims else []

    def settle(self, claims: Iterable[Claim], *, dispatched: Sequence[Claim] = (), now: datetime | None = None) -> None:
        """These claims are dealt with: `dispatched` went to agents, `claims` did not."""
        tickets = [claim.ticket for claim in (*dispatched, *claims)]
        if tickets:
            run("settle", clock.to_ms(now or clock.now()), len(dispatched), *tickets)

    def release(self, claims: Iterable[Claim], *, weight: float = 1.0) -> None:
        """Back to the same place in the queue; the org is not counted as served by them. `weight`: the org's."""
        if tickets := [claim.ticket for claim in claims]:
            run("release", f"{1 / weight:.17g}", *tickets)

    def defer(self, claims: Iterable[Claim], *, until: datetime) -> None:
        """Claimed, and to wait until then."""
        if tickets := [claim.ticket for claim in claims]:
            run("defer", clock.to_ms(until), *tickets)

    def admit(self, contests: Iterable[Contest]) -> None:
        """These contests are won: to their lanes."""
        if tickets := [contest.ticket for contest in contests]:
            run("admit", *tickets)

    def remove(self, org_id: str, items: Iterable[QueueItem]) -> int:
        wanted = list(items)
        removed = 0
        for start in range(0, len(wanted), PUSH_CHUNK):
            removed += run("remove", org_id, *(x for item in wanted[start : start + PUSH_CHUNK] for x in (item.lane, item.member)))
        return removed

    def reprice(self, org_id: str, items: Sequence[QueueItem]) -> int:
        """Give items another priority, wherever they wait; answers how many were there."""
        found = 0
        for start in range(0, len(items), PUSH_CHUNK):
            part = items[start : start + PUSH_CHUNK]
            found += run("reprice", org_id, *(x for item in part for x in (item.lane, item.member, item.priority)))
        return found

    def age(self, org_id: str, points_per_minute: float) -> int:
        """Order the org's lanes by another slope of aging; answers how many items were scored again."""
        return run("age", org_id, f"{points_per_minute:.17g}")

    def missing(self, org_id: str, items: Sequence[QueueItem]) -> list[QueueItem]:
        """Those of the items that Redis does not know in any form. Puts right the place of those it knows by an old priority."""
        found: list[QueueItem] = []
        for start in range(0, len(items), PUSH_CHUNK):
            chunk = items[start : start + PUSH_CHUNK]
            indexes = run("missing", org_id, *(x for item in chunk for x in (item.lane, item.member, item.priority)))
            found += [chunk[int(index) - 1] for index in indexes]
        return found

    def position(self, org_id: str, item: QueueItem) -> int | None:
        """0 is next in its lane; None when it is not waiting."""
        return redis.client().zrank(redis.key("queue", org_id, item.lane), item.member)

    def size(self, org_id: str) -> int:
        """Items waiting now, in all lanes of the org (delayed and claimed ones not counted)."""
        return sum(lane.size for lane in self.lanes() if lane.org_id == org_id)

    # Drains: the dispatchers that look at the queue right now.

    def leave(self, drain_id: str) -> bool:
        """This drain looks no more. True when work is waiting (it may have come after the last look)."""
        return bool(run("leave", drain_id))

    def nudge(self, *, now: datetime) -> tuple[bool, int]:
        """Somebody may have room now: wake the waiting drains. (work is waiting, drains alive)."""
        waiting, alive = run("nudge", clock.to_ms(now))
        return bool(waiting), alive

    def wait(self, seconds: float) -> bool:
        """Block until something may have changed, at most `seconds`. True when woken."""
        return redis.client().blpop([redis.key("wake")], timeout=seconds) is not None


def _claim(ticket: str, keyed: bool) -> Claim:
    org_id, lane, member = json.loads(ticket)
    return Claim(org_id=org_id, key=member[17:], lane=lane, ticket=ticket, keyed=keyed)


def _contest(ticket: str, key: str, limit: int, mode: str, there: Sequence[str]) -> Contest:
    org_id, _, member = json.loads(ticket)
    return Contest(
        org_id=org_id,
        task_key=member[17:],
        sequence=int(member[:16], 16),
        ticket=ticket,
        concurrency=Concurrency(key=key, limit=limit, mode=mode),
        there=tuple(sorted((int(other[:16], 16), other[17:]) for other in there)),
    )
