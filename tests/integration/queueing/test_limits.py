"""What an org's limits promise while tasks run: never exceeded, whoever claims at once, and right again after Redis was lost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.agents.holds import Holds
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Decision, Task
from apps.tasks.queue import CLAIM_SECONDS, PriorityQueue, item_of
from tests.factories import NOON
from tests.threads import at_once

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]

LATER = NOON + timedelta(seconds=10)


# max_inflight


def test_no_more_than_max_inflight_are_with_agents(yard):
    yard.org(max_inflight=2)
    yard.put("t1", "t2", "t3", "t4")
    assert yard.dispatch() == 2 and yard.dispatch() == 0
    yard.end("t1")
    assert yard.dispatch() == 1 and yard.with_agents() == ["t2", "t3"]


def test_dispatchers_at_once_never_exceed_max_inflight(yard):
    yard.org(max_inflight=5)
    tasks = yard.put(*(f"t{n}" for n in range(40)))
    queue, highest = PriorityQueue(), []

    def take(_: int) -> list:
        mine = []
        for _round in range(10):
            mine += queue.claim("acme", {"": 99}, limit=3, now=NOON, max_inflight=5)
            highest.append(len(mine))
        return mine

    claims = [claim for mine in at_once(6, take) for claim in mine]
    assert len(claims) == 5 and len({claim.key for claim in claims}) == 5
    queue.release(claims[:2])
    assert len(queue.claim("acme", {"": 99}, limit=99, now=NOON, max_inflight=5)) == 2
    assert queue.size("acme") == len(tasks) - 5


def test_max_inflight_counts_what_agents_hold_again_after_redis_was_lost(yard, redis):
    yard.org(max_inflight=2)
    yard.put("t1", "t2", "t3")
    yard.dispatch()
    redis.flushall()
    yard.put("t4", "t5", now=LATER)
    # Nobody knows yet what agents hold, so nothing is claimed.
    assert yard.dispatch(LATER) == 0
    TaskLoader().reconcile(now=LATER)
    assert yard.dispatch(LATER) == 0 and yard.with_agents() == ["t1", "t2"]
    yard.end("t1", now=LATER)
    assert yard.dispatch(LATER) == 1 and yard.with_agents() == ["t2", "t3"]


def test_a_dispatcher_that_slept_over_its_claim_gives_nothing_to_agents(yard, monkeypatch):
    """Its claims lapsed and another claimed in their place: were it to go on, there would be twice as many as allowed."""
    from apps.tasks.executor import JobExecutor

    yard.org(max_inflight=1)
    yard.put("t1", "t2")
    begin, woken = JobExecutor._begin, []

    def slow(self, *arguments):
        if not woken:
            woken.append(True)
            late = NOON + timedelta(seconds=CLAIM_SECONDS + 1)
            PriorityQueue().tick(now=late)
            assert yard.dispatch(late) == 1
        return begin(self, *arguments)

    monkeypatch.setattr(JobExecutor, "_begin", slow)
    yard.dispatch()
    assert len(yard.with_agents()) == 1


# Concurrency keys


def test_tasks_of_one_key_go_one_after_the_other_and_hold_up_nobody(yard):
    yard.org()
    yard.put("a1", "a2", "a3", key="=a", priority=5)
    yard.put("b1")
    assert yard.dispatch() == 2 and yard.with_agents() == ["a1", "b1"]
    assert yard.dispatch() == 0
    yard.end("a1")
    yard.dispatch()
    assert yard.with_agents() == ["a2", "b1"]


def test_a_key_lets_as_many_run_as_its_limit_says_best_first(yard):
    yard.org()
    yard.put("a1", "a2", "a3", key="=a", limit=2)
    yard.put("a4", key="=a", limit=2, priority=9)
    yard.dispatch()
    assert yard.with_agents() == ["a1", "a4"]
    yard.end("a4")
    yard.dispatch()
    assert yard.with_agents() == ["a1", "a2"]


def test_the_key_of_one_org_is_nothing_to_another(yard):
    yard.org()
    yard.org("bolt")
    yard.put("a1", key="=a")
    yard.put("b1", org="bolt", key="=a")
    assert yard.dispatch() == 2


def test_what_waits_for_a_key_costs_a_claim_nothing(yard, redis):
    yard.org()
    yard.put("a0", key="=a")
    yard.dispatch()
    yard.put(*(f"a{n}" for n in range(1, 60)), key="=a")
    assert PriorityQueue().lanes() == [] and redis.zcard("jp:parked:acme:=a") == 59


def test_a_task_that_comes_back_from_its_agent_gives_its_place_to_the_best(yard):
    yard.org()
    yard.put("a1", key="=a")
    yard.dispatch()
    yard.put("a2", key="=a", priority=9)
    yard.end("a1", kind="failed")
    yard.dispatch()
    assert yard.with_agents() == ["a2"]
    yard.end("a2")
    yard.dispatch()
    assert yard.with_agents() == ["a1"]


def test_one_that_was_cancelled_on_its_way_to_the_place_frees_it_for_the_next(yard):
    from apps.tasks import steering

    yard.org()
    yard.put("a1", "a2", "a3", key="=a")
    yard.dispatch()
    yard.end("a1")
    steering.cancel(Task.objects.get(pk="acme/a2"), actor="sam", reason="", now=NOON)
    yard.dispatch()
    assert yard.with_agents() == ["a3"]


def test_keys_are_right_again_after_redis_was_lost(yard, redis):
    yard.org()
    yard.put("a1", "a2", "a3", key="=a", limit=2)
    yard.put("b1", "b2", key="=b")
    yard.dispatch()
    assert yard.with_agents() == ["a1", "a2", "b1"]
    redis.flushall()
    yard.put("b3", key="=b", priority=9)
    assert yard.dispatch(LATER) == 0
    TaskLoader().reconcile(now=LATER)
    assert yard.dispatch(LATER) == 0
    yard.end("a1", "b1", now=LATER)
    yard.dispatch(LATER)
    assert yard.with_agents() == ["a2", "a3", "b3"]


def test_claimers_at_once_never_exceed_a_key(yard):
    yard.org()
    yard.put(*(f"a{n}" for n in range(30)), key="=a", limit=3)
    queue = PriorityQueue()
    claims = [c for mine in at_once(6, lambda _: queue.claim("acme", {"": 99}, limit=9, now=NOON)) for c in mine]
    assert len(claims) == 3
    # Let go in all the ways there are, while others claim.
    tasks = {task.key: task for task in Task.objects.all()}

    def churn(number: int) -> int:
        most = 0
        for claim in [claims[number]]:
            queue.remove("acme", [item_of(tasks[claim.key])])
        for _ in range(5):
            mine = queue.claim("acme", {"": 99}, limit=9, now=NOON)
            most = max(most, len(mine))
            queue.release(mine)
        return most

    assert max(at_once(3, churn)) <= 3
    assert len(queue.claim("acme", {"": 99}, limit=99, now=NOON)) == 3


# Modes that cancel


def test_cancel_newest_turns_the_new_one_away_and_says_why(yard):
    yard.org()
    OrgConfigProvider().set("acme", "max_attempts", 4, by="tests", now=NOON)
    yard.put("a1", key="=a", mode="cancel_newest")
    yard.dispatch()
    yard.put("a2", "a3", key="=a", mode="cancel_newest")
    assert yard.dispatch() == 2
    assert [yard.status(name) for name in ("a1", "a2", "a3")] == ["dispatched", "cancelled", "cancelled"]
    assert "taken by a1" in Task.objects.get(pk="acme/a2").reason
    told = Decision.objects.get(task_key="acme/a2", kind="concurrency")
    assert told.outcome == "cancelled" and told.details["mode"] == "cancel_newest" and told.details["there"] == ["a1"]
    assert told.config_version == OrgConfigProvider().of("acme").version > 0
    yard.end("a1")
    yard.put("a4", key="=a", mode="cancel_newest")
    yard.dispatch()
    assert yard.with_agents() == ["a4"]


def test_cancel_running_lets_the_newest_run(yard):
    yard.org()
    yard.put("a1", key="=a", mode="cancel_running")
    yard.dispatch()
    yard.put("a2", "a3", key="=a", mode="cancel_running")
    yard.dispatch()
    yard.dispatch()
    assert [yard.status(name) for name in ("a1", "a2", "a3")] == ["cancelled", "cancelled", "dispatched"]
    assert "newer a3" in Task.objects.get(pk="acme/a1").reason
    assert list(Holds().all()) == ["acme/a3#1"]


def test_an_older_task_with_a_higher_number_in_the_queue_does_not_cancel_a_newer_one(yard):
    yard.org()
    (old,) = yard.put("old", key="=a", mode="cancel_running", priority=-5)
    yard.put("new", key="=a", mode="cancel_running", priority=5)
    yard.dispatch()
    yard.dispatch()
    assert (yard.status("new"), yard.status("old")) == ("dispatched", "cancelled")


def test_cancel_running_needs_no_room_at_the_agents(yard):
    yard.org(default_agent_slots=1, agent_prefetch=0)
    yard.put("a1", key="=a", mode="cancel_running")
    yard.dispatch()
    yard.put("a2", key="=a", mode="cancel_running")
    yard.dispatch()
    yard.dispatch()
    assert yard.with_agents() == ["a2"] and yard.status("a1") == "cancelled"


def test_a_contest_whose_dispatcher_died_is_decided_by_the_next(yard):
    yard.org()
    yard.put("a1", key="=a", mode="cancel_newest")
    yard.dispatch()
    yard.put("a2", key="=a", mode="cancel_newest")
    assert len(PriorityQueue().look(now=NOON).contests) == 1
    assert yard.dispatch(NOON + timedelta(seconds=1)) == 0
    yard.dispatch(NOON + timedelta(seconds=16))
    assert yard.status("a2") == "cancelled"


def test_an_emptied_queue_of_keyed_tasks_leaves_nothing_behind(yard, redis):
    yard.org()
    yard.put("a1", "a2", "a3", key="=a")
    yard.put("c1", "c2", key="=c", mode="cancel_running")
    for _ in range(6):
        yard.dispatch()
        yard.end(*yard.with_agents())
    left = {key for key in redis.scan_iter() if redis.ttl(key) < 0}
    assert not [key for key in left if key.split(":")[1] not in ("loader", "wake", "presence", "config")], left
