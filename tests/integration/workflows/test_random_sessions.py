"""The engine and the simulator agree: random sessions, run with real rows while hints are lost, doubled and re-ordered, end
exactly as the same sessions do in the simulator's calm weather. One core decides in both."""

from __future__ import annotations

import random

import pytest

from apps.core import clock
from apps.core.errors import Conflict
from apps.workflows.document.reading import load, parse
from apps.workflows.engine import store
from apps.workflows.engine.processors import TaskProcessor, WorkItem, register
from apps.workflows.models import Chunk, Item, SessionEvent, Step
from apps.workflows.states import STEP_ENDED
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


def test_random_sessions_end_with_nothing_open_whatever_people_do(flow, hand):
    rng = hand.rng = random.Random(7)
    sessions = [flow.start(_wild(seed)) for seed in range(100, 100 + SESSIONS)]
    for _ in range(6):
        hand.deliver(most=hand.delivered + rng.randrange(60))
        for session_id in sessions:
            _steer(flow, session_id, rng)
        hand.tend(rng.choice([0, 30, 300]))
    for session_id in sessions:
        if flow.status(session_id) == "paused":
            flow.sessions.resume(flow.principal, session_id, now=clock.now())
    hand.settle(rounds=200, seconds=100)
    assert not Step.objects.filter(status__in=store.STEP_IS_OPEN).exists()
    assert {flow.status(session_id) for session_id in sessions} >= {"completed", "cancelled"}
    for session_id in sessions:
        rows = {row.path: row for row in Step.objects.filter(session_key=f"acme/{session_id}")}
        runs = [row.step_run for row in rows.values()]
        assert not Item.objects.filter(step_run__in=runs, status__in=["pending", "running"]).exists(), session_id
        assert not Chunk.objects.filter(step_run__in=runs, status__in=["waiting", "sent", "running", "away"]).exists(), session_id
        _each_after_its_parents(flow, session_id, rows)


def _steer(flow, session_id: str, rng: random.Random) -> None:
    verbs = flow.sessions
    ask = {
        "cancel": lambda: verbs.cancel(flow.principal, session_id, now=clock.now()),
        "pause": lambda: verbs.pause(flow.principal, session_id, now=clock.now()),
        "resume": lambda: verbs.resume(flow.principal, session_id, now=clock.now()),
        "retry": lambda: verbs.retry(flow.principal, session_id, now=clock.now()),
        "rerun": lambda: verbs.rerun(flow.principal, session_id, "g0.t0", now=clock.now()),
    }
    verb = rng.choice(["", "", "", "", "pause", "resume", "resume", "cancel", "retry", "rerun"])
    if not verb:
        return
    try:
        ask[verb]()
    except Conflict:
        return
    if verb == "cancel":
        assert not Step.objects.filter(session_key=f"acme/{session_id}", status__in=store.STEP_IS_OPEN).exists()


def _each_after_its_parents(flow, session_id: str, rows: dict[str, Step]) -> None:
    spec = load(flow.sessions.document(flow.principal, session_id))
    began: dict[str, int] = {}
    ended: dict[str, int] = {}
    events = SessionEvent.objects.filter(session_key=f"acme/{session_id}", item=None).order_by("id")
    for place, event in enumerate(events):
        if event.old == "waiting":
            began[event.path] = place
        if event.new in STEP_ENDED:
            ended[event.path] = place
    for path, row in rows.items():
        if row.status == "completed" and row.kind == "step":
            assert all(ended[one] < began[path] for one in (*spec.nodes[path].needs, *spec.nodes[path].wants)), (session_id, path)


def _wild(seed: int):
    document, _ = random_document(random.Random(seed))
    return _fated(document, seed)


def _document(seed: int):
    document, _ = _random(seed)
    return document


def _random(seed: int):
    calm = {"policies": ("skip", "continue"), "timeouts": False, "joins": [None, "all", {"percent": 50}]}
    document, sizes = random_document(random.Random(seed), **calm)
    without_races(document)
    return _fated(document, seed), sizes


def _fated(document, seed: int):
    document["defaults"] = {"executor": "celery", "agent_class": "Fated"}
    for task in _tasks(document):
        task["input"] = {"seed": seed}
    return document


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
