"""Sub-tasks: parts of a task that are tasks themselves. They go the same road; here is what ties them to their parent.

A parent is a task, never a sub-task, so there is one level. Its head agent answers for it: when the parent ends, whichever
way, its open sub-tasks are cancelled (org config `sub_tasks_when_parent_ends`), and no part ends its parent. What a parent
shows of its parts is counted when it is looked at, so it is never out of date.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Count, Sum

from apps.core import clock, events, ids
from apps.core.auth import Principal
from apps.core.errors import Conflict, Forbidden, Invalid, Missing, PlatformError, Problem
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks.entries import TaskEntry
from apps.tasks.events import TaskProgressed, TasksMoved, TasksProgressed
from apps.tasks.models import Task
from apps.tasks.states import IN_FLIGHT, OPEN, TERMINAL, TaskStatus
from apps.tasks.steering import take_back
from apps.tasks.store import Move, TaskStore

SUB_TASK = "sub_task"
ACTOR = "parent"
AGENT = "agent"
LIMIT = 1000


class NoParent(Missing):
    """Said of another org's task, and to an agent of a task that is not its own, exactly as of one that never was."""

    sentence = "The parent task was not found."


class ParentEnded(Conflict):
    code, sentence, shown = "parent_ended", "The parent task has ended.", ("task_id",)


# ---- coming in --------------------------------------------------------------------------------------------


def not_theirs(entry: TaskEntry, principal: Principal, parents: Mapping[str, Task]) -> PlatformError | None:
    """Agents may submit sub-tasks of the tasks they are head agent of, and nothing else."""
    if principal.role != AGENT:
        return None
    if entry.kind != SUB_TASK:
        return Forbidden()
    parent = parents.get(parent_key(entry))
    return None if parent and parent.head_agent_subject_id == principal.subject_id else NoParent()


def no_parent_for(entry: TaskEntry, principal: Principal, parents: Mapping[str, Task]) -> PlatformError | None:
    """Why a new sub-task cannot be a part of what it names."""
    if entry.kind != SUB_TASK:
        return None
    parent = parents.get(parent_key(entry))
    if parent is None:
        return NoParent()
    if parent.kind == SUB_TASK:
        problem = Problem(field="task_id", code="is_sub_task", message="is a sub-task; only a task can have sub-tasks")
        return Invalid([problem])
    if parent.status in TERMINAL or (principal.role == AGENT and parent.status not in IN_FLIGHT):
        return ParentEnded(task_id=parent.task_id)
    return None


def parent_key(entry: TaskEntry) -> str:
    return ids.task_key(entry.org_id, entry.parent_task_id)


# ---- what a parent shows ----------------------------------------------------------------------------------


def roll_ups(parent_keys: Collection[str]) -> dict[str, dict[str, Any]]:
    """Of each of these that has parts: how many, where they are, and their mean progress. A part that has ended counts as done."""
    if not parent_keys:
        return {}
    groups = Task.objects.filter(parent_key__in=list(parent_keys)).order_by().values_list("parent_key", "status")
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    done: dict[str, float] = defaultdict(float)
    for key, status, count, progress in groups.annotate(count=Count("pk"), progress=Sum("progress")):
        counts[key][status] = count
        done[key] += 100.0 * count if status in TERMINAL else progress or 0.0
    return {
        key: {"total": (total := sum(found.values())), "by_status": found, "progress": round(done[key] / total, 2)}
        for key, found in counts.items()
    }


# ---- when something moves ---------------------------------------------------------------------------------


def parts_moved(news: TasksMoved) -> None:
    """A parent ended: so do its parts. A part moved: followers of the parent hear its progress. (`TaskLoader` finds what this misses.)"""
    close([moved.key for moved in news.moves if moved.new in TERMINAL and not moved.parent_key], now=clock.now())
    _tell(moved.parent_key for moved in news.moves if moved.parent_key and moved.new in TERMINAL)


def parts_progressed(news: TasksProgressed) -> None:
    _tell(step.parent_key for step in news.steps if step.parent_key)


def _tell(parent_keys: Iterable[str]) -> None:
    now = clock.now()
    steps = []
    for key, found in roll_ups(set(parent_keys)).items():
        org_id, task_id = ids.split_task_key(key)
        ended = sum(count for status, count in found["by_status"].items() if status in TERMINAL)
        message = f"{ended} of {found['total']} sub-tasks ended"
        steps.append(TaskProgressed(key=key, org_id=org_id, task_id=task_id, percent=found["progress"], message=message, at=now))
    if steps:
        events.publish(TasksProgressed(steps=tuple(steps)))


def close(ended_parents: Sequence[str], *, now: datetime) -> int:
    """Cancel what is still open of these parents' parts, where the org wants that; answers how many."""
    if not ended_parents:
        return 0
    open_ = [status.value for status in OPEN]
    keys = list(Task.objects.filter(parent_key__in=list(ended_parents), status__in=open_).values_list("pk", flat=True)[:LIMIT])
    if not keys:
        return 0
    parts = TaskStore().load_many(keys).values()
    configs = OrgConfigProvider()
    leaving = {org_id for org_id in {part.org_id for part in parts} if configs.of(org_id).sub_tasks_when_parent_ends == "keep"}
    before = {part.key: (part.status, part.head_agent_subject_id, part.delivery_seq) for part in parts if part.org_id not in leaving}
    reason = "its parent has ended"
    moves = [
        Move(task=part, end=TaskStatus.CANCELLED, reason=reason, actor=ACTOR)
        for part in parts
        if part.key in before and part.status not in TERMINAL
    ]
    won = TaskStore().move_many(moves, now=now)
    for move in moves:
        if move.task.key in won:
            was, agent, sequence = before[move.task.key]
            take_back(move.task, was=was, agent=agent, sequence=sequence, reason=reason, now=now)
    return len(won)


def close_orphans(*, now: datetime) -> int:
    """For upkeep: open parts whose parent has ended while nobody told them."""
    rows = Task.objects.filter(kind=SUB_TASK, status__in=[status.value for status in OPEN]).order_by()
    parents = set(rows.values_list("parent_key", flat=True))
    ended: list[str] = []
    for chunk in _chunks(sorted(parents)):
        found = Task.objects.filter(pk__in=chunk, status__in=[status.value for status in TERMINAL])
        ended += found.values_list("pk", flat=True)
    return sum(close(chunk, now=now) for chunk in _chunks(ended))


def _chunks(keys: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
