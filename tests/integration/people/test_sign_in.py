"""Passwords are not guessed: who goes wrong too often waits, whoever the account belongs to, and nobody else does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from apps.core.sign_in import ADDRESS_TIMES, Tries, address_of
from tests.factories import NOON

MOST, WINDOW = 3, 60


@pytest.fixture(autouse=True)
def rules(settings, redis):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.LOGIN_FAILURES, settings.LOGIN_WINDOW_S, settings.TRUSTED_PROXIES = MOST, WINDOW, 0


def attempt(page: str, name: str, password: str, *, address: str = "192.0.2.1", **headers: str):
    return Client(REMOTE_ADDR=address, headers=headers).post(page, {"username": name, "password": password})


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["/inbox/login", "/admin/login/"])
@pytest.mark.parametrize("name", ["root", "nobody-of-that-name"])
def test_after_so_many_failures_even_the_right_password_waits_and_the_page_says_how_long(page, name):
    User.objects.create_superuser("root", password="correct-horse")
    for _ in range(MOST):
        wrong = attempt(page, name, "guess")
        assert wrong.status_code == 200 and "Retry-After" not in wrong
    for typed in (name, name.upper()):
        late = attempt(page, typed, "correct-horse")
        assert late.status_code == 429 and 0 < int(late["Retry-After"]) <= WINDOW
        assert "Too many failed attempts. Try again in" in late.text and 'name="password"' in late.text
    elsewhere = attempt(page, "root", "correct-horse", address="192.0.2.2")
    assert elsewhere.status_code == 302  # somebody else's failures lock nobody out


@pytest.mark.django_db
def test_a_sign_in_forgets_the_failures_before_it():
    User.objects.create_superuser("root", password="correct-horse")
    for _ in range(3):
        for _ in range(MOST - 1):
            attempt("/admin/login/", "root", "guess")
        assert attempt("/admin/login/", "root", "correct-horse").status_code == 302


def test_the_window_ends_and_begins_anew_and_waiting_does_not_lengthen_it():
    tries = Tries("root", "192.0.2.1")
    assert [tries.take(now=NOON + timedelta(seconds=10 * n)) for n in range(MOST)] == [0] * MOST
    assert [tries.take(now=NOON + timedelta(seconds=n)) for n in (30, 45, 59.5)] == [30, 15, 1]
    assert [tries.take(now=NOON + timedelta(seconds=n)) for n in (60, 61, 62)] == [0] * MOST
    assert tries.take(now=NOON + timedelta(seconds=63)) == 57


def test_one_address_cannot_try_many_accounts_and_one_who_signs_in_costs_it_nothing():
    for number in range(MOST * ADDRESS_TIMES):
        right = Tries(f"colleague-{number}", "192.0.2.1")
        assert right.take(now=NOON) == 0
        right.fine()
        assert Tries(f"victim-{number}", "192.0.2.1").take(now=NOON) == 0
    assert Tries("another", "192.0.2.1").take(now=NOON) == WINDOW
    assert Tries("another", "192.0.2.2").take(now=NOON) == 0


def test_it_can_be_switched_off_and_a_redis_that_is_away_locks_nobody_out(settings, valkey):
    from apps.core import redis as door

    settings.LOGIN_FAILURES = 0
    assert [Tries("root", "a").take(now=NOON) for _ in range(20)] == [0] * 20
    settings.LOGIN_FAILURES, settings.REDIS_URL = 1, "redis://127.0.0.1:1/0"
    door.reset()
    assert [Tries("root", "a").take(now=NOON) for _ in range(3)] == [0] * 3


@pytest.mark.parametrize(
    ("proxies", "forwarded", "seen"),
    [
        (0, "203.0.113.9", "192.0.2.1"),  # nobody in front of us may say so
        (1, "6.6.6.6, 203.0.113.9", "203.0.113.9"),  # what the caller wrote itself is not believed
        (2, "6.6.6.6, 203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (2, "203.0.113.9", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "x" * 500, "x" * 64),
    ],
)
def test_the_address_is_what_our_own_proxies_saw(rf, settings, proxies, forwarded, seen):
    settings.TRUSTED_PROXIES = proxies
    assert address_of(rf.get("/", REMOTE_ADDR="192.0.2.1", headers={"X-Forwarded-For": forwarded})) == seen
