"""API keys: shown once, hashed, checked in constant time, and gone when revoked or expired."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core.errors import Unauthenticated
from apps.orgs import keys
from apps.orgs.models import ApiKey, Change
from tests.factories import NOON, make_org

pytestmark = pytest.mark.django_db


@pytest.fixture
def at():
    return [0.0]


@pytest.fixture
def ring(at):
    return keys.KeyRing(monotonic=lambda: at[0])


def new_key(**fields):
    return keys.create(org=make_org("acme"), **{"role": "submitter", "by": "tests", "now": NOON, **fields})


def test_a_new_key_opens_the_door_of_its_org(ring):
    made = new_key(subject_id="sam", name="CI")
    principal = ring.verify(made.printed, now=NOON)
    assert (principal.org_id, principal.role, principal.subject_id, principal.name) == ("acme", "submitter", "sam", "CI")
    assert principal.key_id == made.row.key_id and principal.is_authenticated


def test_the_secret_is_nowhere_in_the_database(ring):
    made = new_key()
    secret = made.printed.split("_", 2)[2]
    rows = [list(ApiKey.objects.values().get().values()), *Change.objects.values_list("old", "new", "key")]
    assert secret not in str(rows) and len(secret) >= 43


def test_what_follows_the_first_dot_is_for_nats_and_is_not_looked_at(ring):
    made = new_key(role="agent", subject_id="ada")
    assert ring.verify(made.printed + ".eyJ.abc.def", now=NOON).subject_id == "ada"


@pytest.mark.parametrize("spoil", [
    lambda key: "", lambda key: "jp_", lambda key: key[:-1], lambda key: key + "x", lambda key: key.replace("jp_", "jq_"),
    lambda key: "jp_000000000000_" + key.split("_", 2)[2], lambda key: key.upper(), lambda key: "." + key, lambda key: key + "\n",
    lambda key: " " + key, lambda key: key.split("_", 2)[2], lambda key: "jp_ключ_" + "x" * 43,
])  # fmt: skip
def test_anything_but_the_very_key_is_refused_with_the_same_words(ring, spoil):
    made = new_key()
    with pytest.raises(Unauthenticated) as refused:
        ring.verify(spoil(made.printed), now=NOON)
    assert refused.value.sentence == Unauthenticated.sentence and not refused.value.facts


def test_a_key_expires(ring):
    made = new_key(expires_at=NOON + timedelta(seconds=1))
    assert ring.verify(made.printed, now=NOON)
    with pytest.raises(Unauthenticated):
        ring.verify(made.printed, now=NOON + timedelta(seconds=1))


def test_revoking_is_felt_at_once_here_and_within_five_seconds_in_other_processes(at):
    made = new_key()
    elsewhere = keys.KeyRing(monotonic=lambda: at[0])
    assert keys.ring.verify(made.printed, now=NOON) and elsewhere.verify(made.printed, now=NOON)

    keys.revoke(made.row.key_id, by="tests", now=NOON)
    with pytest.raises(Unauthenticated):
        keys.ring.verify(made.printed, now=NOON)
    assert elsewhere.verify(made.printed, now=NOON)
    at[0] = keys.CACHE_SECONDS
    with pytest.raises(Unauthenticated):
        elsewhere.verify(made.printed, now=NOON)


def test_revoking_twice_is_harmless_and_told_once():
    made = new_key()
    first = keys.revoke(made.row.key_id, by="tests", now=NOON)
    again = keys.revoke(made.row.key_id, by="tests", now=NOON + timedelta(days=1))
    assert again.row.revoked_at == first.row.revoked_at == NOON
    assert Change.objects.filter(key=made.row.key_id).count() == 2  # made, revoked
    with pytest.raises(keys.NoSuchKey):
        keys.revoke("nokey", by="tests", now=NOON)


def test_the_keys_of_an_inactive_org_open_nothing(ring):
    made = new_key()
    org = make_org("acme")
    org.is_active = False
    org.save()
    with pytest.raises(Unauthenticated):
        ring.verify(made.printed, now=NOON)


def test_a_known_key_costs_no_query(ring, django_assert_num_queries):
    made = new_key()
    with django_assert_num_queries(1):
        for _ in range(10):
            ring.verify(made.printed, now=NOON)


def test_the_memory_of_keys_is_bounded(ring, monkeypatch):
    monkeypatch.setattr(keys, "CACHE_SIZE", 3)
    for _ in range(10):
        ring.verify(new_key().printed, now=NOON)
    assert len(ring._known) <= 3
