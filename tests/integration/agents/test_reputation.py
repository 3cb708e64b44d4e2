"""Figures from stored evidence, with Redis and without, on every store."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.agents import reputation
from apps.agents.models import Evidence
from apps.core import bulk, clock
from apps.orgs.config_store import OrgConfigProvider
from tests.factories import NOON, make_org

pytestmark = [pytest.mark.store, pytest.mark.django_db, pytest.mark.usefixtures("redis")]


def evidence(name: str, outcome: str = "completed", *, agent: str = "ada", org_id: str = "acme", at=NOON, **fields) -> None:
    row = Evidence(
        id=f"{org_id}/{name}#1", org_id=org_id, agent=agent, task_key=f"{org_id}/{name}", attempt=1, outcome=outcome,
        assigned_at=at - timedelta(seconds=3), ended_at=at, seconds=3, **fields,
    )  # fmt: skip
    bulk.insert_missing([row])


def figures(*names: str, org_id: str = "acme", now=NOON):
    return reputation.figures(org_id, names, now=now)


def test_everybody_has_figures_also_who_has_done_nothing():
    make_org()
    evidence("t1")
    evidence("t2", "failed", agent="bo")
    found = figures("ada", "bo", "new")
    assert found["bo"].reputation < found["new"].reputation < found["ada"].reputation
    assert (found["ada"].completed, found["bo"].failed, found["new"].weight) == (1, 1, 0)


def test_kept_figures_hold_until_upkeep_renews_them(django_assert_num_queries):
    make_org()
    evidence("t1")
    first = figures("ada")
    assert figures("ada") == first
    evidence("t2", "failed")
    assert figures("ada") == first
    reputation.note_new("acme", ["ada"])
    assert reputation.tend("acme", now=NOON) == 1
    assert figures("ada")["ada"].failed == 1
    assert reputation.tend("acme", now=NOON) == 0


def test_losing_redis_costs_nothing_but_a_query(redis):
    make_org()
    evidence("t1")
    before = figures("ada")
    redis.flushall()
    assert figures("ada") == before


def test_without_redis_figures_come_from_the_evidence(settings):
    from apps.core import redis as door

    make_org()
    evidence("t1")
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    door.reset()
    assert figures("ada")["ada"].completed == 1


def test_another_half_life_or_prior_makes_kept_figures_worthless():
    make_org()
    evidence("t1", "failed", at=NOON - timedelta(days=7))
    before = figures("ada")["ada"].reputation
    OrgConfigProvider().set("acme", "reputation_half_life_s", 600, by="tests", now=NOON)
    assert figures("ada")["ada"].reputation > before


def test_figures_age_and_are_renewed():
    make_org()
    evidence("t1", "failed")
    before = figures("ada")["ada"]
    later = NOON + timedelta(days=3)
    assert reputation.tend("acme", now=later) == 1
    after = figures("ada", now=later)["ada"]
    assert after.reputation > before.reputation and after.as_of_ms == clock.to_ms(later)


def test_the_same_agent_in_two_orgs_has_two_reputations():
    make_org()
    make_org("umbra")
    evidence("t1", "failed", org_id="umbra")
    evidence("t1")
    assert figures("ada")["ada"].failed == 0
    assert figures("ada", org_id="umbra")["ada"].failed == 1


def test_a_thousand_agents_are_judged_in_one_query(django_assert_max_num_queries):
    make_org()
    names = [f"a{n}" for n in range(1000)]
    for name in names[::100]:
        evidence(name, agent=name)
    with django_assert_max_num_queries(3):  # the org's config may be read
        found = figures(*names)
    assert len(found) == 1000 and found["a100"].completed == 1


def test_a_busy_agent_crowds_out_nobodys_evidence(monkeypatch):
    make_org()
    monkeypatch.setattr(reputation, "NEWEST", 5)
    for n in range(30):
        evidence(f"busy{n}", agent="busy", at=NOON - timedelta(seconds=n // 4))
    for n, name in enumerate(("bo", "bo", "cy")):
        evidence(f"old{n}", "failed", agent=name, at=NOON - timedelta(days=1))
    found = figures("busy", "bo", "cy", "new")
    assert {name: (one.completed, one.failed) for name, one in found.items()} == {"busy": (5, 0), "bo": (0, 2), "cy": (0, 1), "new": (0, 0)}


def test_evidence_of_one_moment_that_is_cut_in_two_counts_once(monkeypatch):
    make_org()
    monkeypatch.setattr(reputation, "ROWS_MAX", 10)
    for n in range(14):
        evidence(f"t{n}", agent=f"a{n % 2}")
    found = figures("a0", "a1", "a2")
    assert [found[name].completed for name in ("a0", "a1")] == [7, 7]
