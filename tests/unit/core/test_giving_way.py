"""Rests between lots: none where processors are free, bounded where they are not."""

from __future__ import annotations

import pytest

from apps.core import giving_way
from apps.core.giving_way import LONGEST_SECONDS, Lot, seconds_of_rest


@pytest.mark.parametrize(
    ("ran", "waited", "least", "times"),
    [(100, 0, 0, 0), (100, 10, 0, 0.6), (100, 50, 0, 3), (100, 900, 0, 3), (0, 0, 0, 0), (100, 0, 1, 1), (100, 50, 1, 3)],
)
def test_a_rest_is_the_longer_the_shorter_processors_are(ran, waited, least, times):
    assert seconds_of_rest(0.02, ran=ran, waited=waited, least=least) == pytest.approx(0.02 * times)


def test_no_rest_is_long():
    assert seconds_of_rest(5.0, ran=100, waited=100) == LONGEST_SECONDS


def test_a_lot_rests_by_what_its_own_thread_had_to_wait(monkeypatch, tmp_path):
    told, rests = tmp_path / "schedstat", []
    monkeypatch.setattr(giving_way, "SCHEDSTAT", told)
    monkeypatch.setattr(giving_way.time, "monotonic", iter([10.0, 10.01]).__next__)
    monkeypatch.setattr(giving_way.time, "sleep", rests.append)
    told.write_text("1000 500 3\n")
    lot = Lot()
    told.write_text("2000 700 4\n")
    lot.rest()
    assert rests == [pytest.approx(0.01 * 6 * 0.2)]


def test_where_the_system_does_not_say_a_lot_rests_as_long_as_it_ran(monkeypatch, tmp_path):
    rests = []
    monkeypatch.setattr(giving_way, "SCHEDSTAT", tmp_path / "missing")
    monkeypatch.setattr(giving_way.time, "thread_time_ns", iter([0, 6_000_000]).__next__)
    monkeypatch.setattr(giving_way.time, "monotonic", iter([10.0, 10.01]).__next__)
    monkeypatch.setattr(giving_way.time, "sleep", rests.append)
    Lot().rest()
    assert rests == [pytest.approx(0.01)]
