"""One seed, one session in bad weather.

python -m tests.unit.workflows.simulate SEED [FAULT]     replays it
python -m tests.unit.workflows.simulate FIRST LAST       many, until one fails
"""

from __future__ import annotations

import random
import sys
from typing import Any

from apps.workflows.document.reading import parse
from tests.unit.workflows.checks import watched
from tests.unit.workflows.documents import random_document
from tests.unit.workflows.world import CALM, STORM, Engine, Weather, World


def behaviour(seed: int, failing: float) -> Any:
    """Does this attempt at this item succeed? The same answer whenever, wherever, however often it is asked."""
    return lambda path, index, attempt: random.Random(f"{seed}/{path}/{index}/{attempt}").random() >= failing


def simulate(seed: int, engine: type[Engine] | None = None, *, weather: Weather = STORM, people: bool = True, **document: Any) -> World:
    """A random session in this weather, people interfering, then healed and looked at. Raises what the checks find."""
    rng = random.Random(seed)
    made, sizes = random_document(rng, **document)
    spec = parse(made, processors=())
    world = watched(World, spec, seed, engine=engine, weather=weather, behaviour=behaviour(seed, rng.choice([0.0, 0.1, 0.4])), sizes=sizes)
    world.engine.begin()
    if people:
        interfere(world, rng)
    world.run(until=rng.choice([20, 200]))
    world.heal()
    world.watch.at_rest(world.store)
    if people and rng.random() < 0.4:
        world.weather = weather
        path = rng.choice([None, rng.choice(list(spec.nodes))])
        world.spawn(world.engine.retry(path), safe=True)
        world.run(until=60)
        world.heal()
        world.watch.at_rest(world.store)
    return world


def interfere(world: World, rng: random.Random) -> None:
    if rng.random() < 0.25:
        world.spawn(world.engine.cancel(), rng.uniform(0, 3), safe=True)
    if rng.random() < 0.25:
        at = rng.uniform(0, 2)
        world.spawn(world.engine.pause(), at, safe=True)
        world.spawn(world.engine.resume(), at + rng.uniform(0.1, 30), safe=True)


def main() -> None:
    from tests.unit.workflows.faults import FAULTS

    seed, more = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""
    if more.isdigit():
        for one in range(seed, int(more)):
            try:
                simulate(one)
            except AssertionError as found:
                sys.exit(f"seed {one}: {found}\nreplay: python -m tests.unit.workflows.simulate {one}")
        print(f"{int(more) - seed} seeds, nothing found")
        return
    world = simulate(seed, FAULTS[more] if more else None)
    print(f"seed {seed}: {world.store.session.status.value}")
    for path, node in world.store.nodes.items():
        print(f"  {path:24} {node.status.value}{' (partial)' if node.partial else ''}")


if __name__ == "__main__":
    main()

__all__ = ["CALM", "STORM", "behaviour", "main", "simulate"]
