"""The circuit breaker, on a real Redis, shared by all who name it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core.outbound import CircuitBreaker
from tests.factories import NOON

LATER = NOON + timedelta(seconds=10)


@pytest.fixture
def breaker(redis):
    return CircuitBreaker("policy:acme:x")


def fail(breaker, times, at=NOON):
    for _ in range(times):
        breaker.failed(at)


def test_it_opens_after_five_failures_in_a_row(breaker):
    fail(breaker, 4)
    assert breaker.allows(NOON)
    fail(breaker, 1)
    assert not breaker.allows(NOON) and not CircuitBreaker("policy:acme:x").allows(LATER - timedelta(milliseconds=1))
    assert CircuitBreaker("policy:globex:x").allows(NOON)


def test_a_success_in_between_starts_the_count_again(breaker):
    fail(breaker, 4)
    breaker.succeeded()
    fail(breaker, 4)
    assert breaker.allows(NOON)


def test_half_open_one_may_try_and_its_success_closes_it(breaker):
    fail(breaker, 5)
    assert [breaker.allows(LATER) for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert breaker.allows(LATER)


def test_a_failed_try_opens_it_again_at_once(breaker):
    fail(breaker, 5)
    assert breaker.allows(LATER)
    breaker.failed(LATER)
    assert not breaker.allows(LATER + timedelta(seconds=9))
    assert breaker.allows(LATER + timedelta(seconds=10))


def test_stragglers_of_before_do_not_keep_it_open(breaker):
    fail(breaker, 5)
    fail(breaker, 20, NOON + timedelta(seconds=9))
    assert breaker.allows(LATER)


def test_a_try_that_never_reports_is_forgotten(breaker):
    fail(breaker, 5)
    assert breaker.allows(LATER)
    assert not breaker.allows(LATER + timedelta(seconds=9))
    assert breaker.allows(LATER + timedelta(seconds=10))


def test_it_leaves_nothing_behind_for_ever(breaker, redis):
    fail(breaker, 5)
    assert 0 < redis.ttl("jp:breaker:policy:acme:x") <= 3600


def test_without_redis_everything_is_allowed(settings):
    from apps.core import redis as door

    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    door.reset()
    breaker = CircuitBreaker("policy:acme:x")
    breaker.failed(NOON)
    assert breaker.allows(NOON)
    door.reset()
