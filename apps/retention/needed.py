"""Old tasks that have ended, without those that something open still needs.

A task is needed while its dead letter waits for somebody, while the session whose item it is goes on (an item whose task is gone
would be submitted again), and while a relative of it is there: a parent outlives its sub-tasks, a sub-task an open parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from apps.core import bulk, clock, ids
from apps.tasks.models import DeadLetter, Task
from apps.tasks.states import TERMINAL, TaskStatus
from apps.workflows.engine import away, undoing
from apps.workflows.models import Session
from apps.workflows.states import SESSION_ENDED

PAGE = 200
"""Roots that go in one transaction: whoever else writes waits for one of these."""
ENDED = [status.value for status in TERMINAL]
SESSION_OVER = [status.value for status in SESSION_ENDED]
WITH_LETTERS = {TaskStatus.FAILED.value, TaskStatus.EXPIRED.value}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Old:
    key: str
    task_id: str
    parent_key: str


def old_tasks(org_id: str, before: datetime) -> Iterator[list[str]]:
    """Keys of tasks that ended before then and that nothing needs, a page at a time. Each page is one read by an index, however
    many tasks there are: who ended before a moment arrived before it."""
    for status in ENDED:
        rows = Task.objects.filter(org_id=org_id, status=status, finished_at__lt=before)
        for page in by_arrival(rows, before, "key", "task_id", "parent_key"):
            if free := _free(org_id, status, [_Old(key=key, task_id=task_id, parent_key=parent) for key, task_id, parent in page]):
                yield free


def by_arrival(rows: QuerySet, before: datetime, *fields: str) -> Iterator[list[tuple]]:
    """The values of these fields of rows that arrived before then, a page at a time."""
    after, upto = 0, clock.to_ms(before) * 1000
    rows = rows.order_by("sequence").values_list(*fields, "sequence")
    while page := list(rows.filter(sequence__gt=after, sequence__lt=upto)[:PAGE]):
        yield [row[:-1] for row in page]
        after = page[-1][-1]


def open_tasks(keys: Sequence[str]) -> set[str]:
    """Those of them that have not ended."""
    return {key for key, status in bulk.pick(Task, list(keys), ("key", "status")) if status not in TERMINAL}


def _free(org_id: str, status: str, old: Sequence[_Old]) -> list[str]:
    if not old:
        return []
    keys = [task.key for task in old]
    needed = set(Task.objects.filter(parent_key__in=keys).order_by().values_list("parent_key", flat=True).distinct())
    if status in WITH_LETTERS:
        needed |= set(DeadLetter.objects.filter(pk__in=keys, state=DeadLetter.State.WAITING.value).values_list("pk", flat=True))
    if parents := {task.parent_key for task in old if task.parent_key}:
        still_open = open_tasks(list(parents))
        needed |= {task.key for task in old if task.parent_key in still_open}
    if items := [task.key for task in old if task.task_id.startswith(away.PREFIX)]:
        needed |= _of_live_sessions(org_id, items)
    return [key for key in keys if key not in needed]


def _of_live_sessions(org_id: str, keys: Sequence[str]) -> set[str]:
    """By what the task itself says of its session. Whoever invents such a task names at most a session of the own org."""
    session_of: dict[str, str] = {}
    for key, entry in bulk.pick(Task, list(keys), ("key", "entry")):
        parcel = (entry.get("task_job_submission_data") or {}).get(away.PARCEL)
        session_id = parcel.get("session_id") if isinstance(parcel, dict) else None
        if isinstance(session_id, str):
            session_of[key] = ids.task_key(org_id, session_id)
    named = Session.objects.filter(pk__in=set(session_of.values()))
    over = named.filter(status__in=SESSION_OVER, published=True).exclude(compensation=undoing.RUNNING)
    live = set(named.values_list("pk", flat=True)) - set(over.values_list("pk", flat=True))
    return {key for key, session in session_of.items() if session in live}
