"""Evidence taken down: ended attempts become rows, once each, and those who live from them are told.

Who tells may be early, late, doubled or dead; the row's id is the assignment's, so telling again changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.agents import reputation
from apps.agents.breaker import BreakerBoard
from apps.agents.models import Evidence
from apps.core import bulk, redis

PROMISED = {"promised_price": "price", "promised_eta_s": "eta_s", "promised_confidence": "confidence"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How one attempt ended. `promise` is what the agent said when it bid for the task; `price` what it charged."""

    assignment_id: str
    org_id: str
    agent: str
    task_key: str
    attempt: int
    outcome: str
    assigned_at: datetime
    ended_at: datetime
    excused: bool = False
    promise: Mapping[str, Any] | None = None
    price: float | None = None


def take_down(ended: Sequence[Ended], *, now: datetime) -> None:
    """Write these, and bring breakers up to date that they may open or close. Figures follow with the next upkeep."""
    if not ended:
        return
    bulk.insert_missing([_row(one) for one in ended])
    by_org: dict[str, list[Ended]] = {}
    for one in ended:
        by_org.setdefault(one.org_id, []).append(one)
    try:
        for org_id, group in by_org.items():
            reputation.note_new(org_id, {one.agent for one in group})
            board = BreakerBoard(org_id)
            bad = {one.agent for one in group if one.outcome not in ("completed", "declined")}
            # A success matters to a breaker that is not closed.
            if touched := bad | (board.all(now=now).keys() & {one.agent for one in group}):
                board.update(touched, now=now)
    except redis.RedisDown as error:
        redis.log_away(error)  # derived from the evidence when it is back


def excuse(task_keys: Sequence[str], *, now: datetime) -> None:
    """These tasks crashed several agents: none of their losses is held against anybody."""
    rows = list(Evidence.objects.filter(task_key__in=task_keys, outcome=Evidence.Outcome.LOST, excused=False))
    if not rows:
        return
    Evidence.objects.filter(pk__in=[row.pk for row in rows]).update(excused=True)
    try:
        for org_id in {row.org_id for row in rows}:
            agents = {row.agent for row in rows if row.org_id == org_id}
            reputation.note_new(org_id, agents)
            BreakerBoard(org_id).update(agents, now=now)
    except redis.RedisDown as error:
        redis.log_away(error)


def tend(org_id: str, *, now: datetime) -> int:
    """What upkeep does every few seconds: figures and open breakers, brought up to date."""
    if still_open := BreakerBoard(org_id).all(now=now):
        BreakerBoard(org_id).update(still_open, now=now)
    return reputation.tend(org_id, now=now)


def _row(one: Ended) -> Evidence:
    promise = one.promise if isinstance(one.promise, Mapping) else {}
    promised = {field: _number(promise.get(name)) for field, name in PROMISED.items()}
    return bulk.new(
        Evidence,
        id=one.assignment_id,
        org_id=one.org_id,
        agent=one.agent,
        task_key=one.task_key,
        attempt=one.attempt,
        outcome=one.outcome,
        excused=one.excused,
        assigned_at=one.assigned_at,
        ended_at=one.ended_at,
        seconds=max(0.0, (one.ended_at - one.assigned_at).total_seconds()),
        price=one.price,
        **promised,
    )


def _number(value: Any) -> float | None:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if usable else None
