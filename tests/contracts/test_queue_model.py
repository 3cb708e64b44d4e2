"""The queue against a few lines of Python that say what it promises, through any sequence of what can happen to it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from apps.agents.holds import Hold, Holds
from apps.core import clock
from apps.tasks.queue import CLAIM_SECONDS, Concurrency, PriorityQueue, QueueItem, place_of
from tests.factories import NOON

KEYS = {"=one": 1, "=two": 2}
LANES = ("", "lab")


class QueueMachine(RuleBasedStateMachine):
    """waiting: items not with anybody; claimed: ticket holders; held: with agents. Places of a key: claimed and held."""

    @initialize()
    def empty(self):
        from apps.core import redis as door

        client = door.client()
        client.flushall()
        client.hset(door.key("loader"), "server", client.info("server")["run_id"])
        self.queue, self.holds = PriorityQueue(), Holds()
        self.waiting: dict[str, QueueItem] = {}
        self.claimed: dict[str, tuple] = {}
        self.held: dict[str, QueueItem] = {}
        self.due: dict[str, int] = {}
        self.count, self.now = 0, NOON

    def places(self, key: str) -> int:
        everyone = [item for item, _ in self.claimed.values()] + list(self.held.values())
        return sum(item.concurrency is not None and item.concurrency.key == key for item in everyone)

    @rule(priority=st.integers(-2, 2), lane=st.sampled_from(LANES), key=st.sampled_from([None, *KEYS]), delay=st.sampled_from([0, 0, 0, 5]))
    def push(self, priority, lane, key, delay):
        self.count += 1
        item = QueueItem(
            key=f"acme/t{self.count}", lane=lane, priority=priority, sequence=clock.to_ms(NOON) * 1000 + self.count,
            not_before_ms=clock.to_ms(self.now) + delay * 1000 if delay else 0,
            concurrency=Concurrency(key=key, limit=KEYS[key], mode="queue") if key else None,
        )  # fmt: skip
        self.queue.push("acme", [item], now=self.now)
        self.waiting[item.key] = item
        self.due[item.key] = item.not_before_ms

    @rule(limit=st.integers(1, 4), most=st.sampled_from([None, 3]))
    def claim(self, limit, most):
        self.queue.look(now=self.now)
        expected, places = [], {key: self.places(key) for key in KEYS}
        left = limit if most is None else min(limit, most - len(self.claimed) - len(self.held))
        ready = [item for item in self.waiting.values() if self.due[item.key] <= clock.to_ms(self.now)]
        for item in sorted(ready, key=lambda one: (-one.priority, one.sequence)):
            key = item.concurrency.key if item.concurrency else None
            if len(expected) < left and (key is None or places[key] < KEYS[key]):
                expected.append(item.key)
                if key:
                    places[key] += 1
        claims = self.queue.claim("acme", dict.fromkeys(LANES, 99), limit=limit, now=self.now, max_inflight=most)
        assert [claim.key for claim in claims] == expected
        for claim in claims:
            self.claimed[claim.key] = (self.waiting.pop(claim.key), claim)

    @rule(data=st.data())
    def release(self, data):
        if self.claimed:
            key = data.draw(st.sampled_from(sorted(self.claimed)))
            item, claim = self.claimed.pop(key)
            self.queue.release([claim])
            self.waiting[key], self.due[key] = item, 0

    @rule(data=st.data())
    def give_to_an_agent(self, data):
        if self.claimed:
            key = data.draw(st.sampled_from(sorted(self.claimed)))
            item, claim = self.claimed.pop(key)
            place = place_of(key, item.sequence, item.concurrency.key if item.concurrency else "")
            self.holds.take([Hold(assignment_id=f"{key}#1", org_id="acme", agent="ada", place=place)], now=self.now, lease_seconds=9)
            self.queue.settle([], dispatched=[claim], now=self.now)
            self.held[key] = item

    @rule(data=st.data(), again=st.booleans())
    def end(self, data, again):
        if self.held:
            key = data.draw(st.sampled_from(sorted(self.held)))
            item = self.held.pop(key)
            self.holds.drop([f"{key}#1"])
            if again:
                self.queue.push("acme", [item], now=self.now)
                self.waiting[key], self.due[key] = item, item.not_before_ms

    @rule(data=st.data())
    def remove(self, data):
        everyone = {**self.waiting, **{key: item for key, (item, _) in self.claimed.items()}}
        if everyone:
            key = data.draw(st.sampled_from(sorted(everyone)))
            assert self.queue.remove("acme", [everyone[key]]) == 1
            self.waiting.pop(key, None)
            self.claimed.pop(key, None)

    @rule(data=st.data(), priority=st.integers(-2, 2))
    def reprice(self, data, priority):
        if self.waiting:
            key = data.draw(st.sampled_from(sorted(self.waiting)))
            old = self.waiting[key]
            new = QueueItem(
                key=key, lane=old.lane, priority=priority, sequence=old.sequence, not_before_ms=old.not_before_ms,
                concurrency=old.concurrency,
            )  # fmt: skip
            assert self.queue.reprice("acme", [new]) == 1
            self.waiting[key] = new

    @rule(seconds=st.sampled_from([1, 6, CLAIM_SECONDS]))
    def pass_time(self, seconds):
        self.now += timedelta(seconds=seconds)
        if seconds == CLAIM_SECONDS:
            self.queue.tick(now=self.now)
            for key, (item, _) in self.claimed.items():
                self.waiting[key], self.due[key] = item, 0
            self.claimed = {}
        else:
            self.queue.keep([claim for _, claim in self.claimed.values()], now=self.now)

    @rule(data=st.data())
    def lose_redis_and_load_again(self, data):
        from apps.core import redis as door

        client = door.client()
        client.flushall()
        assert self.queue.claim("acme", dict.fromkeys(LANES, 99), limit=9, now=self.now, max_inflight=3) == []
        holds = [
            Hold(
                assignment_id=f"{key}#1", org_id="acme", agent="ada",
                place=place_of(key, item.sequence, item.concurrency.key if item.concurrency else ""),
            )
            for key, item in self.held.items()
        ]  # fmt: skip
        self.holds.take(holds, now=self.now, lease_seconds=9)
        for key, (item, _) in self.claimed.items():
            self.waiting[key], self.due[key] = item, item.not_before_ms
        self.claimed = {}
        items = data.draw(st.permutations(list(self.waiting.values())))
        assert self.queue.missing("acme", items) == items
        self.queue.push("acme", items, now=self.now)
        self.due = {item.key: item.not_before_ms for item in items}
        client.hset(door.key("loader"), "server", client.info("server")["run_id"])

    @invariant()
    def nothing_is_lost_and_nothing_is_left_over(self):
        if hasattr(self, "queue"):
            everyone = [*self.waiting.values(), *(item for item, _ in self.claimed.values())]
            assert self.queue.missing("acme", everyone) == []
            if not everyone and not self.held:
                from apps.core import redis as door

                left = [key for key in door.client().scan_iter() if door.client().ttl(key) < 0]
                assert {key.split(":")[1] for key in left} <= {"wake", "loader"}, left


@pytest.mark.usefixtures("redis")
def test_the_queue_does_what_the_model_says():
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True),
    )
