"""Sessions in bad weather: messages lost, doubled, late, out of order; processes dying between any two writes; the clock
jumping; people pausing, cancelling, retrying. After every write the invariants hold; after healing everything ends.

A failing seed is replayed with `python -m tests.unit.workflows.simulate SEED`; more seeds with `… simulate FIRST LAST`.
"""

from __future__ import annotations

import random

import pytest

from apps.workflows.document.reading import parse
from apps.workflows.states import STEP_ENDED, SessionStatus, StepStatus
from tests.unit.workflows.checks import watched
from tests.unit.workflows.documents import random_document, without_races
from tests.unit.workflows.faults import FAULTS, LoserGoesHome
from tests.unit.workflows.simulate import STORM, behaviour, simulate
from tests.unit.workflows.world import CALM, Engine, Weather, World

SEEDS = 150
"""of each change; a release takes more"""
TO_FIND = 2000


def test_whatever_happens_every_session_ends_and_no_invariant_breaks():
    ends = {simulate(seed).store.session.status for seed in range(SEEDS)}
    assert ends >= {SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.CANCELLED}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_mistake_is_found(fault: str):
    for seed in range(TO_FIND):
        try:
            simulate(seed, FAULTS[fault])
        except AssertionError:
            return
    pytest.fail(f"{FAULTS[fault].__doc__} Nobody noticed in {TO_FIND} seeds.")


def test_faults_change_nothing_in_the_result():
    """The same session in calm and in storm: the same states, the same values in the same order."""
    partial = 0
    for seed in range(50):
        calm, storm = (_ends_of(seed, weather) for weather in (CALM, STORM))
        assert calm == storm, f"seed {seed}"
        partial += StepStatus.SKIPPED in {status for status, _ in calm[0].values()}
    assert partial > 5


def _ends_of(seed: int, weather: object) -> tuple[object, ...]:
    # What failing siblings get cancelled depends on who is first; so nothing here fails its group, or stops at the first.
    rng = random.Random(seed)
    document, sizes = random_document(rng, policies=("skip", "continue"), timeouts=False, joins=[None, "all", {"at_least": 2}])
    without_races(document)
    world = watched(World, parse(document, processors=()), seed, weather=weather, behaviour=behaviour(seed, 0.3), sizes=sizes)
    world.engine.begin()
    world.run(until=100)
    world.heal()
    nodes = {path: (node.status, node.partial) for path, node in world.store.nodes.items()}
    return nodes, dict(sorted(world.store.context.items())), world.store.session.status


def test_in_calm_weather_each_item_is_done_once_and_after_all_its_parents():
    document = {
        "tasks": [
            {"key": "a"},
            {"key": "b", "dependencies": ["a"]},
            {"key": "c", "dependencies": ["a"]},
            {"key": "d", "dependencies": ["b", "c"]},
        ]
    }
    world = watched(World, parse(document, processors=()), 1, sizes={})
    world.engine.begin()
    world.run(until=20)
    assert world.store.session.published
    assert set(world.effects.values()) == {1}
    assert len(world.effects) == 4


def test_the_checks_of_a_simulation_see_an_engine_that_does_nothing():
    class Idle(Engine):
        def advance(self, touched: set[str]):
            return
            yield

    with pytest.raises(AssertionError, match="after healing the session is running"):
        simulate(1, Idle)


STEPS = parse({"tasks": [{"key": f"t{n}", "dependencies": [f"t{n - 1}"] if n % 2 else []} for n in range(8)]}, processors=())


def _cancelled_in_between(seed: int, engine: type[Engine]) -> None:
    world = watched(World, STEPS, seed, engine=engine, weather=Weather(double=0.5))
    world.engine.begin()
    world.spawn(world.engine.cancel(), random.Random(seed).uniform(0, 0.3), safe=True)
    world.run(until=2)
    assert all(node.status in STEP_ENDED for node in world.store.nodes.values()) or not world.cancel_answered


def test_nothing_starts_after_a_cancel_was_answered_however_close_they_come():
    for seed in range(100):
        _cancelled_in_between(seed, Engine)
    with pytest.raises(AssertionError, match="I13"):
        for seed in range(600):
            _cancelled_in_between(seed, LoserGoesHome)
