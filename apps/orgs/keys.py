"""API keys. `jp_<key id>_<secret>`, for agents followed by `.<NATS user JWT>`; shown once, stored as a hash.

The secret has 256 random bits, so one SHA-256 is as good as a slow hash and costs microseconds.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import router, transaction
from django.db.models import Q

from apps.core import clock, events
from apps.core.auth import Principal
from apps.core.errors import Invalid, Missing, Problem, Unauthenticated
from apps.messaging import credentials, subjects
from apps.orgs.audit import record
from apps.orgs.models import ApiKey, Change, Org, ShutKey

log = logging.getLogger(__name__)

SUBMITTER, OPERATOR, ORG_ADMIN, AGENT = (role.value for role in ApiKey.Role)

CACHE_SECONDS = 5.0
"""How long a process may go on believing a key after it was revoked elsewhere."""
CACHE_SIZE = 4096

_PRINTED = re.compile(r"jp_([A-Za-z0-9]{4,24})_([A-Za-z0-9_-]{20,128})")
_NOBODY = hashlib.sha256(b"").hexdigest()


class NoSuchKey(Missing):
    sentence = "There is no key with that id."


@dataclass(frozen=True, kw_only=True)
class NewKey:
    row: ApiKey
    printed: str
    """The only time it is seen."""


@dataclass(frozen=True, kw_only=True)
class KeyMade:
    """News, inside the transaction that made it."""

    org_id: str
    role: str
    subject_id: str


@dataclass(frozen=True, kw_only=True)
class _Known:
    principal: Principal
    secret_hash: str
    opens: bool
    expires_at: datetime | None
    loaded_at: float


class KeyRing:
    """Verifies keys, remembering each for at most CACHE_SECONDS."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: dict[str, _Known] = {}

    def verify(self, printed: str, *, now: datetime | None = None) -> Principal:
        """Whose key it is. Raises Unauthenticated, always with the same words."""
        match = _PRINTED.fullmatch(printed.partition(".")[0])
        if match is None:
            raise Unauthenticated()
        key_id, secret = match.groups()
        known = self._lookup(key_id)
        # An unknown id is compared too, so that it takes as long as a wrong secret.
        right = hmac.compare_digest(hash_of(secret), known.secret_hash if known else _NOBODY)
        if not right:
            raise Unauthenticated()
        return _opened(known, now)

    def holder(self, key_id: str, *, now: datetime | None = None) -> Principal:
        """Whose key it is, for work that the key has asked for before. Raises Unauthenticated when it opens nothing any more."""
        return _opened(self._lookup(key_id), now)

    def forget(self, key_id: str) -> None:
        self._known.pop(key_id, None)

    def forget_all(self) -> None:
        self._known.clear()

    def _lookup(self, key_id: str) -> _Known | None:
        at = self._monotonic()
        known = self._known.get(key_id)
        if known is not None and at - known.loaded_at < CACHE_SECONDS:
            return known
        row = ApiKey.objects.select_related("org").filter(pk=key_id).first()
        if row is None:
            return None
        known = _Known(
            principal=Principal(
                org_id=row.org_id, role=row.role, subject_id=row.subject_id, key_id=row.key_id, name=row.name,
                rate_limit_per_minute=row.rate_limit_per_minute, rate_limit_burst=row.rate_limit_burst,
            ),
            secret_hash=row.secret_hash,
            opens=row.revoked_at is None and row.org.is_active,
            expires_at=row.expires_at,
            loaded_at=at,
        )
        if len(self._known) >= CACHE_SIZE:
            self._known.clear()
        self._known[key_id] = known
        return known


def _opened(known: _Known | None, now: datetime | None) -> Principal:
    if known is None or not known.opens:
        raise Unauthenticated()
    if known.expires_at is not None and known.expires_at <= (now or clock.now()):
        raise Unauthenticated()
    return known.principal


ring = KeyRing()


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def create(
    *, org: Org, role: str, subject_id: str = "", name: str = "", expires_at: datetime | None = None,
    rate_limit_per_minute: float | None = None, rate_limit_burst: int | None = None, by: str, now: datetime,
) -> NewKey:
    """A new key of `org`; an agent's opens NATS too. Raises Invalid."""
    check(role=role, subject_id=subject_id, expires_at=expires_at, now=now)
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = ApiKey(key_id=key_id, org=org, role=role, subject_id=subject_id, name=name, created_at=now, expires_at=expires_at)
    row.rate_limit_per_minute, row.rate_limit_burst = rate_limit_per_minute, rate_limit_burst
    row.secret_hash = hash_of(secret)
    printed = f"jp_{key_id}_{secret}"
    if role == ApiKey.Role.AGENT:
        on_the_wire(org.pk, subject_id)
        on_nats = credentials.agent_credentials(org.pk, subject_id, secret, expires_at)
        row.nats_public_key = on_nats.public_key
        printed = f"{printed}.{on_nats.jwt}"
    with transaction.atomic(using=router.db_for_write(ApiKey)):
        row.save(force_insert=True)
        new = {"role": role, "subject_id": subject_id, "name": name, "expires_at": clock.iso(expires_at)}
        record(org_id=org.pk, kind=Change.Kind.API_KEY, key=key_id, old=None, new=new, by=by, at=now)
        events.publish(KeyMade(org_id=org.pk, role=role, subject_id=subject_id))
    return NewKey(row=row, printed=printed)


def check(*, role: str, subject_id: str, expires_at: datetime | None, now: datetime) -> None:
    """Whether such a key may be made. Raises Invalid with every problem."""
    problems = []
    if role not in ApiKey.Role.values:
        problems.append(Problem(field="role", code="unknown", message=f"must be one of {', '.join(ApiKey.Role.values)}"))
    if role == ApiKey.Role.AGENT and not subject_id:
        problems.append(Problem(field="subject_id", code="missing", message="an agent's key must name its subject"))
    if not subject_id.isprintable() or len(subject_id) > 180:
        problems.append(Problem(field="subject_id", code="wrong", message="must be at most 180 printable characters"))
    if expires_at is not None and expires_at <= now:
        problems.append(Problem(field="expires_at", code="past", message="must lie in the future"))
    if problems:
        raise Invalid(problems, "Such a key cannot be made.")


def on_the_wire(org_id: str, subject_id: str) -> None:
    """Whether NATS can name such an agent. Raises Invalid."""
    try:
        subjects.agent_token(org_id, subject_id)
    except ValueError as error:
        raise Invalid([Problem(field="subject_id", code="too_long", message=str(error))]) from None


@dataclass(frozen=True, kw_only=True)
class Revocation:
    row: ApiKey
    told_nats: bool
    """False: an agent's key, and NATS is away; upkeep tells it later (`credentials.revoke(revoked_on_nats())`)."""


def change(
    key_id: str, *, name: str, rate_limit_per_minute: float | None, rate_limit_burst: int | None, by: str, now: datetime
) -> None:
    """Another name or other limits; in force within CACHE_SECONDS everywhere. Raises NoSuchKey."""
    new = {"name": name, "rate_limit_per_minute": rate_limit_per_minute, "rate_limit_burst": rate_limit_burst}
    with transaction.atomic(using=router.db_for_write(ApiKey)):
        row = ApiKey.objects.filter(pk=key_id).first()
        if row is None:
            raise NoSuchKey(key_id=key_id)
        old = {field: getattr(row, field) for field in new}
        if old != new:
            ApiKey.objects.filter(pk=key_id).update(**new)
            record(org_id=row.org_id, kind=Change.Kind.API_KEY, key=key_id, old=old, new=new, by=by, at=now)
    ring.forget(key_id)


def revoke(key_id: str, *, by: str, now: datetime) -> Revocation:
    """The key opens nothing any more: at once in this process, within CACHE_SECONDS in every other; an agent's open
    connections to NATS are closed. Twice is harmless. Raises NoSuchKey."""
    with transaction.atomic(using=router.db_for_write(ApiKey)):
        row = ApiKey.objects.filter(pk=key_id).first()
        if row is None:
            raise NoSuchKey(key_id=key_id)
        if ApiKey.objects.filter(pk=key_id, revoked_at=None).update(revoked_at=now):
            row.revoked_at = now
            record(org_id=row.org_id, kind=Change.Kind.API_KEY, key=key_id, old={"revoked": False}, new={"revoked": True}, by=by, at=now)
    ring.forget(key_id)
    return Revocation(row=row, told_nats=_tell_nats([row], now))


def revoke_of(org_id: str, subject_id: str, *, role: str, by: str, now: datetime) -> tuple[int, bool]:
    """Revoke all keys of a subject in one role: (how many were open, whether NATS knows of all that are revoked)."""
    with transaction.atomic(using=router.db_for_write(ApiKey)):
        rows = list(ApiKey.objects.filter(org_id=org_id, subject_id=subject_id, role=role))
        closed = [row for row in rows if ApiKey.objects.filter(pk=row.pk, revoked_at=None).update(revoked_at=now)]
        for row in closed:
            record(org_id=org_id, kind=Change.Kind.API_KEY, key=row.key_id, old={"revoked": False}, new={"revoked": True}, by=by, at=now)
    for row in rows:
        ring.forget(row.key_id)
    return len(closed), _tell_nats(rows, now)


def _tell_nats(rows: Sequence[ApiKey], now: datetime) -> bool:
    names = [row.nats_public_key for row in rows if row.nats_public_key]
    if not names:
        return True
    try:
        credentials.revoke(names, now=now)
    except credentials.NotPushed as error:
        log.warning("key.revocation_not_told", extra={"keys": len(names), "problem": error.facts.get("problem", "")})
        return False
    return True


def revoked_on_nats() -> set[str]:
    """The NATS keys that must open nothing: of revoked API keys, of inactive organizations, and of those that were purged. What a
    NATS server must know, also one that lost its disk."""
    shut = Q(revoked_at__isnull=False) | Q(org__is_active=False)
    found = set(ApiKey.objects.filter(shut).exclude(nats_public_key="").values_list("nats_public_key", flat=True))
    lasting = Q(expires_at=None) | Q(expires_at__gt=clock.now())
    return found | set(ShutKey.objects.filter(lasting).values_list("nats_public_key", flat=True))


def org_switched(org_id: str, *, now: datetime) -> bool:
    """After an org was made inactive, or active again: its agents lose their connections, or may come back. Whether NATS
    knows; when it does not, upkeep tells it."""
    ring.forget_all()
    try:
        credentials.settle(revoked_on_nats, now=now)
    except credentials.NotPushed as error:
        log.warning("org.switch_not_told", extra={"org": org_id, "problem": error.facts.get("problem", "")})
        return False
    return True
