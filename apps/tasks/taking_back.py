"""Ending tasks many at a time, and clearing what Redis, JetStream and the agents still hold of tasks that were taken away.

The truth is written first, by `TaskStore`; all of the rest are hints: what is not told is found by the loader, by the
claim's check against the truth, or by the agent's first stale report.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import models

from apps.agents.agent_queue import AgentQueueClient, Stop
from apps.agents.holds import Holds
from apps.core import ids
from apps.core.redis import RedisDown
from apps.tasks.models import Task
from apps.tasks.queue import PriorityQueue, QueueItem, item_of
from apps.tasks.states import IN_FLIGHT, TaskStatus
from apps.tasks.store import Move, TaskStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenBack:
    """A task that was moved, and what it was before."""

    task: Task
    was: str
    agent: str
    sequence: int
    """Of its delivery; 0: none."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    task: Task
    """As loaded: its status and attempt are the guards."""
    end: TaskStatus
    reason: str
    rows: tuple[models.Model, ...] = ()
    """Written when the move wins."""


def end_many(endings: Sequence[Ending], *, actor: str, now: datetime, store: TaskStore | None = None) -> set[str]:
    """End each task that still is as it was loaded, in one write, and take it back from where it was; the keys of those
    that ended."""
    before = {e.task.key: (e.task.status, e.task.head_agent_subject_id, e.task.delivery_seq) for e in endings}
    moves = [Move(task=e.task, end=e.end, reason=e.reason, actor=actor, rows=e.rows) for e in endings]
    won = (store or TaskStore()).move_many(moves, now=now)
    taken = []
    for ending in endings:
        if ending.task.key in won:
            was, agent, sequence = before[ending.task.key]
            taken.append(TakenBack(task=ending.task, was=was, agent=agent, sequence=sequence, reason=ending.reason))
    take_back_many(taken, now=now)
    return won


def take_back_many(taken: Sequence[TakenBack], *, now: datetime) -> None:
    """After tasks left what they `were`. A few round trips for all of them. Wakes nobody: that is the caller's."""
    flying = [one for one in taken if one.was in IN_FLIGHT]
    try:
        for org_id, items in _by_org(one.task for one in taken if one.was == TaskStatus.QUEUED).items():
            PriorityQueue().remove(org_id, items)
        Holds().drop(ids.assignment_id(one.task.key, one.task.attempt) for one in flying)
        for org_id, items in _by_org(one.task for one in taken if one.task.status == TaskStatus.QUEUED).items():
            PriorityQueue().push(org_id, items, now=now)
    except RedisDown as error:
        # What is queued is checked against the truth when it is claimed; the loader finds the rest.
        log.warning("taking_back.redis_away", extra={"tasks": len(taken), "error": str(error)})
    if flying:
        wire = AgentQueueClient()
        wire.withdraw([one.sequence for one in flying])
        wire.tell_many_to_stop(
            [
                Stop(org_id=one.task.org_id, agent=one.agent, task_id=one.task.task_id, attempt=one.task.attempt, reason=one.reason)
                for one in flying
            ]
        )


def _by_org(tasks: Iterable[Task]) -> dict[str, list[QueueItem]]:
    found: dict[str, list[QueueItem]] = defaultdict(list)
    for task in tasks:
        found[task.org_id].append(item_of(task))
    return found
