"""What the conformance suite runs, in workers of every backend. They talk with the test over Redis, below `redis.key("suite", …)`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from apps.core import redis
from apps.jobs import JobManagerMixin, PlainRequest, as_job, progress
from apps.jobs.models import Job

PATIENCE = 60


def told(name: str) -> str:
    return redis.key("suite", name)


def tell(name: str, value: str = "1") -> None:
    redis.client().rpush(told(name), value)


def hear(name: str) -> str:
    """Wait until somebody tells it."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if heard := redis.client().blpop([told(name)], timeout=1):
            return heard[1]
    raise AssertionError(f"nobody said {name}")


@as_job
def double(number: int) -> dict[str, int]:
    return {"doubled": number * 2}


@as_job
def echo(value: Any = None, *more: Any, **named: Any) -> Any:
    return [value, *more, named] if more or named else value


@as_job
async def double_slowly(number: int) -> int:
    await asyncio.sleep(0.01)
    return number * 2


@as_job
def rich() -> Any:
    return {
        "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "price": Decimal("1.50"), "id": UUID(int=7), "set": {"b", "a"},
        "tuple": (1, 2), "text": "naïve ☃ \U0001f600", "nothing": None, "long": "x" * 100_000,
    }  # fmt: skip


@as_job
def unspeakable() -> Any:
    return lambda: True


@as_job
def fail(text: str = "no such luck") -> None:
    raise ValueError(text)


@as_job
def leave() -> None:
    raise SystemExit(3)


def not_a_job() -> None:
    tell("never")


@as_job
def count(name: str) -> int:
    return redis.client().incr(redis.key("suite", "count", name))


@as_job
def fail_until(name: str, attempts: int) -> int:
    """Succeeds in the given attempt."""
    tried = redis.client().incr(redis.key("suite", "count", name))
    if tried < attempts:
        raise RuntimeError(f"attempt {tried}")
    return tried


@as_job
def hold(name: str) -> str:
    """Says that it runs, with its process, and goes on when it is let."""
    tell(f"{name}:runs", str(os.getpid()))
    return hear(f"{name}:go")


@as_job
def hold_once(name: str) -> str:
    """Holds in the first attempt only."""
    if redis.client().incr(redis.key("suite", "count", name)) == 1:
        return hold(name)
    return "again"


@as_job
def spin(name: str) -> None:
    """Works without a word, in small steps."""
    tell(f"{name}:runs")
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(0.01)


@as_job
def deaf(name: str) -> int:
    """Holds the interpreter: no signal, thread or exception gets through."""
    tell(f"{name}:runs")
    return sum(range(10**13))


@as_job
def step_on(name: str) -> None:
    """Works, and says how far."""
    tell(f"{name}:runs")
    for number in range(PATIENCE * 50):
        progress.update(number / 20)
        time.sleep(0.02)


@as_job
def steps(percents: list[float], name: str) -> None:
    """Tells its progress step by step, each when the test has seen the last."""
    for percent in percents:
        progress.update(percent, f"at {percent}")
        tell(f"{name}:told")
        hear(f"{name}:seen")


@as_job
def die(name: str, times: int = 1) -> int:
    """Its process is killed in the first attempts."""
    tried = redis.client().incr(redis.key("suite", "count", name))
    if tried <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return tried


@as_job
def eat(megabytes: int) -> int:
    return len(bytearray(megabytes * 1024 * 1024))


class Documents(JobManagerMixin):
    """The specification's pipeline; `job_manager` is whatever its user has."""

    def __init__(self, job_manager: Any = None) -> None:
        self.job_manager = job_manager

    @JobManagerMixin.as_job(queue="default", timeout=60, result_ttl=3600)
    def upload_documents(self, request: PlainRequest) -> dict[str, Any]:
        return {"documents": request.data["documents"]}

    @as_job(queue="fast", priority="high")
    async def vectorize_documents(self, request: PlainRequest) -> dict[str, Any]:
        self.update_progress(50, "half of it")
        documents = (await Job.objects.aget(pk=request.data["upload"])).result["documents"]
        return {"vectors": {text: sorted(set(text.split())) for text in documents}}

    @as_job
    def query(self, request: PlainRequest) -> dict[str, Any]:
        vectors = Job.objects.get(pk=request.data["vectors"]).result["vectors"]
        return {"sources": [text for text, words in vectors.items() if request.data["word"] in words]}
