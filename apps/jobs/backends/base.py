"""The port to a queue. A backend carries "run job X, attempt n" to a worker, which calls `runner.run`; all that a user can see is
decided above it, from the row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

BANDS = ("high", "normal", "low")


def band(priority: int) -> str:
    """What waiting jobs are ordered by: queues have few levels, or none and take one queue after the other."""
    return "high" if priority > 0 else "low" if priority < 0 else "normal"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wake:
    """The whole of a message, and hints for the carrier."""

    job_id: str
    attempt: int
    """The attempt to be made, 1 for the first. A worker that finds another state of affairs does nothing."""
    queue: str
    priority: int = 0
    timeout_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Traits:
    """How the carrier does what it does, in words for the published table (docs/jobs-backends.md)."""

    priority: str
    hard_kill: str
    """Who ends a job that ignores its time limit."""
    worker_death: str
    """Who notices first."""
    told_to_stop: str
    """How a worker that is to stop gets its running jobs back to the queue."""
    concurrency: str
    wire: str
    results: str
    delay: str = "upkeep, from the row"
    retries: str = "upkeep, from the row"
    dependencies: str = "the rows"
    extra: str = ""
    """What to install."""


class JobBackend(Protocol):
    name: str
    traits: Traits

    def send(self, wakes: Sequence[Wake]) -> bool:
        """Hand them to the queue, in as few round trips as it allows. False when it is away: upkeep sends them later."""

    def depth(self, queue: str) -> int | None:
        """Messages that wait on this queue; None when that is not known. Upkeep sends again what cannot be waiting."""

    def interrupt(self, job_id: str, worker: str) -> None:
        """Best effort: end what runs this job. Its process learns of a cancel by itself (`news`)."""

    def close(self) -> None:
        """Give back connections."""
