"""What people and programs may do to a task from outside: cancel it, queue it again, change its priority.
What people decide about it is in `deciding`."""

from __future__ import annotations

from datetime import datetime

from apps.core.errors import Conflict
from apps.core.redis import RedisDown
from apps.orgs import audit
from apps.orgs.models import Change
from apps.tasks.executor import back_to_queue, wake
from apps.tasks.models import Task
from apps.tasks.priorities import reprioritize
from apps.tasks.queue import PriorityQueue, item_of
from apps.tasks.states import IN_FLIGHT, TERMINAL, TaskStatus
from apps.tasks.store import LostRace, Move, TaskStore
from apps.tasks.taking_back import TakenBack, take_back_many

__all__ = ["AlreadyEnded", "NotHeld", "NotInFlight", "cancel", "reprioritize", "requeue", "take_back"]

TRIES = 5


class AlreadyEnded(Conflict):
    code, sentence = "already_ended", "The task has already ended."


class NotHeld(Conflict):
    code, sentence = "not_awaiting_approval", "The task is not waiting for an approval."


class NotInFlight(Conflict):
    code, sentence = "not_in_flight", "The task is not with an agent."


def cancel(task: Task, *, actor: str, reason: str, now: datetime) -> Task:
    """End the task as cancelled, whatever it is doing. Cancelling a cancelled task again is fine; any other end is a conflict."""
    for _ in range(TRIES):
        if task.status == TaskStatus.CANCELLED:
            return task
        if task.status in TERMINAL:
            raise AlreadyEnded(status=task.status, task_id=task.task_id)
        before, agent, sequence = task.status, task.head_agent_subject_id, task.delivery_seq
        if TaskStore().move_many([Move(task=task, end=TaskStatus.CANCELLED, reason=reason or "cancelled", actor=actor)], now=now):
            take_back(task, was=before, agent=agent, sequence=sequence, reason=reason or "cancelled", now=now)
            note(task, was=before, actor=actor, now=now)
            return task
        task.refresh_from_db()
    raise LostRace(task_id=task.task_id)


def requeue(task: Task, *, actor: str, reason: str, now: datetime) -> Task:
    """Take an in-flight task from its agent and give it back to the queue; it may have one attempt more for it."""
    if task.status not in IN_FLIGHT:
        raise NotInFlight(status=task.status, task_id=task.task_id)
    before, agent, sequence = task.status, task.head_agent_subject_id, task.delivery_seq
    move = back_to_queue(task, reason=reason or "requeued", actor=actor, not_before=None, free=True)
    if not TaskStore().move_many([move], now=now):
        raise LostRace(task_id=task.task_id)
    take_back(task, was=before, agent=agent, sequence=sequence, reason=reason or "requeued", now=now)
    note(task, was=before, actor=actor, now=now)
    return task


def note(task: Task, *, was: str, actor: str, now: datetime) -> None:
    """Into the audit trail, after the move. The transition says the same; here it stands beside all else that people do."""
    new = {"status": str(task.status), "reason": task.reason}
    audit.record(org_id=task.org_id, kind=Change.Kind.TASK, key=task.task_id, old={"status": str(was)}, new=new, by=actor, at=now)


def take_back(task: Task, *, was: str, agent: str, sequence: int, reason: str, now: datetime) -> None:
    """After a task left `was`: clear what Redis, JetStream and the agent still hold of it. All of it hints; the truth is written."""
    take_back_many([TakenBack(task=task, was=was, agent=agent, sequence=sequence, reason=reason)], now=now)
    if task.status == TaskStatus.QUEUED or was in IN_FLIGHT:
        wake(now=now)


def hint(task: Task, now: datetime) -> None:
    try:
        PriorityQueue().push(task.org_id, [item_of(task)], now=now)
    except RedisDown:
        return  # the loader finds it
    wake(now=now)
