from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import Stack
from tests.stacks import Org, running, shared


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Faults on whole platforms run on SQLite every time, on MongoDB with --every-store; races (test_races) are the store's own tests."""
    if config.getoption("every_store"):
        return
    left = {item for item in items if "tests/faults/" in item.nodeid and item.name.endswith("mongodb]")}
    if left:
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A platform to be hurt; the parameter is the home of its tasks. Each fault finds it healed from the one before:
    that is part of the test."""
    with shared(running(tmp_path_factory.mktemp("faults") / request.param, request.param)) as platform:
        yield platform


@pytest.fixture
def org(stack: Stack, tmp_path) -> Iterator[Org]:
    """An org with two agents up. Its lease is as short as heartbeats (every 5 s) allow."""
    with Org(stack, tmp_path / "history", agents={"ada": {}, "bo": {}}, lease_seconds=8, retry_backoff_s=0.2) as found:
        found.start("ada", "bo")
        yield found


@pytest.fixture
def platform(transactional_db, redis, nats) -> None:
    """An org with two agents, and the wire; nothing runs by itself (see parts.py)."""
    from apps.messaging.connection import wire
    from tests.factories import make_agent, make_org

    make_org("acme")
    make_agent("acme", "ada")
    make_agent("acme", "bo")
    assert wire().wait_up(10)
    wire().ensure_streams()
