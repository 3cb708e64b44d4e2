"""News about jobs: past facts, frozen. Published after the truth is written; whoever must not miss one reads JobEvent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class JobMoved:
    job_id: str
    org_id: str
    queue: str
    old: str
    """Status before; "" for a birth."""
    new: str
    reason: str
    actor: str
    attempt: int
    at: datetime
    seconds: float | None = None
    """How long it waited (of one that is started) or ran (of one whose attempt is over), where that is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobsMoved:
    moves: tuple[JobMoved, ...]
