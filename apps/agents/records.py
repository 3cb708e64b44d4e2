"""What operators, and agents themselves, decide about an agent: pause, drain, revoke, its card. Each change is one
transaction, stands on the audit trail, and holds from the next choice of an agent on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import router, transaction

from apps.agents import roster
from apps.agents.breaker import BreakerBoard
from apps.agents.cards import Card, read_card
from apps.agents.models import AgentRecord, Enrolment
from apps.agents.presence import Intake
from apps.core import events, redis
from apps.core.errors import Conflict, Invalid, Missing
from apps.orgs import keys
from apps.orgs.audit import record
from apps.orgs.keys import KeyMade
from apps.orgs.models import ApiKey, Change
from apps.roles.models import Subject

Mode = AgentRecord.Mode
PROBLEM_LENGTH = 1000


class NoSuchAgent(Missing):
    sentence = "There is no such agent."


class Revoked(Conflict):
    code, sentence = "revoked", "The agent is revoked; a new enrolment or key lets it in again."


class OtherMode(Conflict):
    """Fact `mode`: what it is in instead."""

    code, sentence, shown = "other_mode", "The agent is in another mode.", ("mode",)


class NotYours(Conflict):
    code, sentence = "set_by_an_operator", "An operator has done that, and only an operator can take it back."


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentChanged:
    """News, after the commit. `what`: paused, resumed, draining, undrained, revoked, readmitted, breaker_reset."""

    org_id: str
    subject_id: str
    what: str
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Revocation:
    record: AgentRecord
    keys: int
    told_nats: bool
    """False: NATS is away, and the agent stays connected until upkeep reaches it. It gets nothing all the same."""


class AgentBook:
    """The agents of one org, changed in the name of `by`. `own`: it is the agent itself that asks."""

    def __init__(self, org_id: str, *, by: str, now: datetime, own: bool = False) -> None:
        self.org_id, self.by, self.now, self.own = org_id, by, now, own

    def pause(self, subject_id: str, reason: str = "") -> AgentRecord:
        """Nothing new for it; what it has it finishes. Again is fine. Raises NoSuchAgent, Revoked."""
        return self._into(subject_id, Mode.PAUSED, reason, "paused")

    def drain(self, subject_id: str, reason: str = "") -> AgentRecord:
        """As pause, on its way out: once nothing is left with it, it is `drained`."""
        return self._into(subject_id, Mode.DRAINING, reason, "draining")

    def resume(self, subject_id: str, reason: str = "") -> AgentRecord:
        """Raises OtherMode when it is draining, NotYours when the agent would lift what an operator did."""
        return self._out_of(subject_id, Mode.PAUSED, reason, "resumed")

    def undrain(self, subject_id: str, reason: str = "") -> AgentRecord:
        return self._out_of(subject_id, Mode.DRAINING, reason, "undrained")

    def reset_breaker(self, subject_id: str, reason: str = "") -> AgentRecord:
        """Its circuit breaker forgets what was until now."""
        with self._changing(subject_id) as row:
            row.breaker_since = self.now
            row.save()
            self._note(subject_id, None, {"breaker": "reset", "reason": reason})
        try:
            BreakerBoard(self.org_id).update([subject_id], now=self.now)
        except redis.RedisDown as error:
            redis.log_away(error)  # derived with this mark when it is back
        self._tell(subject_id, "breaker_reset", reason)
        return row

    def revoke(self, subject_id: str, reason: str = "") -> Revocation:
        """Out at once: its keys open nothing, its enrolments are withdrawn, its connections closed, its tasks given to others.
        Again is fine (and tells NATS again)."""
        with self._changing(subject_id, revoked=True) as row:
            is_new = row.revoked_at is None
            if is_new:
                row.revoked_at, row.revoked_by, row.revoke_reason = self.now, self.by, reason
                row.save()
                self._note(subject_id, {"revoked": False}, {"revoked": True, "reason": reason})
            open_invitations = Enrolment.objects.filter(org_id=self.org_id, subject_id=subject_id, redeemed_at=None, withdrawn_at=None)
            open_invitations.update(withdrawn_at=self.now)
        closed, told = keys.revoke_of(self.org_id, subject_id, role=ApiKey.Role.AGENT, by=self.by, now=self.now)
        self._tell(subject_id, "revoked", row.revoke_reason)
        return Revocation(record=row, keys=closed, told_nats=told)

    def announce(self, subject_id: str, card: Any) -> bool:
        """Its card, as decoded JSON; whether anything changed. One that is not valid changes nothing but `card_problem`."""
        row = AgentRecord.objects.filter(org_id=self.org_id, subject_id=subject_id).first()
        try:
            new, problem = read_card(card, strict=False).json(), ""
        except Invalid as error:
            new, problem = row.card if row else None, str(error)[:PROBLEM_LENGTH]
        if row is not None and (row.card, row.card_problem) == (new, problem):
            return False
        with self._changing(subject_id, revoked=True) as row:
            if new != row.card:
                row.card, row.card_at = new, self.now
            row.card_problem = problem
            row.save()
        return True

    def enter_card(self, subject_id: str, card: Card) -> None:
        """A card that came with an enrolment, inside its transaction."""
        row = self._row(subject_id)
        row.card, row.card_at, row.card_problem = card.json(), self.now, ""
        row.save()

    def note_intake(self, subject_id: str, *, was: str, intake: str) -> None:
        """The agent says by itself that it takes work, or does not: for the audit trail."""
        with transaction.atomic(using=router.db_for_write(AgentRecord)):
            self._note(subject_id, {"intake": was or Intake.OPEN.value}, {"intake": intake})

    # ---- inside -----------------------------------------------------------------------------------------

    def _into(self, subject_id: str, mode: Mode, reason: str, what: str) -> AgentRecord:
        with self._changing(subject_id) as row:
            if row.mode == mode and row.mode_is_own == self.own:
                return row
            if self.own and row.mode != Mode.ACTIVE and not row.mode_is_own:
                raise NotYours()
            self._set(row, mode, reason)
        self._tell(subject_id, what, reason)
        return row

    def _out_of(self, subject_id: str, mode: Mode, reason: str, what: str) -> AgentRecord:
        with self._changing(subject_id) as row:
            if row.mode == Mode.ACTIVE:
                return row
            if row.mode != mode:
                raise OtherMode(f"The agent is {row.mode}.", mode=row.mode)
            if self.own and not row.mode_is_own:
                raise NotYours()
            self._set(row, Mode.ACTIVE, reason)
        self._tell(subject_id, what, reason)
        return row

    def _set(self, row: AgentRecord, mode: Mode, reason: str) -> None:
        old = row.mode
        row.mode, row.mode_reason, row.mode_by, row.mode_at = mode.value, reason, self.by, self.now
        row.mode_is_own, row.drained_at = self.own, None
        row.save()
        self._note(row.subject_id, {"mode": old}, {"mode": mode.value, "reason": reason})

    @contextmanager
    def _changing(self, subject_id: str, *, revoked: bool = False) -> Iterator[AgentRecord]:
        """The agent's row, held until the commit. Raises NoSuchAgent; Revoked unless `revoked` may be."""
        if not agents(self.org_id).filter(subject_id=subject_id).exists():
            raise NoSuchAgent()
        with transaction.atomic(using=router.db_for_write(AgentRecord)):
            row = self._row(subject_id)
            if row.revoked_at is not None and not revoked:
                raise Revoked()
            yield row
        roster.changed(self.org_id)

    def _row(self, subject_id: str) -> AgentRecord:
        AgentRecord.objects.get_or_create(org_id=self.org_id, subject_id=subject_id, defaults={"created_at": self.now})
        return AgentRecord.objects.select_for_update().get(org_id=self.org_id, subject_id=subject_id)

    def _note(self, subject_id: str, old: Any, new: Any) -> None:
        record(org_id=self.org_id, kind=Change.Kind.AGENT, key=subject_id, old=old, new=new, by=self.by, at=self.now)

    def _tell(self, subject_id: str, what: str, reason: str) -> None:
        events.publish(AgentChanged(org_id=self.org_id, subject_id=subject_id, what=what, reason=reason, by=self.by, at=self.now))


def agents(org_id: str) -> Any:
    """The subjects of an org that are agents: everybody but people."""
    return Subject.objects.filter(org_id=org_id).exclude(subject_type=Subject.Type.HUMAN)


def readmit(made: KeyMade) -> None:
    """Who gives a revoked agent a new key means it: it is let in again, as one that was never seen. Inside the key's transaction."""
    if made.role != ApiKey.Role.AGENT:
        return
    again = AgentRecord.objects.filter(org_id=made.org_id, subject_id=made.subject_id).exclude(revoked_at=None)
    if again.update(revoked_at=None, revoked_by="", revoke_reason="", last_seen_at=None):
        transaction.on_commit(lambda: roster.changed(made.org_id), using=router.db_for_write(AgentRecord))
