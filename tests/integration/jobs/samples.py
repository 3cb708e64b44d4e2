"""Functions that run as jobs in the tests."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apps.jobs import progress
from apps.jobs.marks import JobMark
from apps.jobs.options import JobOptions

ME = __name__


def job(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        function.as_job = JobMark(options=JobOptions(**options), body=function, is_async=asyncio.iscoroutinefunction(function))
        return function

    return mark


@job()
def double(number: int) -> dict[str, Any]:
    return {"doubled": number * 2}


@job()
async def double_slowly(number: int) -> dict[str, Any]:
    await asyncio.sleep(0)
    progress.update(50, "half of it")
    return {"doubled": number * 2}


@job()
def fail(text: str) -> None:
    raise ValueError(text)


@job()
def fail_until(path: str, times: int) -> str:
    """Fails so many times, counted in a file."""
    file = Path(path)
    done = len(file.read_text()) if file.exists() else 0
    file.write_text("x" * (done + 1))
    if done < times:
        raise ConnectionError("not yet")
    return f"at the {done + 1}. attempt"


@job()
def give(kind: str) -> Any:
    return {"object": object(), "nan": float("nan"), "nul": "a\0b", "half": "\ud800", "set": {"b", "a"}}[kind]


@job()
def steps(*percents: float) -> str:
    for percent in percents:
        progress.update(percent, f"at {percent}")
    return "done"


@job()
def whoami() -> int:
    return os.getpid()


@job()
def wait_for(started: str, go: str) -> str:
    """Says that it has begun, and waits for a file."""
    Path(started).write_text(str(os.getpid()))
    while not Path(go).exists():
        time.sleep(0.02)
    return "went"


@job()
def never(started: str) -> None:
    Path(started).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


@job()
def deaf(started: str) -> None:
    """Ends for nobody."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    Path(started).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


@job()
def spin_in_c(started: str) -> int:
    """Holds the interpreter for hours: no signal handler and no other thread gets a turn."""
    Path(started).write_text(str(os.getpid()))
    return sum(range(10**13))


@job()
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@job()
def leave() -> None:
    sys.exit(3)


@job()
def eat(megabytes: int) -> int:
    return len(b"x" * (megabytes * 1024 * 1024))


def no_job() -> str:
    return "never"
