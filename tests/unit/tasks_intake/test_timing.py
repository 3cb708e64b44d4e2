"""When a schedule fires: cron on the clock of its zone, intervals in real time, and what is made of times that were missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from apps.tasks.operating.timing import BadRule, Rule, plan

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


def rule(**fields) -> Rule:
    return Rule(**{"anchor": NEW_YEAR, **fields})


def times(rule: Rule, after: str, count: int) -> list[str]:
    return [found.isoformat(timespec="minutes")[:16] for found in islice(rule.times(at(after)), count)]


# ---- rules ------------------------------------------------------------------------------------------------


def test_cron_reads_the_clock_of_its_zone():
    berlin = rule(cron="0 9 * * mon-fri", timezone="Europe/Berlin")
    assert times(berlin, "2026-01-01T00:00", 3) == ["2026-01-01T08:00", "2026-01-02T08:00", "2026-01-05T08:00"]
    assert times(berlin, "2026-07-01T00:00", 1) == ["2026-07-01T07:00"]


def test_a_time_the_clock_skips_fires_once_right_after_the_gap():
    half_past_two = rule(cron="30 2 * * *", timezone="Europe/Berlin")
    assert times(half_past_two, "2026-03-28T12:00", 2) == ["2026-03-29T01:00", "2026-03-30T00:30"]


def test_a_time_that_comes_twice_fires_the_first_time_only():
    half_past_two = rule(cron="30 2 * * *", timezone="Europe/Berlin")
    assert times(half_past_two, "2026-10-24T12:00", 2) == ["2026-10-25T00:30", "2026-10-26T01:30"]
    assert times(half_past_two, "2026-10-25T01:10", 1) == ["2026-10-26T01:30"]


def test_an_hourly_rule_goes_by_real_time_on_both_days():
    hourly = rule(cron="0 * * * *", timezone="Europe/Berlin")
    assert times(hourly, "2026-10-24T23:30", 4) == [f"2026-10-25T0{hour}:00" for hour in range(4)]
    assert times(hourly, "2026-03-28T23:30", 4) == [f"2026-03-29T0{hour}:00" for hour in range(4)]


def test_either_the_day_of_the_month_or_the_weekday_is_enough():
    assert times(rule(cron="0 0 13 * fri"), "2026-01-01T00:00", 3) == ["2026-01-02T00:00", "2026-01-09T00:00", "2026-01-13T00:00"]


def test_an_interval_is_counted_from_its_start_in_real_time():
    every = rule(every=timedelta(minutes=7))
    assert times(every, "2025-12-01T00:00", 2) == ["2026-01-01T00:00", "2026-01-01T00:07"]
    assert times(every, "2026-01-01T00:07", 1) == ["2026-01-01T00:14"]


def test_once_is_once_and_an_end_is_an_end():
    assert times(rule(at=at("2026-05-01T10:00")), "2026-01-01T00:00", 3) == ["2026-05-01T10:00"]
    assert times(rule(at=at("2026-05-01T10:00")), "2026-05-01T10:00", 3) == []
    ending = rule(cron="0 0 * * *", ends_at=at("2026-01-02T12:00"))
    assert times(ending, "2025-12-31T00:00", 9) == ["2026-01-01T00:00", "2026-01-02T00:00"]


@pytest.mark.parametrize("cron", ["", "* * * *", "61 * * * *", "* * * * * *", "x * * * *", "0 0 31 2 *", "@daily", "*/0 * * * *"])
def test_what_is_no_rule_is_said_to_be_none(cron):
    with pytest.raises(BadRule):
        rule(cron=cron or " x").check()


def test_jitter_is_bounded_always_the_same_and_differs_by_schedule():
    one, other = (rule(cron="0 * * * *", jitter=timedelta(seconds=60), name=name) for name in ("a/one", "a/other"))
    planned = [at(f"2026-01-01T{hour:02}:00") for hour in range(24)]
    late = [(one.fire_at(when) - when).total_seconds() for when in planned]
    assert all(0 <= seconds < 60 for seconds in late) and len(set(late)) > 20
    assert [one.fire_at(when) for when in planned] == [one.fire_at(when) for when in planned] != [other.fire_at(when) for when in planned]


# ---- what to do now ---------------------------------------------------------------------------------------


def planned(catch_up: str, first: str, now: str, *, bound: int = 3, **fields):
    found = plan(rule(**(fields or {"cron": "0 * * * *"})), at(first), catch_up=catch_up, bound=bound, now=at(now))
    following = found.following.isoformat()[:16] if found.following else None
    return [when.isoformat()[11:16] for when in found.fire], found.missed, following


@pytest.mark.parametrize("catch_up", ["skip", "one", "all"])
def test_in_time_fires_once_whatever_the_policy(catch_up):
    assert planned(catch_up, "2026-01-01T05:00", "2026-01-01T05:00:30") == (["05:00"], 0, "2026-01-01T06:00")
    assert planned(catch_up, "2026-01-01T05:00", "2026-01-01T04:59:59") == ([], 0, "2026-01-01T05:00")


@pytest.mark.parametrize(("catch_up", "fire", "missed"), [("skip", [], 6), ("one", ["10:00"], 5), ("all", ["08:00", "09:00", "10:00"], 3)])
def test_what_was_missed_follows_the_policy(catch_up, fire, missed):
    assert planned(catch_up, "2026-01-01T05:00", "2026-01-01T10:30") == (fire, missed, "2026-01-01T11:00")


@pytest.mark.parametrize(("catch_up", "fire"), [("skip", ["10:00"]), ("one", ["10:00"]), ("all", ["07:00", "08:00", "09:00", "10:00"])])
def test_a_time_that_is_due_now_stands_beside_those_missed(catch_up, fire):
    assert planned(catch_up, "2026-01-01T05:00", "2026-01-01T10:00:10")[0] == fire


def test_a_long_absence_costs_little():
    fire, missed, following = planned("all", "2026-01-01T00:00", "2026-11-01T00:00:30", cron="* * * * *")
    assert fire == ["23:57", "23:58", "23:59", "00:00"] and missed > 4000 and following == "2026-11-01T00:01"
    fire, _, following = planned("one", "2026-01-01T00:00", "2026-11-01T00:00:30", every=timedelta(seconds=7))
    assert len(fire) == 1 and following == "2026-11-01T00:00"


@pytest.mark.parametrize("when", [{"every": timedelta(seconds=5)}, {"cron": "* * * * *"}])
@pytest.mark.parametrize("catch_up", ["skip", "one", "all"])
def test_after_a_long_absence_nothing_fires_that_lies_behind_the_end(when, catch_up):
    end = at("2026-01-08T00:00:30")
    found = plan(rule(**when, ends_at=end), NEW_YEAR, catch_up=catch_up, bound=3, now=at("2026-02-01T00:00"))
    assert len(found.fire) == {"skip": 0, "one": 1, "all": 3}[catch_up] and all(when <= end for when in found.fire)
    assert found.following is None and found.last_missed <= end


@pytest.mark.parametrize("catch_up", ["skip", "one", "all"])
def test_of_what_was_left_out_the_latest_is_named(catch_up):
    found = plan(rule(cron="0 * * * *"), at("2026-01-01T05:00"), catch_up=catch_up, bound=3, now=at("2026-01-01T10:00:10"))
    assert found.missed == 6 - len(found.fire) > 0
    assert found.last_missed == found.fire[0] - timedelta(hours=1)


def test_jitter_never_reaches_the_next_time_so_nothing_is_overtaken_and_left_out():
    wild = rule(cron="*/5 * * * *", jitter=timedelta(hours=1), name="a/wild")
    times_ = list(islice(wild.times(at("2026-01-01T00:00")), 100))
    assert all(planned <= wild.fire_at(planned) < following for planned, following in zip(times_, times_[1:], strict=False))
    due, fired = times_[0], []
    for second in range(0, 3600, 2):
        found = plan(wild, due, catch_up="skip", bound=1, now=times_[0] + timedelta(seconds=second))
        assert not found.missed
        due, fired = found.following, [*fired, *found.fire]
    assert fired == times_[: len(fired)] and len(fired) >= 11


def test_once_fires_late_or_not_at_all():
    moment = {"at": at("2026-05-01T10:00")}
    assert planned("one", "2026-05-01T10:00", "2026-05-02T00:00", **moment) == (["10:00"], 0, None)
    assert planned("skip", "2026-05-01T10:00", "2026-05-02T00:00", **moment) == ([], 1, None)
