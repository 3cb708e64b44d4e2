"""From evidence to figures: pure, a moment and a list of attempts in, numbers out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.agents.models import Evidence
from apps.agents.reputation import judge
from apps.orgs.config_keys import OrgConfig
from tests.factories import NOON

CONFIG = OrgConfig(reputation_half_life_s=3600)


def ended(outcome: str = "completed", *, ago: float = 0.0, seconds: float = 10.0, **promise) -> Evidence:
    return Evidence(id=f"{outcome}{ago}", agent="ada", outcome=outcome, ended_at=NOON - timedelta(seconds=ago), seconds=seconds, **promise)


def of(*rows: Evidence, config: OrgConfig = CONFIG):
    return judge(rows, config, now=NOON)


def test_nothing_is_known_of_a_new_agent_but_the_prior():
    new = of()
    assert (new.reputation, new.weight, new.success_rate, new.brier) == (0.5, 0, None, None)
    assert new.interval == (pytest.approx(0.05), pytest.approx(0.95))
    trusting = of(config=OrgConfig(reputation_prior_successes=9, reputation_prior_failures=1))
    assert trusting.reputation == 0.9


def test_an_attempt_counts_half_after_a_half_life():
    now, hour_ago = of(ended()), of(ended(ago=3600))
    assert now.reputation == pytest.approx(2 / 3)
    assert hour_ago.reputation == pytest.approx(1.5 / 2.5)
    assert hour_ago.weight == pytest.approx(0.5)


def test_failures_losses_and_rejections_count_against_and_declining_does_not():
    for bad in ("failed", "lost", "rejected"):
        assert of(ended(bad)).reputation == pytest.approx(1 / 3)
    assert of(ended("declined")).reputation == 0.5
    assert of(ended("declined")).declined == 1


def test_a_loss_that_the_task_is_to_blame_for_counts_nothing():
    row = ended("lost")
    row.excused = True
    assert (of(row).reputation, of(row).lost, of(row).excused) == (0.5, 0, 1)


def test_old_failures_are_forgiven_and_the_interval_says_how_sure_that_is():
    bad = of(*[ended("failed", ago=n) for n in range(20)])
    later = judge([ended("failed", ago=n) for n in range(20)], CONFIG, now=NOON + timedelta(hours=12))
    assert bad.high < 0.2 and later.low < 0.5 < later.high


def test_promises_are_held_against_what_happened():
    rows = [
        ended(seconds=20, promised_eta_s=10, promised_confidence=0.9, promised_price=4, price=6),
        ended(seconds=10, promised_eta_s=10, promised_confidence=0.9),
        ended("failed", promised_eta_s=10, promised_confidence=0.9),
    ]
    found = of(*rows)
    assert found.promises == 3
    assert found.brier == pytest.approx((0.01 + 0.01 + 0.81) / 3)
    assert found.eta_ratio == pytest.approx(1.5)
    assert found.price_ratio == pytest.approx(1.5)


def test_recent_figures_look_at_the_latest():
    rows = [ended(ago=n, seconds=1) for n in range(50)] + [ended("failed", ago=100 + n) for n in range(50)]
    found = of(*rows)
    assert (found.success_rate, found.latency_p50_s) == (1.0, 1)
    assert (found.completed, found.failed) == (50, 50)
