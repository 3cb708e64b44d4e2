"""The circuit breaker as a fold over evidence: pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from apps.agents.breaker import BAD, State, fold
from apps.agents.models import Evidence
from apps.orgs.config_keys import OrgConfig
from tests.factories import NOON

CONFIG = OrgConfig(breaker_failures=3, breaker_cooling_s=30, breaker_cooling_max_s=100)
LONG = timedelta(days=1)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def ended(outcome: str, end: float, *, start: float | None = None, excused: bool = False) -> Evidence:
    start = end - 1 if start is None else start
    return Evidence(id=f"{outcome}@{end}", outcome=outcome, assigned_at=at(start), ended_at=at(end), excused=excused)


def after(*rows: Evidence, config: OrgConfig = CONFIG):
    return fold(rows, config)


def failures(count: int, *, start: float = 0.0) -> list[Evidence]:
    return [ended("failed", start + n) for n in range(count)]


def test_it_opens_at_the_third_failure_in_a_row_and_says_why():
    assert after(*failures(2)).state(at(2)) is State.CLOSED
    opened = after(*failures(3))
    assert opened.state(at(3)) is State.OPEN
    assert opened.because == "3 failures in a row, the last one failed"
    assert "circuit breaker open until 2026-11-22T12:00:32" in opened.bar(at(3))


def test_a_success_in_between_starts_the_count_anew():
    assert after(*failures(2), ended("completed", 2.5), *failures(2, start=3)).until is None


def test_declining_is_no_failure():
    assert after(*[ended("declined", n) for n in range(9)]).until is None


def test_after_cooling_it_may_try_one_and_a_success_closes_it():
    opened = after(*failures(3))
    assert opened.state(at(31.9)) is State.OPEN
    assert opened.state(at(32)) is State.HALF_OPEN
    assert opened.bar(at(32)) == ""
    assert after(*failures(3), ended("completed", 40, start=35)).until is None


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_the_most():
    rows, standing = failures(3), after(*failures(3))
    for cooling in (60, 100, 100):
        probe = (standing.until - NOON).total_seconds() + 1
        rows.append(ended("failed", probe + 1, start=probe))
        standing = after(*rows)
        assert (standing.until - rows[-1].ended_at).total_seconds() == cooling
    assert standing.trips == 4


def test_what_was_given_before_it_cooled_says_nothing():
    busy = [ended("completed", 5, start=-1), ended("failed", 6, start=-1)]
    opened = after(*failures(3), *busy)
    assert opened == after(*failures(3))


def test_an_agent_that_dies_with_eight_tasks_has_failed_once():
    assert after(*[ended("lost", 20 + n / 10) for n in range(8)]).until is None
    deaths = [ended("lost", 100 * death + n / 10) for death in range(3) for n in range(8)]
    assert after(*deaths).state(at(229)) is State.OPEN


def test_deaths_that_a_task_is_to_blame_for_are_excused_whichever_of_its_victims_says_so():
    excused = [ended("lost", 100 * death + n / 10, excused=n == 5) for death in range(5) for n in range(8)]
    assert after(*excused).until is None


def test_an_excuse_has_an_end():
    many = [ended("lost", 100 * death, excused=True) for death in range(15)]
    assert after(*many[:14]).until is None
    assert after(*many).state(at(1401)) is State.OPEN
    assert after(*many[:3], ended("completed", 250), *many[3:]).until is None


def test_zero_switches_it_off():
    assert after(*failures(50), config=OrgConfig(breaker_failures=0)).until is None


outcomes = st.sampled_from(["completed", "failed", "lost", "declined", "rejected"])


@given(st.lists(st.tuples(outcomes, st.floats(0.5, 50), st.booleans()), max_size=60))
def test_it_is_open_only_after_failures_and_never_for_longer_than_the_most(steps):
    rows, clock = [], 0.0
    for outcome, gap, excused in steps:
        clock += gap
        rows.append(ended(outcome, clock, start=clock - 0.4, excused=excused and outcome == "lost"))
    standing = fold(rows, CONFIG)
    if standing.until is None:
        return
    bad = [row for row in rows if row.outcome in BAD]
    assert len(bad) >= 3
    assert standing.opened_at in {row.ended_at for row in bad}
    assert 30 <= (standing.until - standing.opened_at).total_seconds() <= 100
    probed = [row for row in rows if row.assigned_at >= standing.until]
    assert "completed" not in {row.outcome for row in probed}
