"""The verbs of bulk actions, a batch of rows each: one read, one write, one call to Redis and one to NATS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apps.core.auth import Principal
from apps.tasks.executor import back_to_queue, wake
from apps.tasks.models import DeadLetter, Task
from apps.tasks.operating import dead_letters
from apps.tasks.operating.dead_letters import Retry, Settled
from apps.tasks.priorities import reprioritize
from apps.tasks.states import IN_FLIGHT, OPEN, TaskStatus
from apps.tasks.store import TaskStore
from apps.tasks.taking_back import Ending, TakenBack, end_many, take_back_many

TRIES = 3
"""A task that moves on while we look is looked at again, so often."""

FOR: Mapping[str, frozenset[TaskStatus]] = {"cancel": OPEN, "requeue": IN_FLIGHT, "reprioritize": OPEN}
"""Which tasks a verb is for."""
FOR_DEAD_LETTERS = ("requeue", "discard")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    changed: int = 0
    skipped: int = 0
    """Nothing to do: ended, or changed by somebody else."""
    problems: list[dict[str, str]] = field(default_factory=list)


def carry_out(source: str, action: str, rows: Sequence[Any], arguments: Mapping[str, Any], *, actor: str, now: datetime) -> Outcome:
    if not rows:
        return Outcome()
    if source == "dead_letters":
        return _settle(action, rows, arguments, actor, now)
    changed = _TASK_VERBS[action]([row.key for row in rows], arguments, actor, now)
    return Outcome(changed=changed, skipped=len(rows) - changed)


def _until_settled(keys: Sequence[str], action: str, once: Callable[[list[Task]], set[str]]) -> int:
    """`once` on those the verb is for, and again on those that were moved under our hands."""
    left, changed = list(keys), 0
    for _ in range(TRIES):
        tasks = [task for task in TaskStore().load_many(left).values() if task.status in FOR[action]]
        if not tasks:
            break
        won = once(tasks)
        changed += len(won)
        left = [task.key for task in tasks if task.key not in won]
        if not left:
            break
    return changed


def _cancel(keys: Sequence[str], arguments: Mapping[str, Any], actor: str, now: datetime) -> int:
    reason = arguments.get("reason") or "cancelled"

    def once(tasks: list[Task]) -> set[str]:
        return end_many([Ending(task=task, end=TaskStatus.CANCELLED, reason=reason) for task in tasks], actor=actor, now=now)

    changed = _until_settled(keys, "cancel", once)
    if changed:
        wake(now=now)  # what was with agents has made room
    return changed


def _requeue(keys: Sequence[str], arguments: Mapping[str, Any], actor: str, now: datetime) -> int:
    reason = arguments.get("reason") or "requeued"

    def once(tasks: list[Task]) -> set[str]:
        before = {task.key: (task.status, task.head_agent_subject_id, task.delivery_seq) for task in tasks}
        moves = [back_to_queue(task, reason=reason, actor=actor, not_before=None, free=True) for task in tasks]
        won = TaskStore().move_many(moves, now=now)
        taken = [
            TakenBack(task=task, was=before[task.key][0], agent=before[task.key][1], sequence=before[task.key][2], reason=reason)
            for task in tasks
            if task.key in won
        ]
        take_back_many(taken, now=now)
        return won

    changed = _until_settled(keys, "requeue", once)
    if changed:
        wake(now=now)
    return changed


def _reprioritize(keys: Sequence[str], arguments: Mapping[str, Any], actor: str, now: datetime) -> int:
    priority, reason = arguments["priority"], arguments.get("reason", "")

    def once(tasks: list[Task]) -> set[str]:
        there = {task.key for task in tasks if task.priority == priority}
        return there | reprioritize(tasks, priority, actor=actor, reason=reason, now=now)

    return _until_settled(keys, "reprioritize", once)


_TASK_VERBS: Mapping[str, Callable[[Sequence[str], Mapping[str, Any], str, datetime], int]] = {
    "cancel": _cancel,
    "requeue": _requeue,
    "reprioritize": _reprioritize,
}


def _settle(action: str, letters: Sequence[DeadLetter], arguments: Mapping[str, Any], actor: str, now: datetime) -> Outcome:
    if action == "discard":
        settled = dead_letters.discard_many(letters, reason=arguments.get("reason", ""), actor=actor, now=now)
    else:
        retry = Retry(
            patch=arguments.get("patch", {}), exclude=tuple(arguments.get("exclude", ())),
            keep_excluded=arguments.get("keep_excluded", False), reason=arguments.get("reason", ""),
        )  # fmt: skip
        # The asker's name only: what is done here is done for the org, whoever has lost a key since.
        own = Principal(org_id=letters[0].org_id, role="operator", subject_id="", key_id="", name=actor)
        settled = dead_letters.requeue_many(letters, retry, own, now=now)
    return _outcome(settled)


def _outcome(settled: Sequence[Settled]) -> Outcome:
    skipped = [one for one in settled if isinstance(one.error, dead_letters.AlreadySettled)]
    problems = [
        {"task_id": one.task_id, "code": one.error.code, "message": str(one.error)[:300]}
        for one in settled
        if one.error is not None and not isinstance(one.error, dead_letters.AlreadySettled)
    ]
    return Outcome(changed=len(settled) - len(skipped) - len(problems), skipped=len(skipped), problems=problems)
