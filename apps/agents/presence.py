"""Who is up: written from agents' heartbeats, read by dispatchers, a whole pool in one round trip.

<p>:presence:<org>   HASH   agent -> JSON [seen_ms, slots, instance]      forgotten an hour after the last heartbeat of the org
<p>:load:<org>       HASH   agent -> open deliveries (see holds.lua)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from apps.core import clock, redis

AWAY_AFTER_SECONDS = 15
"""Three missed heartbeats."""
FORGET_AFTER_SECONDS = 3600


class Presence(StrEnum):
    PRESENT = "present"
    AWAY = "away"
    """Has been here and is not now: not chosen until seen again."""
    UNKNOWN = "unknown"
    """Never announced itself (or not for an hour): trusted to pick up what waits for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentState:
    presence: Presence
    slots: int
    """Tasks it works on at once, as announced; 0 when it never did."""
    load: int
    """Open deliveries."""


class PresenceBoard:
    def record(self, org_id: str, agent: str, *, slots: int, instance: str, leaving: bool, now: datetime) -> bool:
        """A heartbeat came. True when the agent was not present before, or is another process now: there may be new room."""
        name = redis.key("presence", org_id)
        seen = now - timedelta(seconds=AWAY_AFTER_SECONDS + 1) if leaving else now
        before = redis.client().hget(name, agent)
        with redis.client().pipeline(transaction=False) as pipeline:
            pipeline.hset(name, agent, json.dumps([clock.to_ms(seen), slots, instance]))
            pipeline.expire(name, FORGET_AFTER_SECONDS)
            pipeline.execute()
        if leaving:
            return False
        if before is None:
            return True
        seen_ms, slots_before, instance_before = json.loads(before)
        return instance_before != instance or slots_before != slots or _is_away(seen_ms, now)

    def states(self, org_id: str, agents: Sequence[str], *, now: datetime) -> dict[str, AgentState]:
        if not agents:
            return {}
        with redis.client().pipeline(transaction=False) as pipeline:
            pipeline.hmget(redis.key("presence", org_id), agents)
            pipeline.hmget(redis.key("load", org_id), agents)
            seen, loads = pipeline.execute()
        return {agent: _state(raw, int(load or 0), now) for agent, raw, load in zip(agents, seen, loads, strict=True)}


def _is_away(seen_ms: int, now: datetime) -> bool:
    return clock.to_ms(now) - seen_ms > AWAY_AFTER_SECONDS * 1000


def _state(raw: str | None, load: int, now: datetime) -> AgentState:
    if raw is None:
        return AgentState(presence=Presence.UNKNOWN, slots=0, load=load)
    seen_ms, slots, _ = json.loads(raw)
    presence = Presence.AWAY if _is_away(seen_ms, now) else Presence.PRESENT
    return AgentState(presence=presence, slots=slots, load=load)
