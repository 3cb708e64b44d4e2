"""Enrolment: an operator invites, an agent brings the token, and has its API key. Once, and in time.

A token is `je_<enrolment id>_<secret>`; 256 random bits, kept as a SHA-256. Redeeming it is one conditional update, and the
key, the subject and its roles are made in the same transaction: of fifty who bring the same token one gets a key.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import router, transaction

from apps.agents import roster
from apps.agents.cards import Card
from apps.agents.models import Enrolment
from apps.agents.records import AgentBook
from apps.core import clock
from apps.core.errors import Conflict, Invalid, Missing, Problem, Unauthenticated
from apps.orgs import keys
from apps.orgs.audit import record
from apps.orgs.models import ApiKey, Change, Org
from apps.roles.book import RoleBook
from apps.roles.models import Role, Subject

LIFE_SECONDS = 24 * 3600
LIFE_MAX_SECONDS = 30 * 24 * 3600
KEY_LIFE_MIN_SECONDS, KEY_LIFE_MAX_SECONDS = 60, 10 * 365 * 24 * 3600
_PRINTED = re.compile(r"je_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = keys.hash_of("")


class NoSuchEnrolment(Missing):
    sentence = "There is no such enrolment."


class AlreadyRedeemed(Conflict):
    code, sentence = "already_redeemed", "The enrolment has been redeemed; revoke the agent instead."


class RoleGone(Conflict):
    code, sentence = "role_gone", "A role of this enrolment does not exist any more; ask for another enrolment."


@dataclass(frozen=True, kw_only=True, slots=True)
class Invitation:
    """What an operator asks for. Seconds; `key_lifetime_s` None: the key never ends."""

    subject_id: str
    role_ids: tuple[str, ...] = ()
    job_space_id: str = ""
    name: str = ""
    expires_in_s: float = LIFE_SECONDS
    key_lifetime_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class NewEnrolment:
    row: Enrolment
    printed: str
    """The only time it is seen."""


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    key: keys.NewKey
    enrolment: Enrolment


class EnrolmentDesk:
    """The enrolments of one org, in the name of `by`."""

    def __init__(self, org_id: str, *, by: str, now: datetime) -> None:
        self.org_id, self.by, self.now = org_id, by, now

    def invite(self, wish: Invitation) -> NewEnrolment:
        """Raises Invalid."""
        self.check(wish)
        enrolment_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        row = Enrolment(
            enrolment_id=enrolment_id, org_id=self.org_id, subject_id=wish.subject_id, role_ids=list(wish.role_ids),
            job_space_id=wish.job_space_id, name=wish.name, token_hash=keys.hash_of(secret), created_at=self.now, created_by=self.by,
            expires_at=self.now + timedelta(seconds=wish.expires_in_s), key_lifetime_s=wish.key_lifetime_s,
        )  # fmt: skip
        with transaction.atomic(using=router.db_for_write(Enrolment)):
            row.save(force_insert=True)
            self._note(row, None, {"enrolment": enrolment_id, "roles": row.role_ids, "expires_at": clock.iso(row.expires_at)})
        return NewEnrolment(row=row, printed=f"je_{enrolment_id}_{secret}")

    def one(self, enrolment_id: str) -> Enrolment:
        row = Enrolment.objects.filter(pk=enrolment_id, org_id=self.org_id).first()
        if row is None:
            raise NoSuchEnrolment()
        return row

    def withdraw(self, enrolment_id: str) -> Enrolment:
        """Its token opens nothing any more. Again is fine. Raises NoSuchEnrolment, AlreadyRedeemed."""
        row = self.one(enrolment_id)
        with transaction.atomic(using=router.db_for_write(Enrolment)):
            if Enrolment.objects.filter(pk=row.pk, redeemed_at=None, withdrawn_at=None).update(withdrawn_at=self.now):
                self._note(row, {"enrolment": row.pk}, {"enrolment": row.pk, "withdrawn": True})
            row.refresh_from_db()
        if row.redeemed_at is not None:
            raise AlreadyRedeemed()
        return row

    def check(self, wish: Invitation) -> None:
        """Whether it may be asked for. Raises Invalid with every problem."""
        problems = []
        try:
            keys.check(role=ApiKey.Role.AGENT, subject_id=wish.subject_id, expires_at=None, now=self.now)
            keys.on_the_wire(self.org_id, wish.subject_id)
        except Invalid as error:
            problems += error.problems
        known = Subject.objects.filter(org_id=self.org_id, subject_id=wish.subject_id).first()
        if known is not None and known.subject_type == Subject.Type.HUMAN:
            problems.append(Problem(field="subject_id", code="not_an_agent", message="is a person; an agent needs a subject of its own"))
        there = set(Role.objects.filter(org_id=self.org_id, role_id__in=wish.role_ids).values_list("role_id", flat=True))
        problems += [
            Problem(field=f"role_ids.{index}", code="unknown_role", message="there is no such role")
            for index, role_id in enumerate(wish.role_ids)
            if role_id not in there
        ]
        if problems:
            raise Invalid(problems)

    def _note(self, row: Enrolment, old: Any, new: Any) -> None:
        record(org_id=self.org_id, kind=Change.Kind.AGENT, key=row.subject_id, old=old, new=new, by=self.by, at=self.now)


def verify(printed: str, *, now: datetime) -> Enrolment:
    """The enrolment of a token that can still be redeemed. Raises Unauthenticated, always with the same words."""
    match = _PRINTED.fullmatch(printed)
    if match is None:
        raise Unauthenticated()
    row = Enrolment.objects.select_related("org").filter(pk=match[1]).first()
    # An unknown id is compared too, so that it takes as long as a wrong secret.
    right = hmac.compare_digest(keys.hash_of(match[2]), row.token_hash if row else _NOBODY)
    if not right or row is None or not row.org.is_active or state_of(row, now=now) != "open":
        raise Unauthenticated()
    return row


def redeem(enrolment: Enrolment, *, card: Card | None, now: datetime) -> Enrolled:
    """Make the agent what it was invited to be. Raises Unauthenticated when somebody else was faster, RoleGone, Invalid."""
    by = f"enrolment {enrolment.pk}"
    lifetime = enrolment.key_lifetime_s
    with transaction.atomic(using=router.db_for_write(Enrolment)):
        open_ones = Enrolment.objects.filter(pk=enrolment.pk, redeemed_at=None, withdrawn_at=None, expires_at__gt=now)
        if not open_ones.update(redeemed_at=now):
            raise Unauthenticated()
        made = keys.create(
            org=Org.objects.get(pk=enrolment.org_id),
            role=ApiKey.Role.AGENT,
            subject_id=enrolment.subject_id,
            name=enrolment.name,
            expires_at=now + timedelta(seconds=lifetime) if lifetime else None,
            by=by,
            now=now,
        )
        # Making the key made the subject, where there was none, and let it in again, where it was revoked.
        try:
            RoleBook(enrolment.org_id, by=by, now=now).grant(enrolment.subject_id, enrolment.role_ids, enrolment.job_space_id)
        except Invalid:
            raise RoleGone() from None
        if card is not None:
            AgentBook(enrolment.org_id, by=by, now=now).enter_card(enrolment.subject_id, card)
        Enrolment.objects.filter(pk=enrolment.pk).update(key_id=made.row.key_id)
        transaction.on_commit(lambda: roster.changed(enrolment.org_id), using=router.db_for_write(Enrolment))
    enrolment.redeemed_at, enrolment.key_id = now, made.row.key_id
    return Enrolled(key=made, enrolment=enrolment)


def state_of(row: Enrolment, *, now: datetime) -> str:
    """open, redeemed, withdrawn or expired."""
    if row.redeemed_at is not None:
        return "redeemed"
    if row.withdrawn_at is not None:
        return "withdrawn"
    return "open" if row.expires_at > now else "expired"
