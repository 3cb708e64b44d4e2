"""What the priority queue promises: exact order, claims nobody loses, and that all of it can be made again."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.core import clock
from apps.tasks.queue import CLAIM_SECONDS, PriorityQueue, QueueItem
from tests.factories import NOON
from tests.threads import at_once

EVERYTHING = 10_000


def item(number: int, *, lane: str = "", priority: int = 0, sequence: int | None = None, due=None, org: str = "acme") -> QueueItem:
    return QueueItem(
        key=f"{org}/t{number}",
        lane=lane,
        priority=priority,
        sequence=clock.to_ms(NOON) * 1000 + number if sequence is None else sequence,
        not_before_ms=clock.to_ms(due) if due else 0,
    )


def claimed(queue: PriorityQueue, *lanes: str, org: str = "acme", limit: int = EVERYTHING, room: int = EVERYTHING, now=NOON) -> list[str]:
    return [claim.key for claim in queue.claim(org, dict.fromkeys(lanes or ("",), room), limit=limit, now=now)]


def taken(queue: PriorityQueue, *, now=NOON) -> list[str]:
    """Claim everything and be done with it."""
    claims = queue.claim("acme", {"": EVERYTHING}, limit=EVERYTHING, now=now)
    queue.settle(claims)
    return [claim.key for claim in claims]


def in_order(items) -> list[str]:
    return [one.key for one in sorted(items, key=lambda one: (-one.priority, one.sequence))]


# Order


def test_a_higher_priority_goes_first_and_equals_go_in_order_of_arrival(redis):
    items = [item(1, priority=0), item(2, priority=5), item(3, priority=-5), item(4, priority=5), item(5, priority=0)]
    queue = PriorityQueue()
    queue.push("acme", random.Random(1).sample(items, 5), now=NOON)
    assert claimed(queue) == ["acme/t2", "acme/t4", "acme/t1", "acme/t5", "acme/t3"]


orders = st.lists(st.tuples(st.integers(-1000, 1000), st.sampled_from(["", "a", "b"])), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders, st.randoms(use_true_random=False), st.integers(1, 9))
def test_whatever_the_order_of_pushing_the_order_of_claiming_is_exact_over_all_lanes(redis, wanted, rng, step):
    redis.flushall()
    items = [item(number, priority=priority, lane=lane) for number, (priority, lane) in enumerate(wanted)]
    shuffled = items[:]
    rng.shuffle(shuffled)
    queue = PriorityQueue()
    queue.push("acme", shuffled, now=NOON)
    found: list[str] = []
    while batch := claimed(queue, "", "a", "b", limit=step):
        assert len(batch) <= step
        found += batch
    assert found == in_order(items)


def test_the_extremes_of_priority_and_arrival_keep_their_order(redis):
    items = [
        item(1, priority=-1000, sequence=1),
        item(2, priority=1000, sequence=2**53),
        item(3, priority=1000, sequence=2**53 - 1),
        item(4, priority=0, sequence=0),
    ]
    queue = PriorityQueue()
    queue.push("acme", items, now=NOON)
    assert claimed(queue) == ["acme/t3", "acme/t2", "acme/t4", "acme/t1"]


def test_pushing_twice_is_being_there_once(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(1)], now=NOON)
    queue.push("acme", [item(1)], now=NOON)
    assert queue.size("acme") == 1
    assert claimed(queue) == ["acme/t1"]
    assert claimed(queue) == []


def test_the_same_items_pushed_again_after_redis_was_emptied_come_in_the_same_order(redis):
    items = [item(number, priority=random.Random(number).randint(-3, 3)) for number in range(200)]
    queue = PriorityQueue()
    queue.push("acme", items, now=NOON)
    before = claimed(queue)
    redis.flushall()
    queue.push("acme", random.Random(7).sample(items, 200), now=NOON)
    assert claimed(queue) == before == in_order(items)


def test_a_script_the_server_forgot_is_loaded_again(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(1)], now=NOON)
    redis.script_flush()
    assert claimed(queue) == ["acme/t1"]


# Room


def test_a_claim_takes_no_more_than_asked_and_no_more_than_there_is_room_for(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(number) for number in range(10)], now=NOON)
    assert claimed(queue, limit=3) == ["acme/t0", "acme/t1", "acme/t2"]
    assert claimed(queue, room=2) == ["acme/t3", "acme/t4"]
    assert claimed(queue, room=0) == []
    assert claimed(queue, limit=0) == []
    assert queue.size("acme") == 5


def test_a_lane_without_room_does_not_hold_up_the_others(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(1, lane="full", priority=9), item(2, lane="free", priority=0)], now=NOON)
    found = queue.claim("acme", {"full": 0, "free": 5}, limit=5, now=NOON)
    assert [claim.key for claim in found] == ["acme/t2"]
    assert [claim.lane for claim in found] == ["free"]


def test_each_lane_gets_at_most_its_own_room_and_the_best_of_all_go_first(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(n, lane="a", priority=5) for n in range(4)] + [item(n, lane="b") for n in range(4, 8)], now=NOON)
    found = queue.claim("acme", {"a": 2, "b": 9}, limit=5, now=NOON)
    assert [claim.key for claim in found] == ["acme/t0", "acme/t1", "acme/t4", "acme/t5", "acme/t6"]


def test_one_org_never_sees_another_orgs_items(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(1)], now=NOON)
    queue.push("bolt", [item(2, org="bolt")], now=NOON)
    assert claimed(queue, org="bolt") == ["bolt/t2"]
    assert claimed(queue, org="acme") == ["acme/t1"]


def test_the_lanes_that_hold_something_are_known(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(1, lane="a"), item(2, lane="a"), item(3, lane="b")], now=NOON)
    queue.push("bolt", [item(4, org="bolt")], now=NOON)
    assert sorted((lane.org_id, lane.lane, lane.size) for lane in queue.lanes()) == [("acme", "a", 2), ("acme", "b", 1), ("bolt", "", 1)]
    claimed(queue, "a", "b")
    assert [lane.org_id for lane in queue.lanes()] == ["bolt"]


# Claims


def test_eight_dispatchers_at_once_take_every_item_once(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(number) for number in range(500)], now=NOON)

    def take(_: int) -> list[str]:
        mine: list[str] = []
        while batch := claimed(queue, limit=7):
            assert batch == sorted(batch, key=lambda key: int(key[6:]))
            mine += batch
        return mine

    everything = [key for mine in at_once(8, take) for key in mine]
    assert len(everything) == len(set(everything)) == 500


def test_a_settled_claim_is_gone_for_good(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(1)], now=NOON)
    queue.settle(queue.claim("acme", {"": 1}, limit=1, now=NOON))
    assert queue.tick(now=NOON + timedelta(days=1)) == 0
    assert claimed(queue) == []


def test_a_claim_whose_holder_died_returns_to_its_place_when_it_lapses(redis):
    items = [item(number, priority=number) for number in range(4)]
    queue = PriorityQueue()
    queue.push("acme", items, now=NOON)
    assert claimed(queue, limit=2, now=NOON) == ["acme/t3", "acme/t2"]
    assert queue.tick(now=NOON + timedelta(seconds=CLAIM_SECONDS, milliseconds=-1)) == 0
    assert queue.tick(now=NOON + timedelta(seconds=CLAIM_SECONDS)) == 2
    assert claimed(queue) == in_order(items)


def test_a_released_claim_is_back_in_its_place_at_once(redis):
    items = [item(number, lane="a", priority=number % 3) for number in range(9)]
    queue = PriorityQueue()
    queue.push("acme", items, now=NOON)
    queue.release(queue.claim("acme", {"a": 5}, limit=5, now=NOON))
    assert claimed(queue, "a") == in_order(items)


# Delay


def test_a_delayed_item_waits_for_its_time(redis):
    due = NOON + timedelta(seconds=30)
    queue = PriorityQueue()
    queue.push("acme", [item(1, priority=9, due=due), item(2)], now=NOON)
    assert taken(queue) == ["acme/t2"]
    assert queue.tick(now=due - timedelta(milliseconds=1)) == 0
    assert taken(queue) == []
    assert queue.tick(now=due) == 1
    assert taken(queue) == ["acme/t1"]


def test_a_time_that_has_come_is_no_delay(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(1, due=NOON)], now=NOON)
    assert taken(queue) == ["acme/t1"]


def test_a_delayed_item_pushed_when_its_time_has_come_is_there_once(redis):
    due = NOON + timedelta(seconds=30)
    queue = PriorityQueue()
    queue.push("acme", [item(1, due=due)], now=NOON)
    queue.push("acme", [item(1, due=due)], now=due)
    assert taken(queue) == ["acme/t1"]
    assert queue.tick(now=due) == 0


# Looking and removing


@pytest.mark.parametrize("priority", [-7, 0, 7])
def test_a_removed_item_is_gone_wherever_it_was(redis, priority):
    first, waiting = item(1, priority=priority), item(3, priority=priority)
    delayed = item(2, priority=priority, due=NOON + timedelta(hours=1))
    queue = PriorityQueue()
    queue.push("acme", [waiting, delayed, first], now=NOON)
    assert claimed(queue, limit=1) == ["acme/t1"]
    assert queue.remove("acme", [waiting, delayed, first]) == 3
    assert queue.remove("acme", [waiting]) == 0
    assert queue.tick(now=NOON + timedelta(days=1)) == 0
    assert claimed(queue) == []


def test_a_position_counts_who_goes_first(redis):
    items = [item(1, priority=1), item(2, priority=3), item(3, priority=2)]
    queue = PriorityQueue()
    queue.push("acme", items, now=NOON)
    assert [queue.position("acme", one) for one in items] == [2, 0, 1]
    assert queue.position("acme", item(9)) is None


@pytest.mark.parametrize("priority", [-7, 0, 7])
def test_what_redis_does_not_know_in_any_form_is_found_missing(redis, priority):
    first, waiting = item(1, priority=priority), item(3, priority=priority)
    delayed = item(2, priority=priority, due=NOON + timedelta(hours=1))
    gone = item(4, priority=priority)
    queue = PriorityQueue()
    queue.push("acme", [first, delayed, waiting], now=NOON)
    claimed(queue, limit=1)
    assert queue.missing("acme", [waiting, gone, delayed, first]) == [gone]


def test_strange_names_are_only_names(redis):
    strange = QueueItem(key='acme/a "b" \\ {c}:\n☂', lane='sp: "ce" \\ ☂', priority=1, sequence=5)
    queue = PriorityQueue()
    queue.push("acme", [strange], now=NOON)
    found = queue.claim("acme", {strange.lane: 1}, limit=1, now=NOON)
    assert [(claim.key, claim.lane) for claim in found] == [(strange.key, strange.lane)]
    queue.release(found)
    assert queue.position("acme", strange) == 0
    assert queue.remove("acme", [strange]) == 1


def test_an_empty_queue_leaves_no_keys_behind(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(number, lane=f"lane-{number % 3}") for number in range(30)], now=NOON)
    queue.settle(queue.claim("acme", {f"lane-{n}": 99 for n in range(3)}, limit=99, now=NOON))
    assert {key.rsplit(":", 1)[-1] for key in redis.scan_iter() if redis.ttl(key) < 0} <= {"wake"}


# Drains


def test_work_pushed_behind_a_drains_back_is_seen_when_it_leaves(redis):
    queue = PriorityQueue()
    assert queue.look(now=NOON, drain_id="d1", seconds=5).alive == 1
    assert queue.leave("d1") is False
    queue.look(now=NOON, drain_id="d1", seconds=5)
    assert queue.push("acme", [item(1)], now=NOON) == 1
    assert queue.leave("d1") is True


def test_a_drain_that_died_is_not_counted(redis):
    queue = PriorityQueue()
    queue.look(now=NOON, drain_id="d1", seconds=5)
    assert queue.look(now=NOON + timedelta(seconds=6), drain_id="d2", seconds=5).alive == 1
    assert queue.push("acme", [item(1)], now=NOON + timedelta(seconds=12)) == 0


def test_a_push_wakes_who_waits(redis):
    queue = PriorityQueue()
    queue.push("acme", [item(1)], now=NOON)
    assert queue.wait(5) is True
