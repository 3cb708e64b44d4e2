"""News about tasks: past facts, frozen. Published in batches, after the truth is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMoved:
    key: str
    org_id: str
    task_id: str
    old: str
    """Status before; "" for a birth."""
    new: str
    reason: str
    actor: str
    attempt: int
    agent: str
    at: datetime
    cause: str = ""
    """`states.Cause`, of the end of an attempt."""
    parent_key: str = ""
    """Of a sub-task: whose part it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TasksMoved:
    moves: tuple[TaskMoved, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskProgressed:
    key: str
    org_id: str
    task_id: str
    percent: float
    message: str
    at: datetime
    parent_key: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TasksProgressed:
    steps: tuple[TaskProgressed, ...]
