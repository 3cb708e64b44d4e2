from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from apps.core import clock


def test_now_is_aware_utc_and_cut_to_milliseconds():
    now = clock.now()
    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0


@given(st.integers(min_value=0, max_value=253_402_300_799_999))
def test_milliseconds_survive_the_way_to_an_instant_and_back(ms):
    assert clock.to_ms(clock.from_ms(ms)) == ms


def test_any_zone_means_the_same_millisecond():
    noon = datetime(2026, 11, 22, 12, 0, 0, 123_000, tzinfo=UTC)
    assert clock.to_ms(noon.astimezone(timezone(timedelta(hours=5, minutes=30)))) == clock.to_ms(noon)


def test_arrivals_within_one_microsecond_still_have_an_order():
    arrivals = [clock.sequence() for _ in range(5000)]
    assert arrivals == sorted(set(arrivals))


def test_an_instant_reads_as_iso_with_z():
    assert clock.iso(datetime(2026, 11, 22, 16, 0, 0, 123_456, tzinfo=UTC)) == "2026-11-22T16:00:00.123Z"
    assert clock.iso(None) is None
