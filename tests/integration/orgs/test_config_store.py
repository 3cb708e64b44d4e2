"""An org's configuration: the database is the truth, Redis a copy that is never believed when it is older."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from apps.core import redis as door
from apps.core.errors import Unavailable
from apps.orgs import config_store
from apps.orgs.config_keys import TABLE, OrgConfig, UnknownKey, WrongValue
from apps.orgs.config_store import NotSet, OrgConfigProvider, StaleVersion
from apps.orgs.models import Change, Org, OrgConfigParameter
from tests.factories import NOON, make_org
from tests.services import free_port

pytestmark = pytest.mark.django_db
real_commits = pytest.mark.django_db(transaction=True)


@pytest.fixture
def provider(redis):
    make_org("acme")
    return OrgConfigProvider()


@pytest.fixture
def redis_away(settings):
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port()}/0"
    door.reset()
    yield
    door.reset()


def put(provider, key, value, org_id="acme", **more):
    return provider.set(org_id, key, value, by="key k1", now=NOON, **more)


def test_an_org_that_set_nothing_wants_the_defaults(provider):
    assert provider.of("acme") == OrgConfig(version=0)
    assert provider.of("nobody") == OrgConfig(version=0)


def test_a_change_applies_from_the_next_read_on_and_raises_the_version(provider):
    assert put(provider, "max_attempts", 3) == 1
    assert put(provider, "agent_resolution_fallbacks", ["round_robin", "static"]) == 1
    assert put(provider, "max_attempts", 4) == 2
    config = provider.of("acme")
    assert (config.version, config.max_attempts, config.agent_resolution_fallbacks) == (3, 4, ("round_robin", "static"))
    assert config.lease_seconds == 20


def test_null_is_a_value_and_not_the_default(provider):
    put(provider, "approval_dsl_id", None)
    for _ in range(2):
        assert provider.of("acme").approval_dsl_id is None
    provider.unset("acme", "approval_dsl_id", by="me", now=NOON)
    assert provider.of("acme").approval_dsl_id == "approval/default"
    with pytest.raises(NotSet):
        provider.unset("acme", "approval_dsl_id", by="me", now=NOON)


def test_each_parameter_has_its_own_redis_key_with_an_end(provider, redis):
    put(provider, "max_attempts", 3)
    provider.of("acme")
    assert redis.get("jp:config:acme:max_attempts") == "3"
    names = redis.keys("jp:config:*")
    assert len(names) == len(TABLE) + 2 and all(0 < redis.ttl(name) <= config_store.FENCE_SECONDS for name in names)


def test_a_cached_read_is_one_round_trip_and_no_query(provider, redis, django_assert_num_queries):
    make_org("bolt")
    provider.of_many(["acme", "bolt"])
    before = redis.info("stats")["total_commands_processed"]
    with django_assert_num_queries(0):
        provider.of_many(["acme", "bolt"])
    assert redis.info("stats")["total_commands_processed"] - before == 2  # the MGET, and this INFO's predecessor


def test_orgs_do_not_see_each_other(provider):
    make_org("bolt")
    put(provider, "max_attempts", 3)
    put(provider, "max_attempts", 7, org_id="bolt")
    both = provider.of_many(["acme", "bolt"])
    assert (both["acme"].max_attempts, both["bolt"].max_attempts) == (3, 7)


@pytest.mark.parametrize("loss", ["flushall", "delete"])
def test_an_emptied_redis_is_filled_again_from_the_database(provider, redis, loss):
    put(provider, "max_attempts", 3)
    redis.flushall() if loss == "flushall" else redis.delete("jp:config:acme:max_attempts")
    assert provider.of("acme").max_attempts == 3
    assert redis.get("jp:config:acme:max_attempts") == "3"


def test_with_redis_away_reading_goes_on_and_changing_is_refused_whole(provider, redis_away):
    make_org("acme", max_attempts=3)
    assert provider.of("acme").max_attempts == 3
    with pytest.raises(Unavailable):
        put(provider, "max_attempts", 4)
    assert OrgConfigParameter.objects.get().value == 3
    assert Org.objects.get().config_version == 0 and not Change.objects.exists()


def test_a_value_that_the_table_would_refuse_never_gets_out(provider):
    make_org("acme", max_attempts=-1, lease_seconds=30)
    OrgConfigParameter.objects.create(org_id="acme", key="of_a_later_release", value=1, changed_at=NOON, changed_by="x")
    for _ in range(2):
        config = provider.of("acme")
        assert (config.max_attempts, config.lease_seconds) == (5, 30)


def test_setting_checks_key_and_value_and_stores_nothing_wrong(provider):
    with pytest.raises(UnknownKey, match="did you mean 'agent_resolution_strategy'"):
        put(provider, "agent_resolution_stratgy", "auction")
    with pytest.raises(WrongValue, match="did you mean 'auction'"):
        put(provider, "agent_resolution_strategy", "auktion")
    with pytest.raises(NotSet):
        put(provider, "max_attempts", 3, org_id="nobody")
    assert not OrgConfigParameter.objects.exists() and not Change.objects.exists()
    assert provider.of("acme").version == 0


def test_a_change_over_another_version_than_the_one_seen_is_a_conflict(provider):
    assert put(provider, "max_attempts", 3, if_version=0) == 1
    with pytest.raises(StaleVersion) as caught:
        put(provider, "max_attempts", 9, if_version=0)
    assert caught.value.version == 1
    assert put(provider, "max_attempts", 4, if_version=1) == 2
    assert provider.of("acme").max_attempts == 4


def test_every_change_is_in_the_audit_trail_and_stays_there(provider):
    put(provider, "max_attempts", 3)
    put(provider, "max_attempts", 4)
    provider.unset("acme", "max_attempts", by="root", now=NOON)
    rows = Change.objects.order_by("id").values_list("org_id", "kind", "key", "old", "new", "by")
    assert list(rows) == [
        ("acme", "config", "max_attempts", None, 3, "key k1"),
        ("acme", "config", "max_attempts", 3, 4, "key k1"),
        ("acme", "config", "max_attempts", 4, None, "root"),
    ]
    row = Change.objects.first()
    for tamper in (row.save, row.delete, Change.objects.all().delete, lambda: Change.objects.update(by="someone else")):
        with pytest.raises(TypeError):
            tamper()


# ---- races ------------------------------------------------------------------------------------------------


@real_commits
def test_a_reader_that_loaded_before_a_change_cannot_put_the_old_copy_back(provider, monkeypatch):
    """It reads the database, a change commits, and only then it fills the cache."""
    stored = OrgConfigProvider._stored
    late = OrgConfigProvider()

    def read_then_dawdle(self, org_ids):
        found = stored(self, org_ids)
        if self is late:
            put(provider, "max_attempts", 9)
        return found

    monkeypatch.setattr(OrgConfigProvider, "_stored", read_then_dawdle)
    late.of("acme")
    assert provider.of("acme").max_attempts == 9


def test_a_copy_below_the_fence_is_not_even_written(provider, redis):
    redis.set("jp:config:acme:@fence", 3)
    provider._fill("acme", 2, {"max_attempts": 2})
    assert redis.keys("jp:config:acme:*") == ["jp:config:acme:@fence"]
    provider._fill("acme", 3, {"max_attempts": 3})
    assert redis.get("jp:config:acme:max_attempts") == "3"


def test_a_copy_older_than_the_one_there_is_not_written_when_the_fence_is_gone(provider, redis):
    provider._fill("acme", 3, {"max_attempts": 3})
    provider._fill("acme", 2, {"max_attempts": 2})
    assert (redis.get("jp:config:acme:@version"), redis.get("jp:config:acme:max_attempts")) == ("3", "3")


def test_a_fence_is_never_lowered(provider, redis):
    provider._raise_fence("acme", 7)
    provider._raise_fence("acme", 6)
    assert redis.get("jp:config:acme:@fence") == "7"


@real_commits
def test_a_change_that_dies_before_it_refreshed_redis_is_seen_all_the_same(provider, monkeypatch):
    put(provider, "max_attempts", 3)
    provider.of("acme")
    with monkeypatch.context() as dead:
        dead.setattr(OrgConfigProvider, "refresh", lambda self, org_id: None)
        put(provider, "max_attempts", 9)
    assert provider.of("acme").max_attempts == 9


@real_commits
def test_while_a_change_is_not_committed_readers_see_the_old_value_and_keep_no_copy(provider, redis):
    """The fence is up, the commit is not through (on SQLite, a reader on another connection sees the old row)."""
    provider.of("acme")
    seen = []

    def reader():
        try:
            seen.append(OrgConfigProvider().of("acme").max_attempts)
        finally:
            connection.close()

    with transaction.atomic():
        put(provider, "max_attempts", 9)
        thread = threading.Thread(target=reader)
        thread.start()
        thread.join()
    assert seen == [5]
    assert provider.of("acme").max_attempts == 9


@real_commits
def test_a_change_rolled_back_after_the_fence_leaves_the_truth_readable(provider):
    with pytest.raises(RuntimeError), transaction.atomic():
        put(provider, "max_attempts", 9)
        raise RuntimeError
    assert provider.of("acme") == OrgConfig(version=0)
    put(provider, "max_attempts", 4)
    put(provider, "max_attempts", 6)
    assert provider.of("acme").max_attempts == 6


@real_commits
def test_after_many_concurrent_changes_redis_says_what_the_database_says(provider, redis):
    errors, start = [], threading.Barrier(8)

    def change(worker):
        try:
            start.wait()
            for turn in range(6):
                put(OrgConfigProvider(), "max_attempts", 1 + worker * 6 + turn)
                assert OrgConfigProvider().of("acme").max_attempts
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=change, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    row = OrgConfigParameter.objects.get()
    config = provider.of("acme")
    assert (config.version, row.version, config.max_attempts) == (48, 48, row.value)
    assert redis.get("jp:config:acme:max_attempts") == str(row.value)
    assert redis.get("jp:config:acme:@version") == "48"
