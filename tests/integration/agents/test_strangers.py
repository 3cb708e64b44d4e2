"""Agents that nobody hears: those that were never here, and those that Redis has forgotten. On every store."""

from __future__ import annotations

import pytest

from apps.agents import heartbeats
from apps.agents.models import AgentRecord, Evidence
from apps.agents.records import AgentBook
from apps.core import redis as door
from apps.tasks.models import Decision
from tests.factories import make_key
from tests.integration.tasks_api.conftest import Caller

pytestmark = pytest.mark.store


def forget(redis) -> None:
    """An hour without a heartbeat of the org, or a Redis that was lost."""
    redis.delete(door.key("presence", "acme"))


def test_tasks_wait_for_agents_that_have_been_away_so_long_that_they_are_forgotten(floor, redis):
    floor.hire("ada", "bo")
    floor.beat("ada", "bo")
    heartbeats.tend(now=floor.now)
    floor.later(7200)
    forget(redis)
    floor.queue("t1")
    assert floor.dispatch() == 0 and floor.task("t1").status == "queued"
    shown = Caller(make_key("acme", "operator")).get("/api/v1/agents/ada").json()
    assert (shown["presence"], shown["barred"]) == ("away", "away")
    floor.beat("bo")
    floor.dispatch()
    assert (floor.agent_of("t1"), floor.task("t1").attempt) == ("bo", 1)


def test_that_an_agent_announces_itself_is_known_to_who_read_the_roster_before(floor, redis):
    floor.hire("ada")
    floor.queue("t0")
    floor.dispatch()  # the roster is read, and ada a stranger
    assert floor.agent_of("t0") == "ada"
    floor.beat("ada")
    heartbeats.tend(now=floor.now)
    forget(redis)
    floor.queue("t1")
    assert floor.dispatch() == 0


def test_tasks_that_agents_never_came_for_cost_nothing_and_accuse_nobody(floor):
    floor.hire("ada", "bo", "cy", "di")
    floor.queue("t1")
    had = set()
    for _ in range(6):  # more than it has attempts, and twice as many as it takes to be put away for crashing agents
        assert floor.dispatch() == 1
        had.add(floor.agent_of("t1"))
        floor.silence()
    task = floor.task("t1")
    assert (task.status, len(had)) == ("queued", 4) and task.reason.endswith("had not fetched it")
    assert task.max_attempts - task.attempt == 5 and not Evidence.objects.exists() and not Decision.objects.exists()
    floor.beat("cy")
    floor.dispatch()
    floor.runs("t1")
    floor.completes("t1")
    assert floor.task("t1").status == "completed"


def test_one_that_is_let_in_again_is_a_stranger_again(floor, redis):
    """What it was may have announced itself; what has its new key need not."""
    floor.hire("ada")
    floor.beat("ada")
    heartbeats.tend(now=floor.now)
    AgentBook("acme", by="olga", now=floor.now).revoke("ada")
    make_key("acme", "agent", "ada")
    assert AgentRecord.objects.get().last_seen_at is None
    forget(redis)
    floor.queue("t1")
    floor.dispatch()
    assert floor.agent_of("t1") == "ada"
