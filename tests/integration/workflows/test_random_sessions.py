"""The engine and the simulator agree: random sessions, run with real rows while hints are lost, doubled and re-ordered, end
exactly as the same sessions do in the simulator's calm weather. One core decides in both."""

from __future__ import annotations

import random

import pytest

from apps.workflows.models import Item, Step
from apps.workflows.processors import TaskProcessor, WorkItem, register
from apps.workflows.spec import parse
from tests.unit.workflows.checks import watched
from tests.unit.workflows.documents import random_document, without_races
from tests.unit.workflows.simulate import behaviour
from tests.unit.workflows.world import World

pytestmark = pytest.mark.store

SESSIONS = 8
FAILING = 0.3


@register
class Fated(TaskProcessor):
    """Whether an attempt at an item succeeds is written in the stars, and in the simulator."""

    def execute_task(self, item: WorkItem) -> str:
        if not behaviour(item.input["seed"], FAILING)(item.path, item.index, item.attempt):
            raise ValueError("fate")
        return f"{item.path}/{item.index}"


def test_random_sessions_end_as_the_simulator_says(flow, hand):
    hand.rng = random.Random(42)
    sessions = {flow.start(_document(seed)): seed for seed in range(SESSIONS)}
    hand.settle(rounds=200)
    ends: set[str] = set()
    for session_id, seed in sessions.items():
        world = _simulated(seed)
        rows = {row.path: row for row in Step.objects.filter(session_key=f"acme/{session_id}")}
        assert {path: (row.status, row.partial) for path, row in rows.items()} == {
            path: (node.status.value, node.partial) for path, node in world.store.nodes.items()
        }, f"seed {seed}"
        for path, row in rows.items():
            done = {item.index: (item.status, item.attempt) for item in Item.objects.filter(step_run=row.step_run)}
            assert done == {id[2]: (item.status.value, item.attempt) for id, item in world.store.of(path)}, f"seed {seed}: {path}"
        ends |= {row.status for row in rows.values()}
    assert ends >= {"completed", "failed", "skipped"}


def _document(seed: int):
    document, _ = _random(seed)
    return document


def _random(seed: int):
    calm = {"policies": ("skip", "continue"), "timeouts": False, "joins": [None, "all", {"percent": 50}]}
    document, sizes = random_document(random.Random(seed), **calm)
    without_races(document)
    document["defaults"] = {"executor": "celery", "agent_class": "Fated"}
    for task in _tasks(document):
        task["input"] = {"seed": seed}
    return document, sizes


def _tasks(group):
    for inner in group.get("task_groups", ()):
        yield from _tasks(inner)
    yield from group.get("tasks", ())


def _simulated(seed: int) -> World:
    document, sizes = _random(seed)
    spec = parse(document, processors=("Fated",))
    world = watched(World, spec, seed, behaviour=behaviour(seed, FAILING), sizes=sizes)
    world.engine.begin()
    world.run(until=500)
    world.heal()
    return world
