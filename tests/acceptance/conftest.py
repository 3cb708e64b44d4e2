from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jobplatform.env import BASE_DIR
from tests.processes import Stack
from tests.stacks import STORES, Org, running, shared

ON_BOTH = {"test_journeys", "test_bulk_on_the_wire"}
"""What runs on both homes of the task store every time. The rest does with --every-store; what they store has tests of its own there."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("every_store"):
        return
    left = {item for item in items if "tests/acceptance/" in item.nodeid and "mongodb" in item.name and item.path.stem not in ON_BOTH}
    if left:
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session", params=STORES)
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole platform of real processes; its tasks on SQLite, and again on MongoDB's wire protocol."""
    data = tmp_path_factory.mktemp("stack") / request.param
    own = {"EXAMPLES": "1", "EXTRA_URLS": "tests.acceptance.spec_003_views,sums", "PYTHONPATH": _with_the_readmes_view(data.parent)}
    with shared(running(data, request.param, **own)) as platform:
        yield platform


def _with_the_readmes_view(folder: Path) -> str:
    """A path for imports, on which the program of the README's section on jobs is `sums.py`, as if somebody had pasted it."""
    section = (BASE_DIR / "README.md").read_text().partition("## Turn a view into a job")[2].partition("\n## ")[0]
    (folder / "sums.py").write_text(section.partition("```python\n")[2].partition("```")[0])
    return os.pathsep.join((str(BASE_DIR), str(BASE_DIR / "sdk"), str(folder)))


@pytest.fixture
def make_org(stack: Stack, tmp_path: Path) -> Iterator[Callable[..., Org]]:
    """`make_org(agents={"ada": {}}, max_attempts=2)`: an org of this test's own, gone with its processes afterwards."""
    with ExitStack() as orgs:

        def make(**wishes: Any) -> Org:
            return orgs.enter_context(Org(stack, tmp_path / "history", **wishes))

        yield make


@pytest.fixture(scope="session")
def org(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Org]:
    """An org with two agents, both up; shared by all tests that need no more than that."""
    with Org(stack, tmp_path_factory.mktemp("history"), agents={"ada": {}, "bo": {}}, lease_seconds=8, retry_backoff_s=0.2) as found:
        found.start("ada", "bo")
        yield found
