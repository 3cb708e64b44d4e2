"""Tasks that crash their agents: found, put away, and not held against the agents. On every store."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from apps.agents.breaker import BreakerBoard
from apps.agents.models import Evidence
from apps.tasks.models import Decision
from apps.tasks.queue import PriorityQueue
from tests.factories import make_org

pytestmark = pytest.mark.store


def crash(floor, *names: str) -> set[str]:
    """Whoever has these dies with them; answers who."""
    dead = {floor.agent_of(name) for name in names}
    floor.runs(*names)
    floor.silence()
    return dead


def test_a_task_that_crashed_three_agents_is_quarantined_and_says_so(floor):
    floor.hire("ada", "bo", "cy", "di")
    floor.queue("poison")
    crashed: list[str] = []
    for _ in range(3):
        floor.beat("ada", "bo", "cy", "di")
        floor.dispatch()
        crashed += crash(floor, "poison")
    assert len(set(crashed)) == 3
    task = floor.task("poison")
    assert task.status == "failed"
    assert task.reason.startswith(f"quarantined: it crashed 3 agents ({', '.join(sorted(crashed))})")
    decision = Decision.objects.get(kind="quarantine")
    assert (decision.task_key, decision.outcome, decision.details["agents"]) == ("acme/poison", "failed", sorted(crashed))
    assert set(Evidence.objects.values_list("outcome", "excused")) == {("lost", True)}


def test_the_same_agent_crashing_again_and_again_is_not_several(floor):
    floor.hire("ada")
    floor.queue("poison", max_attempts=4)
    for _ in range(4):
        floor.beat("ada")
        floor.dispatch()
        crash(floor, "poison")
    assert floor.task("poison").reason.endswith("that was the last attempt")
    assert not Decision.objects.filter(kind="quarantine").exists()


def test_two_that_are_equally_suspect_are_set_apart_and_not_both_put_away(floor):
    floor.hire("ada", "bo", "cy", "di")
    floor.queue("p1", "p2")
    for agent in ("ada", "bo", "cy"):
        floor.beat(agent)
        floor.dispatch()
        assert crash(floor, "p1", "p2") == {agent}
        returns = sorted(floor.task(name).not_before for name in ("p1", "p2"))
        assert (returns[1] - returns[0]).total_seconds() == 1  # they do not meet again
        floor.later(2)
        PriorityQueue().tick(now=floor.now)
    assert {floor.task(name).status for name in ("p1", "p2")} == {"queued"} and not Decision.objects.exists()
    kept_back = PriorityQueue().claim("acme", {"": 1}, limit=1, now=floor.now)
    PriorityQueue().defer(kept_back, until=floor.now + timedelta(hours=1))
    floor.beat("di")
    floor.dispatch()
    [alone] = [name for name in ("p1", "p2") if floor.agent_of(name) == "di"]
    crash(floor, alone)
    assert floor.task(alone).reason.startswith("quarantined: it crashed 4 agents")


def test_how_many_crashes_is_the_orgs_to_say(floor):
    make_org("acme", quarantine_after_crashes=2)
    floor.hire("ada", "bo")
    floor.queue("poison")
    for _ in range(2):
        floor.beat("ada", "bo")
        floor.dispatch()
        crash(floor, "poison")
    assert floor.task("poison").reason.startswith("quarantined: it crashed 2 agents (ada, bo)")


def test_beside_a_suspect_the_others_are_innocent_and_lose_no_attempt(floor):
    floor.hire("ada", "bo")
    floor.queue("poison")
    floor.beat("ada")
    floor.dispatch()
    crash(floor, "poison")
    floor.queue("good")
    floor.beat("bo")
    floor.dispatch()
    assert floor.agent_of("good") == floor.agent_of("poison") == "bo"
    floor.runs("good", "poison")
    floor.silence()
    assert floor.task("poison").excluded_agents == {"ada": "crashed", "bo": "crashed"}
    good = floor.task("good")
    assert (good.excluded_agents, good.attempt, good.max_attempts) == ({"bo": "lost"}, 1, 6)
    assert "another task of that moment is under suspicion" in good.reason


def test_twenty_poison_tasks_among_good_ones_bar_no_agent(floor):
    """Every seventh task kills whoever begins it, and the other task that agent is at. What it had not begun waits unfetched."""
    agents = ("ada", "bo", "cy", "di")
    floor.hire(*agents)
    poison, good = [f"p{n}" for n in range(20)], [f"g{n}" for n in range(120)]
    mixed = poison + good
    random.Random(20).shuffle(mixed)
    floor.queue(*mixed)
    floor.slots = 2
    for _ in range(300):
        floor.beat(*agents)
        floor.dispatch()
        waiting = sorted((task for task in floor.tasks().values() if task.status == "dispatched"), key=lambda task: task.delivery_seq)
        pairs = [[task.task_id for task in waiting if task.head_agent_subject_id == agent][:2] for agent in agents]
        dying = [name for pair in pairs if set(pair) & set(poison) for name in pair]
        floor.completes(*[name for pair in pairs for name in pair if name not in dying])
        if dying:
            floor.runs(*dying)
            floor.silence(but=set(agents) - {floor.agent_of(name) for name in dying})
        elif waiting:
            floor.later(1)
        elif floor.later(5) and not any(task.status == "queued" for task in floor.tasks().values()):
            break
        assert BreakerBoard("acme").all(now=floor.now) == {}
    ended = floor.tasks()
    assert {ended[name].status for name in poison} == {"failed"}
    assert sum(ended[name].reason.startswith("quarantined") for name in poison) >= 16
    # Whoever dies again and again beside others' poison may be taken for poison too: rare, and never lost.
    assert sum(ended[name].status == "completed" for name in good) >= 114
