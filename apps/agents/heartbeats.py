"""Heartbeats: read from the wire, and what they change. An agent says that it is there, how much it can do, what it is
working on, whether it takes more, and now and then its whole card.

    {"instance": "…", "slots": 8, "running": [["t-1", 1]], "leaving": false, "intake": "open", "card": {…}}
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import router, transaction

from apps.agents import evidence, roster
from apps.agents.holds import Holds
from apps.agents.models import AgentRecord
from apps.agents.presence import Intake, PresenceBoard
from apps.agents.records import AgentBook, NoSuchAgent, agents
from apps.core import ids
from apps.messaging import subjects
from apps.orgs.config_store import OrgConfigProvider
from apps.orgs.models import Org

log = logging.getLogger(__name__)

RUNNING_MAX = 10_000
SLOTS_MAX = 10_000
CARD_BYTES = 16 * 1024
REMEMBERED = 20_000
SEEN_EVERY = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    org_id: str
    agent: str
    slots: int
    instance: str
    running: tuple[tuple[str, int], ...] = ()
    """(task id, attempt)"""
    leaving: bool = False
    intake: str = Intake.OPEN.value
    card: Any = None
    """As it came, not checked; None: not said this time."""


def read_heartbeat(subject: str, data: bytes) -> Heartbeat:
    """ValueError when it is none. Fields of newer agents are left alone."""
    org_id, agent = subjects.agent_of(subjects.parse_agent(subject))
    try:
        body = orjson.loads(data)
        slots, instance = int(body["slots"]), str(body.get("instance", ""))[:64]
        running = tuple((str(task_id), int(attempt)) for task_id, attempt in body.get("running", [])[:RUNNING_MAX])
        intake, card = body.get("intake", Intake.OPEN.value), body.get("card")
        leaving = body.get("leaving") is True
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not a heartbeat: {error}") from None
    if not isinstance(intake, str) or intake not in set(Intake):
        raise ValueError("intake is none of " + ", ".join(Intake))
    return Heartbeat(
        org_id=org_id, agent=agent, slots=max(1, min(slots, SLOTS_MAX)), instance=instance, running=running,
        leaving=leaving, intake=intake, card=card,
    )  # fmt: skip


class Ear:
    """Hears heartbeats; one per listener. Remembers the cards it has seen, so that saying one again costs nothing."""

    def __init__(self) -> None:
        self._board, self._holds, self._configs = PresenceBoard(), Holds(), OrgConfigProvider()
        self._cards: dict[tuple[str, str], bytes] = {}

    def hear(self, beat: Heartbeat, *, now: datetime) -> bool:
        """Record it; True when there may be room for work that was not there before."""
        change = self._board.hear(
            beat.org_id, beat.agent, slots=beat.slots, instance=beat.instance, leaving=beat.leaving, intake=beat.intake, now=now
        )
        if beat.running:
            lease = self._configs.of(beat.org_id).lease_seconds
            names = [ids.assignment_id(ids.task_key(beat.org_id, task_id), attempt) for task_id, attempt in beat.running]
            self._holds.extend(names, now=now, lease_seconds=lease, org_id=beat.org_id, agent=beat.agent)
        changed = self._card(beat, now) if beat.card is not None else False
        if change.intake != change.was and (change.was or change.intake != Intake.OPEN) and not beat.leaving:
            AgentBook(beat.org_id, by=f"agent:{beat.agent}", now=now).note_intake(beat.agent, was=change.was, intake=change.intake)
        return change.fresh or changed

    def _card(self, beat: Heartbeat, now: datetime) -> bool:
        name, said = (beat.org_id, beat.agent), orjson.dumps(beat.card, option=orjson.OPT_SORT_KEYS)
        if self._cards.get(name) == said:
            return False
        if len(said) > CARD_BYTES:
            log.warning("card.too_large", extra={"org": beat.org_id, "agent": beat.agent, "bytes": len(said)})
            return False
        try:
            changed = AgentBook(beat.org_id, by=f"agent:{beat.agent}", now=now).announce(beat.agent, beat.card)
        except NoSuchAgent:
            return False  # of a wire without authentication: nobody the org knows
        if len(self._cards) >= REMEMBERED:
            self._cards.clear()
        self._cards[name] = said
        return changed


def tend(*, now: datetime) -> None:
    """What upkeep does for agents every few seconds: figures, breakers, and once a minute who was seen when."""
    for org_id in _orgs():
        evidence.tend(org_id, now=now)
        seen = PresenceBoard().seen(org_id)
        if seen:
            _remember(org_id, seen)


def _orgs() -> Iterator[str]:
    yield from Org.objects.filter(is_active=True).values_list("pk", flat=True).iterator(chunk_size=1000)


def _remember(org_id: str, seen: dict[str, datetime]) -> None:
    known = dict(AgentRecord.objects.filter(org_id=org_id).values_list("subject_id", "last_seen_at"))
    later = {name: at for name, at in seen.items() if (last := known.get(name)) is None or at - last >= SEEN_EVERY}
    if not later:
        return
    new = [name for name in later if name not in known]
    first = any(known[name] is None for name in later if name in known)
    if new:
        there = list(agents(org_id).filter(subject_id__in=new).values_list("subject_id", flat=True))
        first = first or bool(there)
        rows = [AgentRecord(org_id=org_id, subject_id=name, last_seen_at=later[name], created_at=later[name]) for name in there]
        AgentRecord.objects.bulk_create(rows, ignore_conflicts=True)
    with transaction.atomic(using=router.db_for_write(AgentRecord)):
        for name, at in later.items():
            if name in known:
                AgentRecord.objects.filter(org_id=org_id, subject_id=name).update(last_seen_at=at)
    if first:
        roster.changed(org_id)  # it is known now to announce itself
