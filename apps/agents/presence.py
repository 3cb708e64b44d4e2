"""Who is up: written from agents' heartbeats, read by dispatchers, a whole pool in one round trip.

<p>:presence:<org>   HASH   agent -> JSON [seen_ms, slots, newest instance, {instance: [seen_ms, slots, intake]}, intake]
                            forgotten an hour after the last heartbeat of the org
<p>:load:<org>       HASH   agent -> open deliveries (see holds.lua)

One agent may run in several processes (instances): their slots add up. Each says whether it takes work (its intake).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from apps.core import clock, redis

AWAY_AFTER_SECONDS = 15
"""Three missed heartbeats."""
FORGET_AFTER_SECONDS = 3600
MANY = 50
"""Asking about more agents than so many, the whole board is read at once."""


ORGS_KEPT = 1000


class Presence(StrEnum):
    PRESENT = "present"
    AWAY = "away"
    """Has been here and is not now: not chosen until seen again."""
    UNKNOWN = "unknown"
    """Never announced itself (or not for an hour): trusted to pick up what waits for it."""


class Intake(StrEnum):
    """What an agent says of itself."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One process of an agent."""

    name: str
    seen_at: datetime
    slots: int
    intake: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentState:
    presence: Presence
    slots: int
    """Tasks it works on at once, as announced; 0 when it never did."""
    load: int
    """Open deliveries."""
    intake: str = Intake.OPEN
    seen_ms: int = 0
    """When it was last heard; 0 when nobody remembers."""
    instance_facts: dict[str, list[Any]] = field(default_factory=dict)

    def instances(self, *, now: datetime) -> list[Instance]:
        """Those heard lately, newest first."""
        found = [
            Instance(name=name, seen_at=clock.from_ms(seen), slots=slots, intake=intake)
            for name, (seen, slots, intake) in self.instance_facts.items()
            if not _is_away(seen, now)
        ]
        return sorted(found, key=lambda one: (one.seen_at, one.name), reverse=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """What a heartbeat changed."""

    fresh: bool
    """There may be room that was not there before."""
    was: str
    """The agent's intake before; "" when it was not known."""
    intake: str


@lru_cache(maxsize=1)
def _script() -> Any:
    return redis.script(Path(__file__).with_name("presence.lua"))


class PresenceBoard:
    def record(
        self, org_id: str, agent: str, *, slots: int, instance: str, leaving: bool, now: datetime, intake: str = Intake.OPEN
    ) -> bool:
        """A heartbeat came. True when the agent was not present before, or is another process now: there may be new room."""
        return self.hear(org_id, agent, slots=slots, instance=instance, leaving=leaving, intake=intake, now=now).fresh

    def hear(self, org_id: str, agent: str, *, slots: int, instance: str, leaving: bool, intake: str, now: datetime) -> Beat:
        """The same, with what it says of itself."""
        arguments = [agent, clock.to_ms(now), slots, instance, int(leaving), intake, AWAY_AFTER_SECONDS * 1000, FORGET_AFTER_SECONDS]
        texts = _script()(keys=[redis.key("presence", org_id)], args=arguments, client=redis.client())
        before, after = (orjson.loads(text) if text else None for text in texts)
        was, is_now = (before[4] if before else ""), after[4]
        if leaving or is_now != Intake.OPEN:
            return Beat(fresh=False, was=was, intake=is_now)
        known = (before[3] or {}) if before else {}
        same = before and instance in known and before[1] == after[1] and was == is_now and not _is_away(before[0], now)
        return Beat(fresh=not same, was=was, intake=is_now)

    def states(self, org_id: str, agents: Sequence[str], *, now: datetime) -> dict[str, AgentState]:
        if not agents:
            return {}
        if len(agents) > MANY:
            seen_by, load_by = self._whole(org_id)
        else:
            with redis.client().pipeline(transaction=False) as pipeline:
                pipeline.hmget(redis.key("presence", org_id), agents)
                pipeline.hmget(redis.key("load", org_id), agents)
                seen, loads = pipeline.execute()
            seen_by, load_by = dict(zip(agents, seen, strict=True)), dict(zip(agents, loads, strict=True))
        return _states(org_id, agents, seen_by, load_by, clock.to_ms(now))

    def _whole(self, org_id: str) -> tuple[dict[str, str], dict[str, str]]:
        """agent -> what was seen, agent -> load; of everybody in the org."""
        keys = [redis.key("presence", org_id), redis.key("load", org_id)]
        seen, loads = orjson.loads(_board()(keys=keys, client=redis.client()))
        # An empty table is {} in the script's JSON, a full one a flat list.
        whos, whats = [dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {} for flat in (seen, loads)]
        return whos, whats

    def seen(self, org_id: str) -> dict[str, datetime]:
        """Everybody of the org who is remembered, and when they were last heard."""
        return {agent: clock.from_ms(orjson.loads(raw)[0]) for agent, raw in redis.client().hgetall(redis.key("presence", org_id)).items()}


@lru_cache(maxsize=1)
def _board() -> Any:
    return redis.script(Path(__file__).with_name("board.lua"))


def _is_away(seen_ms: int, now: datetime) -> bool:
    return _is_past(seen_ms, clock.to_ms(now))


def _is_past(seen_ms: int, now_ms: int) -> bool:
    return now_ms - seen_ms > AWAY_AFTER_SECONDS * 1000


_read: dict[str, dict[str, tuple[str | None, str | None, float, float, AgentState]]] = {}
"""org -> agent -> what Redis said of it, from when until when (ms) that means the same, and what it means. Of a thousand
agents a handful has changed since the last batch."""


def _states(
    org_id: str, agents: Sequence[str], seen_by: dict[str, str | None], load_by: dict[str, str | None], now_ms: int
) -> dict[str, AgentState]:
    if org_id not in _read and len(_read) >= ORGS_KEPT:
        _read.clear()
    known = _read.setdefault(org_id, {})
    found = {}
    for agent in agents:
        raw, load = seen_by.get(agent), load_by.get(agent)
        kept = known.get(agent)
        if kept is None or kept[0] != raw or kept[1] != load or not kept[2] <= now_ms <= kept[3]:
            kept = known[agent] = (raw, load, *_state(raw, int(load or 0), now_ms))
        found[agent] = kept[4]
    return found


def _state(raw: str | None, load: int, now_ms: int) -> tuple[float, float, AgentState]:
    """From when until when, ms, and the state in that time."""
    if raw is None:
        return -math.inf, math.inf, AgentState(presence=Presence.UNKNOWN, slots=0, load=load)
    seen_ms, slots, _, instances, intake = orjson.loads(raw)
    away = _is_past(seen_ms, now_ms)
    edge = seen_ms + AWAY_AFTER_SECONDS * 1000
    state = AgentState(
        presence=Presence.AWAY if away else Presence.PRESENT,
        slots=slots,
        load=load,
        intake=Intake.OPEN if away else intake,
        seen_ms=seen_ms,
        instance_facts=instances or {},
    )
    return (edge + 1, math.inf, state) if away else (-math.inf, edge, state)
