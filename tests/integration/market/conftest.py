"""Real agents of the SDK, many in one thread, on a real NATS server that checks their credentials."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from apps.agents.presence import PresenceBoard
from apps.core import clock, ids
from apps.messaging import connection, credentials, streams, subjects
from apps.tasks.executor import JobExecutor
from apps.tasks.models import Task
from apps.tasks.queue import PriorityQueue, item_of
from apps.tasks.store import Birth, TaskStore
from jobplatform_sdk import Agent
from tests.factories import NOON, make_agent, make_entry


class Crowd:
    """`hire("ada", bidder)`: an agent in the pool, present, and answering calls. Tasks it is given wait unread in its handler."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.wire = connection.wire()
        assert self.wire.wait_up(10)
        self.wire.ensure_streams()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._agents: list[tuple[Agent, Any]] = []
        self._heard: set[str] = set()
        self._more = threading.Condition()
        self.wire.subscribe(subjects.ALL_HEARTBEATS, self._hear)

    def _hear(self, _subject: str, payload: bytes) -> None:
        with self._more:
            self._heard.add(orjson.loads(payload)["subject_id"])
            self._more.notify_all()

    def key(self, name: str, org_id: str = "acme") -> str:
        secret = secrets.token_urlsafe(32)
        made = credentials.agent_credentials(org_id, name, secret, None)
        token = subjects.agent_token(org_id, name)
        self.wire.call(streams.ensure_agents(self.wire.link, [token]), 10)
        return f"jp_test_{secret}.{made.jwt}"

    def hire(self, *names: str, bidder: Callable[..., Any] | None = None, slots: int = 8, work: Callable[..., Any] | None = None) -> None:
        for name in names:
            make_agent("acme", name)
            agent = Agent(nats_url=self.url, api_key=self.key(name), concurrency=slots, drain_seconds=0.1)
            agent.handler(work or _wait)
            if bidder:
                agent.bidder(bidder)
            self._agents.append((agent, asyncio.run_coroutine_threadsafe(agent.serve(), self._loop)))
        with self._more:
            assert self._more.wait_for(lambda: self._heard >= set(names), 20), set(names) - self._heard
        for name in names:
            PresenceBoard().record("acme", name, slots=slots, instance="i", leaving=False, now=NOON)

    def close(self) -> None:
        for agent, _ in self._agents:
            agent.stop()
            agent.stop()
        for _, serving in self._agents:
            serving.result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


async def _wait(task: Any, context: Any) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def crowd(redis, nats) -> Iterator[Crowd]:
    found = Crowd(nats)
    yield found
    found.close()


@pytest.fixture
def queued() -> Callable[..., list[Task]]:
    def put(*names: str, org_id: str = "acme", **fields: Any) -> list[Task]:
        entry = fields.pop("entry", {})
        tasks = [
            Task(
                **{
                    "key": ids.task_key(org_id, name), "org_id": org_id, "task_id": name, "goal": "g", "intent": "i",
                    "submitter_subject_id": f"{org_id}:sam", "entry": make_entry(task_id=name, **entry), "body_hash": "",
                    "status": "queued", "priority": 0, "sequence": clock.sequence(), "created_at": NOON, "updated_at": NOON,
                    **fields,
                }
            )
            for name in names
        ]  # fmt: skip
        TaskStore().insert_many([Birth(task=task, reason="accepted", actor="tests") for task in tasks], now=NOON)
        PriorityQueue().push(org_id, [item_of(task) for task in tasks], now=NOON)
        return tasks

    return put


@pytest.fixture
def dispatch() -> Callable[..., int]:
    return lambda now=NOON: JobExecutor().run_batch(now=now)
