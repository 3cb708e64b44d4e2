"""Who holds what, how loaded each agent is, and who is up: kept in Redis, rebuildable."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.agents.holds import Hold, Holds
from apps.agents.presence import Presence, PresenceBoard
from tests.factories import NOON

pytestmark = pytest.mark.usefixtures("redis")


def hold(name: str = "acme/t1#1", agent: str = "ada", org: str = "acme") -> Hold:
    return Hold(assignment_id=name, org_id=org, agent=agent)


def load(agent: str = "ada", org: str = "acme") -> int:
    return PresenceBoard().states(org, [agent], now=NOON)[agent].load


def test_taking_a_hold_twice_counts_once():
    for _ in range(2):
        Holds().take([hold()], now=NOON, lease_seconds=20)
    assert load() == 1


def test_dropping_a_hold_twice_counts_once():
    Holds().take([hold(), hold("acme/t2#1")], now=NOON, lease_seconds=20)
    for _ in range(2):
        Holds().drop(["acme/t1#1"])
    assert load() == 1


def test_the_same_names_in_two_orgs_are_counted_apart():
    Holds().take([hold(), hold("umbra/t1#1", org="umbra")], now=NOON, lease_seconds=20)
    assert (load(), load(org="umbra")) == (1, 1)


def test_a_lease_lapses_at_its_time_and_not_before():
    Holds().take([hold()], now=NOON, lease_seconds=20)
    assert Holds().lapsed(now=NOON + timedelta(seconds=19.999), limit=10) == []
    assert Holds().lapsed(now=NOON + timedelta(seconds=20), limit=10) == ["acme/t1#1"]


def test_an_agent_extends_its_own_leases_and_nobody_elses():
    Holds().take([hold(), hold("acme/t2#1", agent="bo")], now=NOON, lease_seconds=20)
    later = NOON + timedelta(seconds=10)
    extended = Holds().extend(["acme/t1#1", "acme/t2#1"], now=later, lease_seconds=20, org_id="acme", agent="ada")
    assert extended == 1
    assert Holds().lapsed(now=NOON + timedelta(seconds=25), limit=10) == ["acme/t2#1"]


def test_a_dropped_lease_cannot_be_extended_back_to_life():
    Holds().take([hold()], now=NOON, lease_seconds=20)
    Holds().drop(["acme/t1#1"])
    assert Holds().extend(["acme/t1#1"], now=NOON, lease_seconds=20) == 0
    assert Holds().missing(["acme/t1#1"]) == ["acme/t1#1"]


def test_a_lease_never_moves_backwards():
    Holds().take([hold()], now=NOON + timedelta(seconds=100), lease_seconds=20)
    Holds().extend(["acme/t1#1"], now=NOON, lease_seconds=20)
    assert Holds().lapsed(now=NOON + timedelta(seconds=119), limit=10) == []


def test_an_agent_is_unknown_then_present_then_away():
    board = PresenceBoard()
    assert board.states("acme", ["ada"], now=NOON)["ada"].presence is Presence.UNKNOWN
    board.record("acme", "ada", slots=3, instance="i1", leaving=False, now=NOON)
    state = board.states("acme", ["ada"], now=NOON + timedelta(seconds=15))["ada"]
    assert (state.presence, state.slots) == (Presence.PRESENT, 3)
    assert board.states("acme", ["ada"], now=NOON + timedelta(seconds=15.001))["ada"].presence is Presence.AWAY


def test_an_agent_that_says_goodbye_is_away_at_once():
    board = PresenceBoard()
    board.record("acme", "ada", slots=3, instance="i1", leaving=False, now=NOON)
    board.record("acme", "ada", slots=3, instance="i1", leaving=True, now=NOON)
    assert board.states("acme", ["ada"], now=NOON)["ada"].presence is Presence.AWAY


@pytest.mark.parametrize(
    ("slots", "instance", "after", "news"),
    [(3, "i1", 5, False), (3, "i2", 5, True), (4, "i1", 5, True), (3, "i1", 60, True)],
    ids=["same as before", "another process", "more slots", "back after a silence"],
)
def test_a_heartbeat_is_news_only_when_there_may_be_new_room(slots, instance, after, news):
    board = PresenceBoard()
    assert board.record("acme", "ada", slots=3, instance="i1", leaving=False, now=NOON)
    assert board.record("acme", "ada", slots=slots, instance=instance, leaving=False, now=NOON + timedelta(seconds=after)) is news
