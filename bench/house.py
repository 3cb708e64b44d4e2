"""The platform that is measured: an org, no-op agents, and the ways to give them work."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import redis

from bench.measure import Cpu, Wrong, cpu
from demo.stage import Process, Stage
from jobplatform_sdk.client import Client

ORG = "bench"
SPACE, AWAY_SPACE = "noop", "waiting"
AGENTS, AWAY_AGENT = ("noop-1", "noop-2"), "away"
WARM_UP = 500
SENDERS = 16
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Bulk:
    tasks: int
    seconds: float
    """From the first line sent to the last result recorded."""
    submit_seconds: float
    cpu: dict[str, float]
    """CPU seconds by kind of process."""

    @property
    def rate(self) -> float:
        return self.tasks / self.seconds


class House:
    def __init__(self, stage: Stage, *options: str) -> None:
        self.stage = stage
        self._completed = 0
        stage.raise_platform(*options)
        spaces = {**dict.fromkeys(AGENTS, SPACE), AWAY_AGENT: AWAY_SPACE}
        agents = {name: {"job_space_id": space, "capabilities": []} for name, space in spaces.items()}
        wishes = {"org": ORG, "name": "Bench", "agents": agents, "keys": {"sam": "submitter"}}
        self._keys = stage.ask("demo.founding", wishes)["keys"]
        self.client = Client(stage.url("web"), self._keys["sam"])
        self.redis = redis.Redis.from_url(stage.url("redis"))
        self._come_and_go(AWAY_AGENT)
        self.agents = [self._start_agent(name) for name in AGENTS]
        for name, agent in zip(AGENTS, self.agents, strict=True):
            self._wait_for_presence(name, agent)
        self.bulk("warm", WARM_UP)

    @property
    def pids(self) -> dict[str, int]:
        agents = {f"agents-{number}": agent.pid for number, agent in enumerate(self.agents)}
        return {name: pid for name, pid in {**self.stage.stack["pids"], **agents}.items() if name != "setup"}

    def bulk(self, run: str, count: int) -> Bulk:
        """Submit `count` tasks and wait until every result is recorded. Raises Wrong."""
        before, began_ns = cpu(self.pids), time.time_ns()
        self._submit(run, count, SPACE)
        submitted_ns = time.time_ns()
        after = self._wait_for(run, count)
        ledger = self._audit(run, count)
        return Bulk(
            tasks=count,
            seconds=(ledger["last_recorded_ns"] - began_ns) / 1e9,
            submit_seconds=(submitted_ns - began_ns) / 1e9,
            cpu=after.since(before),
        )

    def paced(self, run: str, *, per_second: float, seconds: float) -> list[float]:
        """Single submissions at a steady pace. Milliseconds from the moment each was due until the agent had it."""
        count = int(per_second * seconds)
        due_ns = []
        began = time.perf_counter()
        with ThreadPoolExecutor(SENDERS) as senders:
            sent = []
            for number in range(count):
                time.sleep(max(0.0, began + number / per_second - time.perf_counter()))
                due_ns.append(time.time_ns())
                sent.append(senders.submit(self.client.submit, **fields(run, number, SPACE), wait=0))
            for outcome in sent:
                outcome.result()
        self._wait_for(run, count)
        return [(got - due) / 1e6 for got, due in zip(self._audit(run, count)["received_ns"], due_ns, strict=True)]

    def storm(self, run: str, enough: threading.Event) -> float:
        """Single submissions over many connections, each as fast as it is answered; back when all have completed. Tasks a second."""
        numbers, began = itertools.count(), time.perf_counter()

        def send() -> int:
            sent = 0
            while not enough.is_set():
                self.client.submit(**fields(run, next(numbers), SPACE), wait=0)
                sent += 1
            return sent

        with ThreadPoolExecutor(SENDERS) as senders:
            count = sum(senders.map(lambda _: send(), range(SENDERS)))
        took = time.perf_counter() - began
        self._wait_for(run, count)
        return count / took

    def queue_up(self, run: str, count: int) -> None:
        """Tasks of another job space, which wait: its only agent came, and left."""
        self._submit(run, count, AWAY_SPACE)

    def redis_mb(self) -> float:
        return self.redis.info("memory")["used_memory"] / 1e6

    def _submit(self, run: str, count: int, space: str) -> None:
        for verdict in self.client.submit_many(fields(run, number, space) for number in range(count)):
            if not verdict.accepted:
                raise Wrong(f"{verdict.task_id}: {verdict.status} {verdict.why}")

    def _wait_for(self, run: str, count: int) -> Cpu:
        """Until all have ended; answers the CPU time used by then. Looks at the last task of the run, since counting all
        tasks ever so often would be work of its own, the more the deeper the queue."""
        self._completed += count
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.client.get(f"{run}-{count - 1}").ended or self.client.summary()["completed"] < self._completed:
            if time.monotonic() > until:
                raise Wrong(f"{run}: not all of {count} tasks completed in {PATIENCE_SECONDS:.0f} s")
            time.sleep(0.05)
        return cpu(self.pids)

    def _audit(self, run: str, count: int) -> dict[str, Any]:
        ledger = self.stage.ask("bench.ledger", {"org": ORG, "run": run, "count": count})
        if ledger["wrong"]:
            raise Wrong("; ".join(ledger["wrong"]))
        return ledger

    def _come_and_go(self, name: str) -> None:
        """An agent that was here and is away keeps its tasks waiting; one that never came would be sent them."""
        agent = self._start_agent(name)
        self._wait_for_presence(name, agent)
        agent.ask_to_stop()
        agent.wait_stopped(5.0)
        self.stage.agents.remove(agent)

    def _wait_for_presence(self, name: str, agent: Process) -> None:
        while not self.redis.hexists(f"jp:presence:{ORG}", name):
            agent.check()
            time.sleep(0.05)

    def _start_agent(self, name: str) -> Process:
        return self.stage.start_agent("bench.noop_agent", JOBPLATFORM_NATS_URL=self.stage.url("nats"), JOBPLATFORM_API_KEY=self._keys[name])


def fields(run: str, number: int, space: str, org: str = ORG, subject: str = "sam") -> dict[str, Any]:
    return {
        "task_id": f"{run}-{number}",
        "goal": "nothing",
        "intent": "to be measured",
        "submitter_subject_id": f"{org}:{subject}",
        "job_space_id": space,
        "payload": {"number": number},
    }
