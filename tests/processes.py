"""Whole processes for the upper floors: a platform of `manage.py up`, its HTTP API, its rows; and ways to wait without sleeping."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobplatform.env import BASE_DIR
from tests.services import Server, die_with_parent

START_SECONDS = 180.0
_never = threading.Event()


def worker_id() -> str:
    """`gw0`, `gw1`, … under xdist; `main` without."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


def wait_until(holds: Callable[[], Any], *, seconds: float = 30.0, what: str = "", every: float = 0.05) -> Any:
    """Ask `holds` until its answer is true, and give that answer. For states of other processes that tell nobody."""
    until = time.monotonic() + seconds
    while not (answer := holds()):
        if time.monotonic() > until:
            raise AssertionError(f"after {seconds:.0f} s still not: {what or holds}")
        _never.wait(every)
    return answer


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The body as NDJSON."""
        return [json.loads(line) for line in self.body.splitlines() if line.strip()]


class Api:
    """The platform's HTTP API as one key sees it. Every status is an answer, none an exception."""

    def __init__(self, url: str, key: str = "", *, timeout: float = 40.0) -> None:
        self.url, self.key, self.timeout = url, key, timeout

    def request(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", **headers: str) -> Answer:
        try:
            with self._open(method, path, body, content_type, headers) as response:
                return Answer(status=response.status, body=response.read(), headers=dict(response.headers))
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(status=refused.code, body=refused.read(), headers=dict(refused.headers))

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.request("POST", path, {} if body is None else body, **headers)

    def submit(self, entry: dict[str, Any], *, wait: float | None = None) -> Answer:
        return self.post("/internal/process-task" + ("" if wait is None else f"?wait={wait:g}"), {"type": "task", "data": entry})

    def submit_bulk(self, entries: list[dict[str, Any]]) -> list[Any]:
        body = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
        answer = self.request("POST", "/api/v1/tasks/bulk", body, content_type="application/x-ndjson")
        assert answer.status == 200, (answer.status, answer.body[:500])
        return answer.lines

    def task(self, task_id: str) -> dict[str, Any]:
        answer = self.get(f"/api/v1/tasks/{task_id}")
        assert answer.status == 200, (answer.status, answer.body[:500])
        return answer.json

    def ended(self, task_id: str, *, seconds: float = 30.0) -> dict[str, Any]:
        """The task, once it is in a terminal state."""
        from apps.tasks.states import TERMINAL

        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in TERMINAL else None

        return wait_until(look, seconds=seconds, what=f"{task_id} has ended")

    def stream(self, path: str) -> Iterator[tuple[str, Any]]:
        """Server-sent events as (event, data), until the server ends the stream or the caller stops looking."""
        with self._open("GET", path, None, "", {"Accept": "text/event-stream"}) as response:
            event, data = "message", ""
            for raw in response:
                line = raw.decode().rstrip("\r\n")
                if not line and data:
                    yield event, json.loads(data)
                    event, data = "message", ""
                elif line.startswith("event:"):
                    event = line[6:].strip()
                elif line.startswith("data:"):
                    data += line[5:].strip()

    def _open(self, method: str, path: str, body: Any, content_type: str, headers: dict[str, str]) -> Any:
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key:
            given.setdefault("Authorization", f"Bearer {self.key}")
        if raw is not None:
            given.setdefault("Content-Type", content_type)
        request = urllib.request.Request(self.url + path, data=raw, method=method, headers=given)
        return urllib.request.urlopen(request, timeout=self.timeout)


class Rows:
    """The task store's rows as they lie in the database, read past the platform's own code."""

    SEALED = frozenset({"entry", "result", "excluded_agents", "decision", "body", "input", "output"})

    def __init__(self, file: Path, mongodb_url: str = "") -> None:
        self._file, self._mongodb_url = file, mongodb_url

    def tasks(self, org_id: str) -> list[dict[str, Any]]:
        return self._all("tasks_task", org_id)

    def transitions(self, org_id: str) -> list[dict[str, Any]]:
        return self._all("tasks_transition", org_id)

    def assignments(self, org_id: str) -> list[dict[str, Any]]:
        return self._all("tasks_assignment", org_id)

    def reports(self, org_id: str) -> list[dict[str, Any]]:
        return self._all("tasks_report", org_id)

    def workflow_items(self, org_id: str) -> list[dict[str, Any]]:
        return self._all("workflows_item", org_id)

    def policy_runs(self, org_id: str) -> list[dict[str, Any]]:
        return self._all("dsl_policyrun", org_id)

    def statuses(self, org_id: str) -> dict[str, int]:
        """How many tasks of the org are in each status."""
        if self._mongodb_url:
            with self._client() as client:
                groups = [{"$match": {"org_id": org_id}}, {"$group": {"_id": "$status", "count": {"$sum": 1}}}]
                return {row["_id"]: row["count"] for row in client.get_default_database()["tasks_task"].aggregate(groups)}
        with sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=20) as connection:
            return dict(connection.execute("SELECT status, count(*) FROM tasks_task WHERE org_id = ? GROUP BY status", (org_id,)))

    def _all(self, table: str, org_id: str) -> list[dict[str, Any]]:
        if self._mongodb_url:
            with self._client() as client:
                return list(client.get_default_database()[table].find({"org_id": org_id}))
        with sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=20) as connection:
            connection.row_factory = sqlite3.Row
            rows = [dict(row) for row in connection.execute(f"SELECT * FROM {table} WHERE org_id = ?", (org_id,))]
        for row in rows:
            for name in self.SEALED & row.keys():
                row[name] = None if row[name] is None else json.loads(row[name])
        return rows

    def _client(self) -> Any:
        import pymongo

        return pymongo.MongoClient(self._mongodb_url, directConnection=True)


METRICS_TOKEN = "what-prometheus-knows"


class Stack:
    """One whole platform: `manage.py up` in a data directory of its own, on free ports."""

    def __init__(self, data: Path, *, tasks_url: str = "", options: tuple[str, ...] = (), **environment: str) -> None:
        self.data, self.tasks_url = data, tasks_url
        self.environment = {
            "JOBPLATFORM_DATA": str(data),
            "TASKS_DATABASE_URL": tasks_url,
            "LOG_LEVEL": "INFO",
            "OUTBOUND_ALLOW": "127.0.0.1",
            "METRICS_TOKEN": METRICS_TOKEN,
            "EVENT_TRANSPORTS": "redis",
            "EVENT_ORGS": "*",
            "TASK_PROCESSORS": "tests.integration.workflows.processors,tests.agents.processors",
            "REDIS_URL": "",
            "NATS_URL": "",
            "DATABASE_URL": "",
            "CELERY_BROKER_URL": "",
            "PYTHONPATH": os.pathsep.join((str(BASE_DIR), str(BASE_DIR / "sdk"))),
            **environment,
        }
        command = [sys.executable, str(BASE_DIR / "manage.py"), "up", "--port", "0", *options]
        self.process = Server("platform", command, ready=r"^READY", port=0, env=self.environment)
        self._seeder: subprocess.Popen[str] | None = None
        self._one_seed_at_a_time = threading.Lock()
        self.rows = Rows(data / "platform.sqlite3", tasks_url)
        self.agents: list[Server] = []

    def start(self) -> Stack:
        self.process.start(START_SECONDS)
        return self

    def stop(self) -> int:
        """Ctrl-C; the exit status."""
        if self._seeder is not None:
            self._seeder.communicate()
            self._seeder = None
        for agent in self.agents:
            agent.kill()
        self.process.process.send_signal(signal.SIGINT)
        return self.process.process.wait(30)

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.data / "run" / "stack.json").read_text())

    @property
    def url(self) -> str:
        return self.state["urls"]["web"]

    @property
    def pids(self) -> dict[str, int]:
        return self.state["pids"]

    def api(self, key: str = "") -> Api:
        return Api(self.url, key)

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`manage.py …` beside the running platform."""
        return subprocess.run(
            [sys.executable, str(BASE_DIR / "manage.py"), *arguments],
            env={**os.environ, **self.environment}, capture_output=True, text=True, check=check, timeout=60,
        )  # fmt: skip

    def seed(self, **wishes: Any) -> dict[str, str]:
        """Make an org with agents and keys in one go (see tests/seed.py); the printed keys by name."""
        with self._one_seed_at_a_time:
            if self._seeder is None:
                self._seeder = subprocess.Popen(
                    [sys.executable, "-m", "tests.seed"], env={**os.environ, **self.environment}, cwd=BASE_DIR,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
                )  # fmt: skip
            self._seeder.stdin.write(json.dumps(wishes) + "\n")
            self._seeder.stdin.flush()
            return json.loads(self._seeder.stdout.readline())

    def kill_outright(self, name: str) -> int:
        """SIGKILL one child by its name in stack.json; its pid."""
        pid = self.pids[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill(self, name: str) -> None:
        """SIGKILL one child and wait until the supervisor has started another."""
        before = self.kill_outright(name)
        wait_until(lambda: self.pids.get(name, before) != before, seconds=30, what=f"{name} is started again")

    def log(self) -> str:
        """The last lines of everybody; for people reading a failure."""
        return self.process.output()
