"""One attempt at one task inside an agent, and what its handler sees of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from jobplatform_sdk.limits import MAX_LEVEL, clip, json_problem
from jobplatform_sdk.task import Task

PRICE_MAX = 1e12
Key = tuple[str, int]
"""(task_id, attempt)"""


class Decline(Exception):  # noqa: N818  an answer, not an error
    """Raised by a handler: this agent will not do the task; another may."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason
        super().__init__(reason)


class Retryable(Exception):  # noqa: N818  says what to do, not what broke
    """Raised by a handler: it failed for a passing reason; the platform may try again (here or elsewhere)."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a handler may return instead of the bare result: the result (JSON), and what it charges for it, in the org's unit,
    which is compared with what it bid. ValueError when the price is no number from 0 to 10¹²."""

    value: Any = None
    price: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        price = self.price
        if price is not None and (not isinstance(price, int | float) or isinstance(price, bool) or not 0 <= price <= PRICE_MAX):
            raise ValueError(f"price must be a number from 0 to {PRICE_MAX:.0f}, not {price!r}")


def iso(at: float) -> str:
    """Seconds since the epoch as `2026-11-22T16:00:00.123Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class Attempt:
    """Lives from its delivery until its last report is stored. Touched on the loop only, `cancelled` apart."""

    __slots__ = (
        "acked", "cancelled", "job", "key", "over", "progress", "replies", "seq", "started_at", "subject", "task", "timer", "trace",
    )  # fmt: skip

    def __init__(self, task: Task, *, subject: str, reply: str) -> None:
        self.task = task
        self.key: Key = (task.task_id, task.attempt)
        self.subject = subject
        """Where its reports go."""
        self.replies = [reply]
        """Where its delivery is acknowledged; the same attempt may have been delivered twice."""
        self.acked = False
        self.over = False
        """Nothing more is reported."""
        self.cancelled = threading.Event()
        self.started_at = 0.0
        # Another process may get the same attempt after this one died: its reports must not look like repeats of ours.
        self.seq = int(time.time() * 1000)
        self.job: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.trace = ""
        """What its reports bring back of its trace."""
        self.progress: dict[str, Any] | None = None
        """The progress report that waits to be sent; a newer one takes its place."""


Say = Callable[[Attempt, str, dict[str, Any]], None]


class Context:
    """A handler's way to talk back. Usable from any thread."""

    def __init__(self, attempt: Attempt, say: Say, loop: asyncio.AbstractEventLoop, loop_thread: int) -> None:
        self._attempt, self._say, self._loop, self._loop_thread = attempt, say, loop, loop_thread

    @property
    def attempt(self) -> int:
        return self._attempt.task.attempt

    @property
    def cancelled(self) -> threading.Event:
        """Set when the result is not wanted any more. Ordinary functions look at it (or `wait` on it) now and then and
        return; asynchronous handlers are cancelled besides."""
        return self._attempt.cancelled

    def progress(self, percent: float, message: str = "") -> None:
        """0…100. Cheap: only the newest that has not been sent yet is sent."""
        self._tell("progress", {"percent": float(percent), "message": clip(str(message))})

    def log(self, message: str, level: str = "info") -> None:
        """A line that the task's followers see and its history keeps."""
        self._tell("log", {"message": clip(str(message)), "level": clip(str(level), MAX_LEVEL)})

    def _tell(self, kind: str, fields: dict[str, Any]) -> None:
        if threading.get_ident() == self._loop_thread:
            self._say(self._attempt, kind, fields)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._say, self._attempt, kind, fields)


def outcome_of(result: Any) -> tuple[str, dict[str, Any]]:
    """What a handler gave, as a report: `completed` with the result, or `failed` when it is not JSON that the platform can keep."""
    more: dict[str, Any] = {}
    if isinstance(result, Result):
        more = {} if result.price is None else {"price": result.price}
        result = result.value
    if result is None:
        return "completed", {"result": None, **more}
    try:
        encoded = orjson.dumps(result)
        problem = json_problem(orjson.loads(encoded))
    except (TypeError, ValueError) as error:
        problem = str(error)
    if problem:
        return "failed", {"error": clip(f"The handler's result cannot be kept: {problem}."), "retryable": False}
    return "completed", {"result": orjson.Fragment(encoded), **more}
