"""Loaded before Django's settings (`-p tests.early` in pyproject.toml): gives the tests an environment of their own, and
xdist's workers their shares.

Nothing of the developer's platform is touched: a data directory per process, a fixed secret, and addresses where
nobody listens until a fixture (`redis`, `nats`) starts a real server.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import tempfile
from typing import Any

import pytest

from tests.services import mongodb_server

# A suite's modules and tests stay until it ends: looking for garbage among them again and again is a tenth of its time.
gc.set_threshold(50_000, 20, 20)

OWN = ("REDIS_URL", "NATS_URL", "DATABASE_URL", "TASKS_DATABASE_URL", "CELERY_BROKER_URL", "REDIS_PREFIX", "ALLOWED_HOSTS", "DEBUG")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tasks-db",
        choices=("sqlite", "mongodb"),
        default="sqlite",
        help="home of the task store; mongodb: $TEST_MONGODB_URL, or secantusdb in a process of its own",
    )
    parser.addoption("--every-store", action="store_true", help="all acceptance tests on both homes of the task store")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    for name in OWN:
        os.environ.pop(name, None)
    data = tempfile.mkdtemp(prefix="jobplatform-test-")
    early_config.add_cleanup(lambda: shutil.rmtree(data, ignore_errors=True))
    os.environ.update(
        JOBPLATFORM_DATA=data,
        SECRET_KEY="a-fixed-key-for-tests-only-" + "x" * 32,
        REDIS_URL="redis://127.0.0.1:1/0",
        NATS_URL="nats://127.0.0.1:1",
        CELERY_BROKER_URL="memory://",
        LOG_LEVEL="WARNING",
    )
    if early_config.known_args_namespace.tasks_db == "mongodb":
        os.environ["TASKS_DATABASE_URL"] = _mongodb_url(early_config)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


def _mongodb_url(config: pytest.Config) -> str:
    """One server for the whole run: xdist's controller starts it, its workers get the address; each has its own database."""
    shared = os.environ.get("TEST_MONGODB_URL")
    if not shared:
        server = mongodb_server()
        server.start()
        config.add_cleanup(server.stop)
        shared = os.environ["TEST_MONGODB_URL"] = f"mongodb://127.0.0.1:{server.port}/jobplatform"
    return shared


SHARED = re.compile(r"(tests/acceptance|tests/faults)/.*[\[-](sqlite|mongodb)[\]-]|tests/integration/platform/(test_up)\.py")
"""Tests on one shared platform, known by where they stand and by the home of its tasks."""


CARRIED = re.compile(r"(tests/contracts/jobs)/.*\[(celery|rq|dramatiq|memory)[\]-]")
"""Tests with the same workers of jobs."""


def share(nodeid: str) -> str:
    """What a test stands on together with others: a platform, workers; a name of its own when it stands on nothing."""
    shared = SHARED.match(nodeid) or CARRIED.match(nodeid)
    return " on ".join(filter(None, shared.groups())) if shared else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """All tests of one platform go to one worker, the biggest shares first; every other test goes where there is room.

    (pytest-xdist 3.8 has `--dist loadgroup` for this, which pytest 9.2 silently ignores.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByPlatform(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share(nodeid)

    return ByPlatform(config, log) if config.getvalue("dist") == "load" else None
