"""Agents and enrolments as JSON, for the API and the admin: what the rows, Redis and the evidence say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from apps.agents import cards, reputation, roster
from apps.agents.breaker import CLOSED, Breaker, BreakerBoard
from apps.agents.candidates import own_bar
from apps.agents.enrolment import state_of
from apps.agents.models import AgentRecord, Enrolment
from apps.agents.presence import AgentState, Presence, PresenceBoard
from apps.agents.reputation import Figures
from apps.core import clock, redis
from apps.roles.models import Subject

NOWHERE = AgentState(presence=Presence.UNKNOWN, slots=0, load=0)


def agents_json(org_id: str, subjects: Sequence[Subject], *, now: datetime) -> list[dict[str, Any]]:
    """Each agent in full, in a handful of reads for all. Without Redis: what the database knows."""
    names = [subject.subject_id for subject in subjects]
    records = {row.subject_id: row for row in AgentRecord.objects.filter(org_id=org_id, subject_id__in=names)}
    figures = reputation.figures(org_id, names, now=now)
    try:
        states = PresenceBoard().states(org_id, names, now=now)
        breakers = BreakerBoard(org_id).all(now=now)
    except redis.RedisDown as error:
        redis.log_away(error)
        states, breakers = {}, {}
    return [
        _agent(
            subject, records.get(subject.subject_id), states.get(subject.subject_id, NOWHERE),
            breakers.get(subject.subject_id, CLOSED), figures[subject.subject_id], now,
        )
        for subject in subjects
    ]  # fmt: skip


def _agent(
    subject: Subject, record: AgentRecord | None, state: AgentState, breaker: Breaker, figures: Figures, now: datetime
) -> dict[str, Any]:
    standing = roster.standing(record) if record else roster.NEW
    last = clock.from_ms(state.seen_ms) if state.seen_ms else record.last_seen_at if record else None
    presence = standing.presence(state.presence)
    present = presence is Presence.PRESENT
    bar = standing.bar or ("" if subject.is_active else "inactive") or own_bar(state) or breaker.bar(now)
    if not bar and presence is Presence.AWAY:
        bar = "away"
    return {
        "subject_id": subject.subject_id,
        "subject_type": subject.subject_type,
        "name": subject.name,
        "state": _state(subject, record),
        "reason": (record.revoke_reason if standing.revoked else record.mode_reason) if record else "",
        "by": (record.revoked_by if standing.revoked else record.mode_by) if record else "",
        "since": clock.iso(record.revoked_at or record.mode_at) if record else None,
        "barred": bar or None,
        "presence": presence.value,
        "intake": state.intake,
        "last_seen_at": clock.iso(last),
        "away_seconds": None if present or last is None else round((now - last).total_seconds(), 3),
        "slots": state.slots,
        "load": state.load,
        "instances": [
            {"instance": one.name, "seen_at": clock.iso(one.seen_at), "slots": one.slots, "intake": one.intake}
            for one in state.instances(now=now)
        ],
        "capabilities": list(cards.capabilities(subject.capabilities, standing.card)),
        "card": standing.card.json() if standing.card else None,
        "card_at": clock.iso(record.card_at) if record else None,
        "card_problem": record.card_problem if record else "",
        "breaker": {
            "state": breaker.state(now).value,
            "because": breaker.because,
            "opened_at": clock.iso(breaker.opened_at),
            "until": clock.iso(breaker.until),
            "trips": breaker.trips,
        },
        "reputation": figures_json(figures),
    }


def _state(subject: Subject, record: AgentRecord | None) -> str:
    """active, paused, draining, drained, revoked or inactive."""
    if record is not None and record.revoked_at is not None:
        return "revoked"
    if not subject.is_active:
        return "inactive"
    if record is None:
        return "active"
    return "drained" if record.drained_at else record.mode


def figures_json(figures: Figures) -> dict[str, Any]:
    found = asdict(figures)
    found["mean"] = found.pop("reputation")
    found["as_of"] = clock.iso(clock.from_ms(found.pop("as_of_ms")))
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in found.items()}


def enrolment_json(row: Enrolment, *, now: datetime) -> dict[str, Any]:
    return {
        "enrolment_id": row.pk,
        "subject_id": row.subject_id,
        "role_ids": row.role_ids,
        "job_space_id": row.job_space_id,
        "name": row.name,
        "state": state_of(row, now=now),
        "created_at": clock.iso(row.created_at),
        "created_by": row.created_by,
        "expires_at": clock.iso(row.expires_at),
        "key_lifetime_s": row.key_lifetime_s,
        "redeemed_at": clock.iso(row.redeemed_at),
        "withdrawn_at": clock.iso(row.withdrawn_at),
        "key_id": row.key_id or None,
    }
