"""When an agent goes or comes back: a revoked agent's tasks are given to others, a draining one is found to be empty, and
whoever may work again gets work.

`agent_changed` hears of it at once; `tend` finds in the rows what was missed.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from apps.agents import roster
from apps.agents.models import AgentRecord
from apps.agents.records import AgentChanged
from apps.orgs.audit import record
from apps.orgs.models import Change
from apps.tasks.executor import back_to_queue, wake
from apps.tasks.models import Task
from apps.tasks.states import IN_FLIGHT
from apps.tasks.store import TaskStore
from apps.tasks.taking_back import TakenBack, take_back_many

log = logging.getLogger(__name__)

ACTOR = "upkeep"
CHUNK = 500
SETTLED = timedelta(seconds=3)
"""A dispatcher that chose just before the agent's mode changed has written its choice by then."""
LOOK_BACK = timedelta(hours=1)


def agent_changed(event: AgentChanged) -> None:
    if event.what == "revoked":
        take_all_from(event.org_id, event.subject_id, reason=_revoked(event.subject_id, event.reason), actor=event.by, now=event.at)
    else:
        wake(now=event.at)


def take_all_from(org_id: str, agent: str, *, reason: str, actor: str, now: datetime) -> int:
    """Give everything the agent has back to the queue, as if it had never had it; how many tasks that were."""
    total = 0
    while True:
        tasks = list(_with(org_id, agent)[:CHUNK])
        if not tasks:
            break
        before = {task.key: (task.status, task.delivery_seq) for task in tasks}
        won = TaskStore().move_many([back_to_queue(t, reason=reason, actor=actor, not_before=None, free=True) for t in tasks], now=now)
        taken = [
            TakenBack(task=task, was=before[task.key][0], agent=agent, sequence=before[task.key][1], reason=reason)
            for task in tasks
            if task.key in won
        ]
        take_back_many(taken, now=now)
        total += len(won)
        if len(tasks) < CHUNK or not won:
            break
    if total:
        wake(now=now)
    return total


def tend(*, now: datetime) -> None:
    """What `agent_changed` may have missed, and what only time shows."""
    for row in AgentRecord.objects.filter(revoked_at__gte=now - LOOK_BACK):
        take_all_from(row.org_id, row.subject_id, reason=_revoked(row.subject_id, row.revoke_reason), actor=ACTOR, now=now)
    draining = AgentRecord.objects.filter(mode=AgentRecord.Mode.DRAINING, revoked_at=None, mode_at__lte=now - SETTLED)
    for row in draining:
        empty = not _with(row.org_id, row.subject_id).exists()
        if empty and row.drained_at is None:
            _drained(row, now)
        elif not empty and row.drained_at is not None:
            AgentRecord.objects.filter(pk=row.pk).update(drained_at=None)
            roster.changed(row.org_id)


def _drained(row: AgentRecord, now: datetime) -> None:
    still = AgentRecord.objects.filter(pk=row.pk, mode=AgentRecord.Mode.DRAINING, drained_at=None)
    if still.update(drained_at=now):
        new = {"mode": row.mode, "drained": True}
        record(org_id=row.org_id, kind=Change.Kind.AGENT, key=row.subject_id, old={"mode": row.mode}, new=new, by=ACTOR, at=now)
        log.info("agent.drained", extra={"org": row.org_id, "agent": row.subject_id})
        roster.changed(row.org_id)


def _with(org_id: str, agent: str):
    return Task.objects.filter(org_id=org_id, status__in=[s.value for s in IN_FLIGHT], head_agent_subject_id=agent)


def _revoked(agent: str, why: str) -> str:
    return f"{agent} was revoked: {why}" if why else f"{agent} was revoked"
