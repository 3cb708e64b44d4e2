"""Platforms to drive: one `manage.py up` per home of the task store, shared by the tests of one xdist worker."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from jobplatform.env import BASE_DIR
from tests import services
from tests.checker import read_histories, violations
from tests.factories import make_entry
from tests.processes import Api, Stack, wait_until
from tests.services import Server

_count = itertools.count(1)


STORES = ("sqlite", "mongodb")
"""Where a platform's tasks may live: parameters of `stack` fixtures. All tests of one platform stay in one xdist worker."""


@contextmanager
def running(data: Path, store: str, **options: Any) -> Iterator[Stack]:
    """A whole platform with its tasks on `store`. What everybody logged is in `data/log` and, on failure, in the report."""
    mongodb, tasks_url = None, ""
    if store == "mongodb":
        server = os.environ.get("TEST_MONGODB_URL", "")
        if not server:
            mongodb = services.mongodb_server()
            mongodb.start()
            server = f"mongodb://127.0.0.1:{mongodb.port}"
        tasks_url = urlsplit(server)._replace(path=f"/stack_{os.getpid()}_{next(_count)}").geturl()
    stack = Stack(data, tasks_url=tasks_url, **options)
    try:
        yield stack.start()
        assert stack.stop() == 0, stack.log()
    finally:
        for agent in stack.agents:
            agent.kill()
        stack.process.kill()
        if mongodb:
            mongodb.kill()


_shared: list[ExitStack] = []


@contextmanager
def shared(platform: AbstractContextManager[Stack]) -> Iterator[Stack]:
    """A platform for all tests of a share; it ends with the last of them (`end_shared`), or with the session."""
    with ExitStack() as ending:
        _shared.append(ending)
        yield ending.enter_context(platform)


def end_shared() -> None:
    """An idle platform would cost the tests that follow one of the two cores."""
    while _shared:
        _shared.pop().close()


class Gate:
    """Something a task does that goes on when the test says so: `org.entry(do=gate.do())`, later `gate.open()`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / f"gate-{next(_count)}"

    def do(self, **more: Any) -> dict[str, Any]:
        return {"until": str(self._file), **more}

    def open(self, percent: float | None = None) -> None:
        """Let it end; with `percent`: let it go on after that report of its progress."""
        (self._file if percent is None else self._file.with_name(f"{self._file.name}.{percent:g}")).touch()


class Org:
    """One org on a running platform, with its people and agents; every test makes its own, so tests do not meet."""

    def __init__(self, stack: Stack, history: Path, *, agents: dict[str, Any] | None = None, **config: Any) -> None:
        self.stack, self.history = stack, history
        self.org_id = f"org{next(_count)}"
        roles = {"sam": "submitter", "olga": "operator", "ann": "org_admin"}
        self.keys = stack.seed(org=self.org_id, config=config, roles=roles, agents=agents or {})
        self.processes: dict[str, Server] = {}

    def __enter__(self) -> Org:
        return self

    def __exit__(self, *_error: Any) -> None:
        for process in self.processes.values():
            process.stop()

    @property
    def api(self) -> Api:
        """As its submitter sees it."""
        return self.as_("sam")

    def as_(self, name: str) -> Api:
        return self.stack.api(self.keys[name])

    def entry(self, **overrides: Any) -> dict[str, Any]:
        do = overrides.pop("do", None)
        if do is not None:
            overrides["task_job_submission_data"] = {**overrides.get("task_job_submission_data", {}), "do": do}
        return make_entry(**{"submitter_subject_id": f"{self.org_id}:sam", **overrides})

    def gate(self) -> Gate:
        return Gate(self.history)

    def start(self, *names: str, slots: int = 8) -> list[Server]:
        """A real agent process each (tests/agents/recorder.py); back when the platform has heard of all of them."""
        before = {name: self._instance(name) for name in names}
        started = [self._process(name, slots) for name in names]
        for process in started:
            process.begin()
        for process in started:
            process.wait_ready()
        for name in names:
            wait_until(lambda name=name: self._instance(name) not in {before[name], ""}, what=f"{name} is present")
        return started

    def _process(self, name: str, slots: int) -> Server:
        command = [sys.executable, "-m", "tests.agents.recorder", name, str(self.history), str(slots)]
        paths = os.pathsep.join((str(BASE_DIR / "sdk"), str(BASE_DIR)))
        env = {"JOBPLATFORM_NATS_URL": self.stack.state["urls"]["nats"], "JOBPLATFORM_API_KEY": self.keys[name], "PYTHONPATH": paths}
        process = Server(f"{self.org_id}-{name}", command, ready="agent.started", port=0, env=env)
        self.processes[name] = process
        self.stack.agents.append(process)
        return process

    def _instance(self, name: str) -> str:
        """Which process of the agent the platform last heard."""
        with redis.Redis.from_url(self.stack.state["urls"]["redis"]) as client:
            seen = client.hget(f"jp:presence:{self.org_id}", name)
        return json.loads(seen)[2] if seen else ""

    # What is there

    def tasks(self) -> dict[str, dict[str, Any]]:
        return {row["task_id"]: row for row in self.stack.rows.tasks(self.org_id)}

    def path(self, task_id: str) -> list[str]:
        """The statuses a task went through, in order."""
        rows = [row for row in self.stack.rows.transitions(self.org_id) if row["task_key"] == f"{self.org_id}/{task_id}"]
        return [row["new"] for row in sorted(rows, key=lambda row: row["_id"])]

    def starts(self, task_id: str) -> list[tuple[str, int]]:
        """(agent, attempt) of each start, as the agents themselves wrote it down."""
        lines = [line for line in read_histories(self.history) if line["event"] == "start" and line["task_id"] == task_id]
        return [(line["agent"], line["attempt"]) for line in lines]

    def all_ended(self, count: int, *, seconds: float = 60.0) -> dict[str, int]:
        """Wait until the org has `count` tasks and none is open; how many ended how."""
        from apps.tasks.states import TERMINAL

        def ended() -> dict[str, int] | None:
            found = self.stack.rows.statuses(self.org_id)
            return found if sum(found.values()) >= count and found.keys() <= TERMINAL else None

        try:
            return wait_until(ended, seconds=seconds, every=0.2)
        except AssertionError:
            found = self.stack.rows.statuses(self.org_id)
            raise AssertionError(f"after {seconds:.0f} s not all {count} have ended: {found}\n{self.stack.log()}") from None

    def violations(self, accepted: list[str]) -> list[str]:
        """Broken promises about these tasks."""
        ids = set(accepted)
        keys = {f"{self.org_id}/{task_id}" for task_id in ids}
        rows = self.stack.rows
        return violations(
            accepted=accepted,
            tasks=[row for row in rows.tasks(self.org_id) if row["_id"] in keys],
            transitions=[row for row in rows.transitions(self.org_id) if row["task_key"] in keys],
            assignments=[row for row in rows.assignments(self.org_id) if row["task_key"] in keys],
            reports=[row for row in rows.reports(self.org_id) if row["task_key"] in keys],
            history=[line for line in read_histories(self.history) if line["task_id"] in ids],
        )
