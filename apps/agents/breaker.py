"""The circuit breaker of an agent: after so many failures in a row it gets nothing for a while, then one task to try.

Derived from the evidence alone: `fold` goes through an agent's ended attempts and says where its breaker stands. Redis keeps
the answer; when it is lost, the evidence gives the same one again.

- closed: `breaker_failures` failures in a row open it. A success starts the count anew.
- open until the cooling time is over (`breaker_cooling_s`, doubled with each probe that fails, up to `breaker_cooling_max_s`).
- then half-open: one task at a time. Its success closes the breaker, its failure opens it for longer. What was given before
  the cooling was over says nothing and is passed over.

An agent that dies takes all its tasks with it, so losses close together are one incident and count once. An incident that a
task is to blame for (it crashed other agents too) is excused; but an excuse has an end: five times the failures in a row,
excused or not, without one success between them, open the breaker all the same. (Agents that are all broken crash on the
same tasks, and would excuse each other for ever.)

<p>:breakers:<org>          HASH    agent -> JSON [opened_ms, until_ms, trips, because]; only those not closed; "" -> "" when
                                    it has been derived. Expires, and is derived anew
<p>:probe:<org>:<agent>     STRING  which dispatcher may try it; expires
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import orjson

from apps.agents.models import AgentRecord, Evidence
from apps.core import clock, redis
from apps.orgs.config_store import OrgConfig, OrgConfigProvider

log = logging.getLogger(__name__)

NEWEST = 200
"""Attempts of an agent that are looked at."""
HORIZON = timedelta(days=1)
KEPT_SECONDS = 3600
PROBE_SECONDS = 5
INCIDENT_MIN_SECONDS = 15.0
EXCUSED_MAX = 5
"""Times `breaker_failures`."""
BAD = ("failed", "lost", "rejected")


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """`until`: when it may be tried; None while it is closed."""

    opened_at: datetime | None = None
    until: datetime | None = None
    trips: int = 0
    """How often it has opened since it was last closed."""
    because: str = ""
    """One sentence: why it opened."""

    def state(self, now: datetime) -> State:
        if self.until is None:
            return State.CLOSED
        return State.OPEN if now < self.until else State.HALF_OPEN

    def bar(self, now: datetime) -> str:
        """Why it gets nothing; "" when it may."""
        if self.state(now) is State.OPEN:
            return f"circuit breaker open until {clock.iso(self.until)}: {self.because}"
        return ""


CLOSED = Breaker()


def fold(rows: Iterable[Evidence], config: OrgConfig) -> Breaker:
    """Pure: an agent's evidence, oldest first, to where its breaker stands."""
    rows = list(rows)
    limit = config.breaker_failures
    if not limit:
        return CLOSED
    incidents = _incidents(rows, max(INCIDENT_MIN_SECONDS, config.lease_seconds))
    standing, counted, excused = CLOSED, 0, 0
    for row in rows:
        if standing.until is not None and row.assigned_at < standing.until:
            continue
        if row.outcome == Evidence.Outcome.COMPLETED:
            standing, counted, excused = CLOSED, 0, 0
        elif row.outcome in BAD:
            is_lost = row.outcome == Evidence.Outcome.LOST
            if is_lost and row.id not in incidents:
                continue  # of an incident that has been counted
            fault = not (is_lost and incidents[row.id])
            if standing.until is not None:
                if fault:
                    standing = _opened(row, standing.trips + 1, "the task it was given to try ended as " + row.outcome, config)
                continue
            counted, excused = counted + fault, excused + (not fault)
            if counted >= limit or counted + excused >= EXCUSED_MAX * limit:
                said = f"{counted + excused} failures in a row"
                standing, counted, excused = _opened(row, 1, f"{said}, the last one {row.outcome}", config), 0, 0
    return standing


def _opened(row: Evidence, trips: int, because: str, config: OrgConfig) -> Breaker:
    cooling = min(config.breaker_cooling_s * 2 ** min(trips - 1, 30), max(config.breaker_cooling_max_s, config.breaker_cooling_s))
    return Breaker(opened_at=row.ended_at, until=row.ended_at + timedelta(seconds=cooling), trips=trips, because=because)


def _incidents(rows: Sequence[Evidence], seconds: float) -> dict[str, bool]:
    """The first loss of each incident, and whether the incident is excused."""
    found: dict[str, bool] = {}
    first: Evidence | None = None
    for row in rows:
        if row.outcome != Evidence.Outcome.LOST:
            continue
        if first is None or (row.ended_at - first.ended_at).total_seconds() > seconds:
            first, found[row.id] = row, row.excused
        else:
            found[first.id] = found[first.id] or row.excused
    return found


class BreakerBoard:
    """The breakers of one org."""

    def __init__(self, org_id: str) -> None:
        self.org_id = org_id
        self._name = redis.key("breakers", org_id)

    def all(self, *, now: datetime) -> dict[str, Breaker]:
        """Those that are not closed, by agent."""
        kept = redis.client().hgetall(self._name)
        if not kept:
            return self.derive(now=now)
        return {agent: _read(text) for agent, text in kept.items() if agent}

    def derive(self, *, now: datetime) -> dict[str, Breaker]:
        """All of them from the evidence, and kept."""
        suspects = Evidence.objects.filter(org_id=self.org_id, ended_at__gte=now - HORIZON, outcome__in=BAD)
        agents = set(suspects.order_by().values_list("agent", flat=True).distinct())
        found = self._folded(agents, now)
        with redis.client().pipeline(transaction=True) as pipeline:
            pipeline.delete(self._name)
            pipeline.hset(self._name, mapping={"": "", **{agent: _text(one) for agent, one in found.items()}})
            pipeline.expire(self._name, KEPT_SECONDS)
            pipeline.execute()
        return found

    def update(self, agents: Iterable[str], *, now: datetime) -> None:
        """After new evidence on these."""
        wanted = set(agents)
        before = self.all(now=now)
        after = self._folded(wanted, now)
        with redis.client().pipeline(transaction=False) as pipeline:
            if closed := [agent for agent in wanted if agent in before and agent not in after]:
                pipeline.hdel(self._name, *closed)
            if after:
                pipeline.hset(self._name, mapping={agent: _text(one) for agent, one in after.items()})
            pipeline.execute()
        for agent in wanted:
            was, is_now = before.get(agent, CLOSED), after.get(agent, CLOSED)
            if was.until != is_now.until:
                verb = "breaker.closed" if is_now.until is None else "breaker.opened"
                log.warning(verb, extra={"org": self.org_id, "agent": agent, "trips": is_now.trips, "because": is_now.because})

    def may_probe(self, agent: str) -> bool:
        """Whether this process is the one that may give a half-open agent its task; it stays so for a few seconds."""
        name, mine = redis.key("probe", self.org_id, agent), str(os.getpid())
        holder = redis.client().set(name, mine, nx=True, ex=PROBE_SECONDS, get=True)
        return holder is None or holder == mine

    def _folded(self, agents: Iterable[str], now: datetime) -> dict[str, Breaker]:
        config = OrgConfigProvider().of(self.org_id)
        resets = dict(
            AgentRecord.objects.filter(org_id=self.org_id, subject_id__in=list(agents))
            .exclude(breaker_since=None)
            .values_list("subject_id", "breaker_since")
        )
        found = {}
        for agent in agents:
            since = max(now - HORIZON, resets.get(agent) or now - HORIZON)
            rows = Evidence.objects.filter(org_id=self.org_id, agent=agent, ended_at__gt=since).order_by("-ended_at")
            rows = rows.only("id", "outcome", "excused", "assigned_at", "ended_at")[:NEWEST]
            standing = fold(reversed(list(rows)), config)
            if standing.until is not None:
                found[agent] = standing
        return found


def _text(one: Breaker) -> str:
    return orjson.dumps([clock.to_ms(one.opened_at), clock.to_ms(one.until), one.trips, one.because]).decode()


def _read(text: str) -> Breaker:
    opened_ms, until_ms, trips, because = orjson.loads(text)
    return Breaker(opened_at=clock.from_ms(opened_ms), until=clock.from_ms(until_ms), trips=trips, because=because)
