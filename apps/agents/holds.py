"""Holds: an agent holds (task, attempt) under a lease; the number of its holds is its load.

A hold is named by the assignment id `<task key>#<attempt>`. Taking or dropping one twice counts once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from apps.core import clock, redis

CHUNK = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    assignment_id: str
    org_id: str
    agent: str
    place: str = ""
    """What it occupies of a concurrency key, as the queue says it (`apps.tasks.queue.place_of`)."""
    to_person: bool = False
    """Under a person's lease."""


@lru_cache(maxsize=1)
def _script() -> Any:
    return redis.script(redis.PLACES, Path(__file__).with_name("holds.lua"))


class Holds:
    def _run(self, verb: str, *arguments: Any) -> Any:
        return _script()(keys=[redis.key()], args=[verb, *arguments], client=redis.client())

    def take(self, holds: Sequence[Hold], *, now: datetime, lease_seconds: float) -> None:
        until = clock.to_ms(now + timedelta(seconds=lease_seconds))
        for start in range(0, len(holds), CHUNK):
            flat = [x for hold in holds[start : start + CHUNK] for x in (hold.assignment_id, hold.org_id, hold.agent, hold.place)]
            self._run("take", until, *flat)

    def drop(self, assignment_ids: Iterable[str]) -> None:
        wanted = list(assignment_ids)
        for start in range(0, len(wanted), CHUNK):
            self._run("drop", *wanted[start : start + CHUNK])

    def extend(self, assignment_ids: Iterable[str], *, now: datetime, lease_seconds: float, org_id: str = "", agent: str = "") -> int:
        """Move existing leases forward; one that has been dropped stays dropped. With an agent: only what it holds itself."""
        if wanted := list(assignment_ids):
            return self._run("extend", clock.to_ms(now + timedelta(seconds=lease_seconds)), org_id, agent, *wanted)
        return 0

    def lapsed(self, *, now: datetime, limit: int) -> list[str]:
        """Assignment ids whose lease has run out, longest ago first."""
        return redis.client().zrangebyscore(redis.key("leases"), "-inf", clock.to_ms(now), start=0, num=limit)

    def missing(self, assignment_ids: Sequence[str]) -> list[str]:
        """Those that have no lease at all."""
        found: list[str] = []
        for start in range(0, len(assignment_ids), CHUNK):
            chunk = assignment_ids[start : start + CHUNK]
            scores = redis.client().zmscore(redis.key("leases"), chunk)
            found += [name for name, score in zip(chunk, scores, strict=True) if score is None]
        return found

    def all(self) -> Iterable[str]:
        """Every assignment id held, in no order."""
        return (name for name, _ in redis.client().hscan_iter(redis.key("holders"), count=CHUNK))
