"""Changing the priority of tasks that are on their way: one write, one call to Redis, one line of record each."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import models

from apps.core import bulk, ids
from apps.core.errors import Invalid, Problem
from apps.core.redis import RedisDown
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN
from apps.tasks.models import Decision, Task
from apps.tasks.queue import PriorityQueue, QueueItem, item_of
from apps.tasks.states import OPEN, TaskStatus
from apps.tasks.store import TaskStore

log = logging.getLogger(__name__)

KIND = "priority_change"
BY_HAND, BY_POLICY = "by_hand", "by_policy"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewPriority:
    task: Task
    """As loaded: status, priority and last move are the guards. A winner's instance is brought up to date."""
    priority: int
    because: str
    rows: tuple[models.Model, ...] = ()
    """Written beside the record when the change wins (the policy's run)."""


def reprioritize(tasks: Sequence[Task], priority: int, *, actor: str, reason: str, now: datetime) -> set[str]:
    """Give these tasks (of any orgs) another priority. Answers the keys of those that have it now by this call: not those
    that had it already, have ended, or were moved by somebody else meanwhile. Raises Invalid."""
    if type(priority) is not int or not PRIORITY_MIN <= priority <= PRIORITY_MAX:
        raise Invalid([Problem(field="priority", code="out_of_range", message=f"must be from {PRIORITY_MIN} to {PRIORITY_MAX}")])
    because = reason or "asked for"
    return change_many([NewPriority(task=task, priority=priority, because=because) for task in tasks], actor=actor, now=now)


def change_many(
    changes: Sequence[NewPriority], *, actor: str, now: datetime, outcome: str = BY_HAND, config_version: int | None = None
) -> set[str]:
    """The keys of those that changed. `config_version`: what decided it; None: what holds now."""
    wanted = {c.task.key: c for c in changes if c.task.status in OPEN and c.task.priority != c.priority}
    if not wanted:
        return set()
    # Where moves leave their rows in the document until they are written, ours must not cover them.
    TaskStore().complete([change.task for change in wanted.values()])
    org_ids = {change.task.org_id for change in wanted.values()}
    versions = OrgConfigProvider().versions(org_ids) if config_version is None else dict.fromkeys(org_ids, config_version)
    steps = [
        bulk.Change(
            pk=key,
            guards={name: getattr(change.task, name) for name in ("status", "priority", "last_transition_id")},
            fields={"priority": change.priority, "updated_at": now},
            rows=(_decision(change, actor, outcome, versions[change.task.org_id], now), *change.rows),
        )
        for key, change in wanted.items()
    ]
    with bulk.atomic(Task):
        won = bulk.compare_and_set(Task, steps)
        bulk.insert_missing([row for step in steps if step.pk in won for row in step.rows])
    by_org: dict[str, list[QueueItem]] = defaultdict(list)
    for key in won:
        task = wanted[key].task
        task.priority, task.updated_at = wanted[key].priority, now
        if task.status == TaskStatus.QUEUED:
            by_org[task.org_id].append(item_of(task))
    try:
        for org_id, items in by_org.items():
            PriorityQueue().reprice(org_id, items)
    except RedisDown as error:
        log.warning("priorities.redis_away", extra={"tasks": len(won), "error": str(error)})  # the loader compares priorities
    return won


def _decision(change: NewPriority, actor: str, outcome: str, config_version: int, now: datetime) -> Decision:
    return bulk.new(
        Decision,
        id=ids.time_ordered(),
        task_key=change.task.key,
        org_id=change.task.org_id,
        kind=KIND,
        outcome=outcome,
        actor=actor,
        because=change.because,
        details={"old": change.task.priority, "new": change.priority},
        config_version=config_version,
        at=now,
    )
