"""Fair shares, aging, deadlines: who goes when."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.core import background, clock
from apps.core import redis as redis_door
from apps.tasks.batch import BATCH, CONTENDED_BATCH
from apps.tasks.executor import JobExecutor
from apps.tasks.models import Task, Transition
from apps.tasks.queue import PriorityQueue, QueueItem, Share
from apps.tasks.sweeper import Sweeper
from bench.measure import percentile
from tests.factories import NOON

redis_only = pytest.mark.usefixtures("redis")
whole = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]

MANY = 10_000


def item(org: str, number: int, *, priority: int = 0, at=NOON) -> QueueItem:
    return QueueItem(key=f"{org}/t{number}", lane="", priority=priority, sequence=clock.to_ms(at) * 1000 + number)


def share(org: str, weight: float = 1.0, room: int = MANY) -> Share:
    return Share(org_id=org, room={"": room}, weight=weight)


def served(shares: list[Share], limit: int, *, settle: bool = True) -> Counter:
    queue = PriorityQueue()
    claims, _ = queue.claim_fairly(shares, limit=limit, now=NOON)
    if settle:
        queue.settle(claims, now=NOON)
    return Counter(claim.org_id for claim in claims)


# Fair shares


@redis_only
def test_a_contended_batch_is_shared_by_weight():
    for org in ("a", "b", "c"):
        PriorityQueue().push(org, [item(org, number) for number in range(200)], now=NOON)
    assert served([share("a"), share("b", 2), share("c", 5)], 80) == {"a": 10, "b": 20, "c": 50}


@redis_only
def test_what_an_org_does_not_want_goes_to_the_others():
    queue = PriorityQueue()
    queue.push("a", [item("a", number) for number in range(100)], now=NOON)
    queue.push("b", [item("b", number) for number in range(3)], now=NOON)
    assert served([share("a"), share("b", 10)], 50) == {"a": 47, "b": 3}
    assert served([share("a", room=5)], 50) == {"a": 5}


@redis_only
def test_small_shares_are_made_up_for_over_time():
    """More orgs than a batch has tasks, and weights that no batch can give exactly."""
    weights = {"a": 1, "b": 1, "c": 0.3, "d": 2.5}
    for org in weights:
        PriorityQueue().push(org, [item(org, number) for number in range(2000)], now=NOON)
    total: Counter = Counter()
    for _ in range(320):
        total += served([share(org, weight) for org, weight in weights.items()], 3)
    for org, weight in weights.items():
        assert abs(total[org] - 960 * weight / 4.8) <= 3, total


@redis_only
def test_an_org_that_was_idle_gets_its_share_and_no_more_than_that():
    queue = PriorityQueue()
    queue.push("a", [item("a", number) for number in range(2000)], now=NOON)
    served([share("a")], 1000)
    queue.push("b", [item("b", number) for number in range(500)], now=NOON)
    found = served([share("a"), share("b")], 100)
    assert abs(found["a"] - found["b"]) <= 1


@redis_only
def test_what_found_no_room_is_not_counted_as_served():
    queue = PriorityQueue()
    for org in ("a", "b"):
        queue.push(org, [item(org, number) for number in range(1000)], now=NOON)
    for _ in range(10):
        claims, _more = queue.claim_fairly([share("a"), share("b")], limit=20, now=NOON)
        queue.release([claim for claim in claims if claim.org_id == "a"])
        queue.settle([claim for claim in claims if claim.org_id == "b"], now=NOON)
    # a was served nothing in ten batches for which it had no room, and has its share of the next.
    assert served([share("a"), share("b")], 100)["a"] >= 50


@redis_only
def test_the_turns_of_orgs_that_are_not_ahead_are_forgotten(redis):
    queue = PriorityQueue()
    for number in range(50):
        queue.push(f"org-{number}", [item(f"org-{number}", 1), item(f"org-{number}", 2)], now=NOON)
    for _ in range(30):
        served([share(f"org-{number}") for number in range(50)], 5)
    assert not redis.exists("jp:turns")


class Drains:
    """Two dispatchers at one queue."""

    def __init__(self, *names: str) -> None:
        self.queue, self.now = PriorityQueue(), NOON
        for name in names:
            self.enter(name)

    def enter(self, name: str) -> None:
        self.queue.look(now=self.now, drain_id=name, seconds=60)

    def claim(self, name: str, *shares: Share, limit: int = 50, few_first: bool = True) -> Counter:
        claims, self.again = self.queue.claim_fairly(shares, limit=limit, now=self.now, drain_id=name, few_first=few_first)
        return Counter(claim.org_id for claim in claims)

    def woken(self) -> bool:
        """Whether somebody was told to look, since this was asked before."""
        return bool(redis_door.client().delete(redis_door.key("wake")))

    def push(self, org: str, *numbers: int) -> None:
        self.queue.push(org, [item(org, number) for number in numbers], now=self.now)


@redis_only
def test_of_two_dispatchers_one_stays_free_for_those_who_keep_to_their_share():
    drains = Drains("one", "two")
    drains.push("calm", 1)
    drains.push("flood", *range(1000))
    assert drains.claim("one", share("calm"), share("flood")) == {"calm": 1}
    assert drains.claim("one", share("flood")) == {"flood": 50}
    assert drains.claim("two", share("flood")) == {}  # calm has nothing now, and may have at any moment
    drains.push("calm", 2)
    assert drains.claim("two", share("calm"), share("flood")) == {"calm": 1}
    drains.enter("one")  # its batch is done
    assert drains.claim("two", share("flood")) == {"flood": 50}
    assert drains.claim("one", share("flood")) == {}


@redis_only
def test_nobody_is_kept_free_for_nobody():
    drains = Drains("one")
    drains.push("calm", 1)
    drains.push("flood", *range(1000))
    assert drains.claim("one", share("calm"), share("flood")) == {"calm": 1}
    assert drains.claim("one", share("flood")) == {"flood": 50}  # it is alone
    drains.enter("two")
    assert drains.claim("two", share("flood")) == {}  # and was at its batch already when a second one came
    drains.now += timedelta(seconds=11)  # nothing of calm has been served for ten seconds
    for name in ("one", "two"):
        assert drains.claim(name, share("flood")) == {"flood": 50}


@redis_only
def test_few_tasks_do_not_travel_with_a_crowds_and_neither_waits_for_ever():
    drains = Drains("one")
    drains.push("calm", 1)
    drains.push("flood", *range(1000))
    for number, few_first in enumerate([True, False] * 3, start=2):
        expected = {"calm": 1} if few_first else {"flood": 50}
        assert drains.claim("one", share("calm"), share("flood"), few_first=few_first) == expected
        assert drains.again
        if few_first:
            drains.push("calm", number)


@redis_only
def test_what_comes_for_a_crowd_wakes_nobody_while_its_dispatcher_is_at_work():
    drains = Drains("one", "two")
    drains.push("calm", 1)
    drains.push("flood", *range(1000))
    assert drains.woken()
    drains.claim("one", share("calm"), share("flood"), few_first=False)
    assert drains.woken()  # calm's task is left: the other may help
    assert drains.claim("two", share("calm"), share("flood")) == {"calm": 1}
    assert not drains.again
    drains.push("flood", 1001)
    drains.queue.nudge(now=drains.now)
    assert not drains.woken()
    drains.push("calm", 2)
    assert drains.woken()
    drains.queue.nudge(now=drains.now)  # room was made, and calm has something
    assert drains.woken()
    drains.claim("two", share("calm"))
    assert not drains.woken()
    drains.enter("one")
    drains.push("flood", 1002)  # nobody is at a batch of it any more
    assert drains.woken()


@redis_only
def test_a_crowd_whose_dispatcher_died_wakes_another():
    drains = Drains("one", "two")
    drains.push("calm", 1)
    drains.push("flood", *range(1000))
    drains.claim("one", share("calm"), share("flood"))
    drains.claim("one", share("flood"))
    drains.woken()
    drains.push("flood", 1001)
    assert not drains.woken()
    drains.now += timedelta(seconds=1.001)
    drains.push("flood", 1001)
    assert drains.woken()


@redis_only
def test_a_look_sees_what_was_told_of_and_a_claim_that_leaves_something_calls_another():
    drains = Drains("one", "two")
    for number in range(5):
        drains.push("a", number)
    drains.enter("one")
    assert not drains.woken()
    assert drains.claim("one", share("a"), limit=2) == {"a": 2}
    assert drains.again
    assert drains.woken()
    assert drains.claim("one", share("a")) == {"a": 3}
    assert not drains.again
    assert not drains.woken()
    assert drains.claim("one", share("a")) == {}
    assert not drains.again


@redis_only
def test_where_all_have_more_than_their_share_all_dispatchers_serve_them_by_weight():
    drains = Drains("one", "two")
    for org in ("a", "b"):
        drains.push(org, *range(1000))
    for name in ("one", "two"):
        assert drains.claim(name, share("a", 4), share("b", 1)) == {"a": 40, "b": 10}


@redis_only
def test_a_batch_that_does_not_end_keeps_nobody_waiting(redis):
    drains = Drains("one", "two")
    drains.push("calm", 1)
    drains.push("flood", *range(1000))
    drains.claim("one", share("calm"), share("flood"))
    drains.claim("one", share("flood"))
    drains.now += timedelta(seconds=1.001)
    assert drains.claim("two", share("flood")) == {"flood": 50}
    assert 0 < redis.pttl("jp:busy") <= 1000
    for name in ("one", "two"):
        drains.queue.leave(name)
    assert not redis.exists("jp:busy")


@pytest.mark.store
@pytest.mark.django_db(transaction=True)
def test_a_dispatcher_that_is_alone_between_several_orgs_asks_for_another(yard, redis, nats, monkeypatch):
    sent = []
    monkeypatch.setattr(background, "send", lambda name, **more: sent.append((name, more)))
    yard.org("a")
    yard.put("t1", org="a")
    JobExecutor().drain(seconds=0.01)
    assert not sent
    yard.org("b")
    for org in ("a", "b"):
        yard.put("t2", org=org)
    JobExecutor().drain(seconds=0.01)
    assert sent == [("dispatch.drain", {"expires_seconds": 1.0})]


@pytest.mark.store
@pytest.mark.django_db(transaction=True)
def test_a_dispatcher_rests_after_a_full_batch_beside_another_org_and_never_otherwise(yard, redis, nats, monkeypatch):
    rests = []
    monkeypatch.setattr("apps.tasks.executor.Lot.rest", lambda lot: rests.append(lot))
    yard.org("a", agents=8)
    yard.put(*(f"t{number}" for number in range(CONTENDED_BATCH + 1)), org="a")
    JobExecutor().drain(seconds=0.01)
    assert not rests
    yard.org("b")
    yard.put("t1", org="b")
    JobExecutor().drain(seconds=0.01)
    assert not rests
    monkeypatch.setattr("apps.tasks.executor.CONTENDED_BATCH", 2)
    yard.put("t2", "t3", "t4", org="b")
    JobExecutor().drain(seconds=0.01)
    assert rests


def waits(flood_per_second: float, seconds: int = 8) -> list[float]:
    """Milliseconds from arrival to claim of the tasks of the org that keeps to its share, in simulated time: one dispatcher
    carries 1000 tasks a second, so half of that is each org's share; ours asks for 400."""
    queue, rng, now_ms = PriorityQueue(), random.Random(7), 0.0
    comings = []
    for org, rate in (("calm", 400.0), ("flood", flood_per_second)):
        at, number = rng.expovariate(rate) * 1000, 0
        while at < seconds * 1000:
            comings.append((at, org, number))
            at, number = at + rng.expovariate(rate) * 1000, number + 1
    comings.sort()
    born, found, busy = {}, [], {"calm": -9e9, "flood": -9e9}
    position = 0
    while position < len(comings) or len(found) < len(born):
        due: dict[str, list[QueueItem]] = {}
        while position < len(comings) and comings[position][0] <= now_ms:
            at, org, number = comings[position]
            position += 1
            due.setdefault(org, []).append(item(org, number))
            if org == "calm":
                born[f"calm/t{number}"] = at
        for org, items in due.items():
            queue.push(org, items, now=NOON)
        lanes = {lane.org_id for lane in queue.lanes()}
        if not lanes:
            if position >= len(comings):
                break
            now_ms = comings[position][0]
            continue
        active = {org for org, at in busy.items() if now_ms - at < 2000} | lanes
        claims, _ = queue.claim_fairly([share(org) for org in lanes], limit=BATCH if len(active) < 2 else CONTENDED_BATCH, now=NOON)
        queue.settle(claims, now=NOON)
        for claim in claims:
            busy[claim.org_id] = now_ms
            if claim.org_id == "calm":
                found.append(now_ms - born[claim.key])
        now_ms += 5.0 + len(claims) * 0.9  # a batch's own cost, and each task's
        if position >= len(comings) and len(found) >= len(born):
            break
    return found


@redis_only
def test_beside_an_org_that_floods_at_ten_times_its_share_the_p99_wait_at_most_doubles(redis):
    behaved = percentile(waits(400.0), 0.99)
    redis.flushall()
    flooded = percentile(waits(4_000.0), 0.99)
    assert flooded <= 2 * behaved, (behaved, flooded)


@pytest.mark.store
@pytest.mark.django_db(transaction=True)
def test_one_run_of_a_dispatcher_serves_all_orgs_in_one_batch(yard, redis, nats):
    yard.org("a", fair_share_weight=4)
    yard.org("b")
    yard.put(*(f"t{n}" for n in range(12)), org="a")
    yard.put(*(f"t{n}" for n in range(12)), org="b")
    assert yard.dispatch() == 24
    assert len(yard.with_agents("a")) == len(yard.with_agents("b")) == 12


@pytest.mark.store
@pytest.mark.django_db(transaction=True)
def test_a_batch_takes_a_few_round_trips_however_many_tasks_it_has(yard, redis, nats, monkeypatch):
    def commands() -> int:
        return int(redis.info("stats")["total_commands_processed"])

    yard.org(agents=2, default_agent_slots=100)
    yard.put("warm")
    yard.dispatch()
    found = {}
    for size in (5, 50):
        yard.put(*(f"s{size}-{n}" for n in range(size)))
        before = commands()
        assert yard.dispatch() == size
        # Commands inside a script count too; what a task may add is bounded, and round trips are bounded below.
        found[size] = commands() - before
    per_task = (found[50] - found[5]) / 45
    assert per_task <= 20, found


# Aging

ages = st.lists(st.tuples(st.integers(-1000, 1000), st.integers(0, 10**9)), min_size=2, max_size=25, unique_by=lambda pair: pair[1])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages, st.sampled_from([0.1, 1.0, 7.5, 1000.0]))
def test_with_aging_the_order_is_that_of_priority_and_waiting_at_any_moment(redis, tasks, slope):
    redis.flushall()
    queue = PriorityQueue()
    base = clock.to_ms(NOON) * 1000
    items = [QueueItem(key=f"acme/t{n}", lane="", priority=p, sequence=base + us) for n, (p, us) in enumerate(tasks)]
    queue.push("acme", items, now=NOON)
    queue.age("acme", slope)
    found = [claim.key for claim in queue.claim("acme", {"": 99}, limit=99, now=NOON)]
    for later_minutes in (20, 10_000):
        worth = {one.key: one.priority + slope * (later_minutes - (one.sequence - base) / 6e7) for one in items}
        for first, second in zip(found, found[1:], strict=False):
            assert worth[first] >= worth[second] - 1e-4


@redis_only
def test_no_task_waits_beyond_the_bound_however_many_better_ones_come():
    """The lowest priority with 10 points a minute: what comes 200 minutes later goes behind it, whatever its priority."""
    queue = PriorityQueue()
    queue.age("acme", 10)
    queue.push("acme", [item("acme", 0, priority=-1000)], now=NOON)
    for minute in range(0, 260, 20):
        at = NOON + timedelta(minutes=minute, seconds=1)
        queue.push("acme", [item("acme", 1 + minute, priority=1000, at=at)], now=at)
    found = [claim.key for claim in queue.claim("acme", {"": 99}, limit=99, now=NOON)]
    before = found.index("acme/t0")
    assert all(int(key[6:]) <= 200 for key in found[:before]) and all(int(key[6:]) >= 200 for key in found[before + 1 :])


@redis_only
def test_switching_aging_on_and_off_reorders_what_waits_and_nothing_else_changes():
    queue = PriorityQueue()
    old, new = item("acme", 1, priority=0), item("acme", 2, priority=5, at=NOON + timedelta(minutes=30))
    parked = [QueueItem(**{**_plain(item("acme", n)), "concurrency": _one("=k")}) for n in (3, 4, 5)]
    queue.push("acme", [old, new], now=NOON)
    first = queue.claim("acme", {"": 99}, limit=99, now=NOON)
    assert [claim.key for claim in first] == ["acme/t2", "acme/t1"]
    queue.age("acme", 1)
    queue.release(first)
    again = queue.claim("acme", {"": 99}, limit=99, now=NOON)
    assert [claim.key for claim in again] == ["acme/t1", "acme/t2"]
    queue.release(again)
    queue.push("acme", parked, now=NOON)
    assert queue.age("acme", 0) == 5
    assert [claim.key for claim in queue.claim("acme", {"": 2}, limit=2, now=NOON)] == ["acme/t2", "acme/t1"]


def _plain(one: QueueItem) -> dict:
    return {name: getattr(one, name) for name in ("key", "lane", "priority", "sequence")}


def _one(key: str):
    from apps.tasks.queue import Concurrency

    return Concurrency(key=key, limit=1, mode="queue")


@pytest.mark.store
@pytest.mark.django_db(transaction=True)
def test_the_configuration_switches_aging_also_after_redis_was_lost(yard, redis, nats):
    from apps.tasks.loader import TaskLoader

    yard.org(aging_points_per_minute=1, max_inflight=1)
    early = clock.to_ms(NOON - timedelta(minutes=30)) * 1000
    yard.put("old", sequence=early)
    yard.put("new", priority=5, sequence=early + 30 * 60_000_000)
    assert yard.dispatch() == 1 and yard.with_agents() == ["old"]
    yard.put("older", sequence=early - 60_000_000)
    redis.flushall()
    later = NOON + timedelta(seconds=10)
    TaskLoader().reconcile(now=later)
    yard.end("old", now=later)
    assert yard.dispatch(later) == 1 and yard.with_agents() == ["older"]


# Deadlines


@pytest.mark.store
@pytest.mark.django_db(transaction=True)
def test_tasks_past_their_deadlines_end_together_and_say_why(yard, redis, nats):
    yard.org(max_inflight=1)
    yard.put("held", deadline=NOON + timedelta(seconds=30))
    yard.dispatch()
    yard.put("due", deadline=NOON + timedelta(seconds=30))
    yard.put("unassigned", assign_by=NOON + timedelta(seconds=30))
    yard.put("asked", assign_by=NOON + timedelta(seconds=30), status="awaiting_approval")
    yard.put("fine", assign_by=NOON + timedelta(seconds=99), deadline=NOON + timedelta(seconds=99))
    assert Sweeper().expire(now=NOON + timedelta(seconds=29)) == 0
    assert Sweeper().expire(now=NOON + timedelta(seconds=30)) == 4
    ends = {task.task_id: (task.status, task.reason) for task in Task.objects.all()}
    assert ends["held"][0] == ends["due"][0] == ends["asked"][0] == "expired" and ends["unassigned"][0] == "failed"
    assert ends["due"][1].startswith("not ended by its deadline") and ends["unassigned"][1].startswith("no agent had it by 2026")
    assert ends["fine"][0] == "queued" and yard.dispatch(NOON + timedelta(seconds=31)) == 1
    assert Transition.objects.filter(actor="sweeper").count() == 4


@pytest.mark.store
@pytest.mark.django_db(transaction=True)
def test_a_task_that_came_back_from_an_agent_was_assigned_in_time(yard, redis, nats):
    yard.org()
    yard.put("t1", assign_by=NOON + timedelta(seconds=30))
    yard.dispatch()
    yard.end("t1", kind="failed")
    assert Sweeper().expire(now=NOON + timedelta(seconds=60)) == 0 and yard.status("t1") == "queued"


@pytest.mark.store
@pytest.mark.django_db(transaction=True)
def test_many_that_expire_cost_a_few_round_trips(yard, redis, nats, monkeypatch):
    from apps.core import redis as door

    yard.org(default_agent_slots=100)
    late = {"deadline": NOON + timedelta(seconds=30)}
    yard.put(*(f"a{n}" for n in range(60)), **late)
    yard.dispatch()
    yard.put(*(f"b{n}" for n in range(60)), **late)
    trips = []
    really = door.client().execute_command
    monkeypatch.setattr(door.client(), "execute_command", lambda *words, **more: trips.append(words[0]) or really(*words, **more))
    assert Sweeper().expire(now=NOON + timedelta(seconds=31)) == 120
    assert len(trips) <= 12, trips
