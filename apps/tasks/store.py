"""The task store: births and moves, the only two ways a task's status is ever written.

A move is a compare-and-set on (status, attempt): one winner, whoever else is running. A winner leaves a Transition
and news; a loser leaves nothing and is told. Write the truth, then signal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import IntegrityError, InterfaceError, OperationalError, models

from apps.core import bulk, clock, events, ids
from apps.core.errors import Conflict, PlatformError
from apps.core.group_commit import GroupCommit
from apps.tasks.events import TaskMoved, TasksMoved
from apps.tasks.models import DeadLetter, Task, Transition
from apps.tasks.states import FIRST, TASK_STATES, TERMINAL, Cause, TaskStatus

READ_CHUNK = 500
WRITE_CHUNK = 100
"""Tasks of one transaction: whoever else has to write waits for one of these, not for a whole batch of somebody's thousands."""
STEP_FIELDS = (
    "org_id", "task_id", "job_space_id", "body_hash", "status", "reason", "priority", "sequence", "attempt", "max_attempts",
    "head_agent_subject_id", "delivery_seq", "excluded_agents", "progress", "last_transition_id", "trace",
    "kind", "parent_key", "execution_mode", "submitter_subject_id", "held_by_person", "people", "escalate_at", "decide_by",
    "created_at", "not_before", "queued_at", "assigned_at", "dispatched_at", "started_at",
    "concurrency_key", "concurrency_limit", "concurrency_mode",
)  # fmt: skip

STAMPS: dict[TaskStatus, str] = {
    TaskStatus.QUEUED: "queued_at",
    TaskStatus.ASSIGNED: "assigned_at",
    TaskStatus.DISPATCHED: "dispatched_at",
    TaskStatus.RUNNING: "started_at",
    **dict.fromkeys(TERMINAL, "finished_at"),
}
"""Which field remembers when a status was entered."""


class IllegalMove(PlatformError):
    """A bug: code asked for a move the table does not have."""

    code, sentence = "illegal_move", "The task's state table has no such move."


class LostRace(Conflict):
    """Somebody else moved the task first; read it again."""

    code, sentence = "lost_race", "The task has changed in the meantime."


@dataclass(frozen=True, kw_only=True, slots=True)
class Birth:
    task: Task
    reason: str
    actor: str
    rows: tuple[models.Model, ...] = ()
    """Rows to insert with it (policy runs)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    task: Task
    """As loaded: its status and attempt are the guards. A winner's instance is brought up to date."""
    end: TaskStatus
    reason: str
    actor: str
    fields: dict[str, Any] = field(default_factory=dict)
    rows: tuple[models.Model, ...] = ()
    """Rows to insert when the move wins (the assignment, a report)."""
    cause: Cause | None = None
    """Of the end of an attempt."""
    dead_letter: str = ""
    """Of a move to failed: the kind of dead letter, where the move itself does not tell (`dead_letter_kind`)."""


class Newborn(NamedTuple):
    """Tasks to insert, by key, with the transitions that tell of their births."""

    births: dict[str, Birth]
    transitions: dict[str, Transition]


class TaskStore:
    def load_many(self, keys: Iterable[str], *, entry: bool = False) -> dict[str, Task]:
        """The tasks as steps need them: without the texts and results that no decision reads, and without the entry unless asked."""
        wanted = list(dict.fromkeys(keys))
        fields = (*STEP_FIELDS, "entry") if entry else STEP_FIELDS
        found: dict[str, Task] = {}
        for start in range(0, len(wanted), READ_CHUNK):
            found.update(bulk.load(Task, wanted[start : start + READ_CHUNK], fields))
        return found

    def insert_many(self, births: Sequence[Birth], *, now: datetime) -> set[str]:
        """Insert the tasks whose keys are new; answer their keys. An existing key is left as it is."""
        pending: dict[str, Birth] = {}
        transitions: dict[str, Transition] = {}
        for birth in births:
            task = birth.task
            status = TaskStatus(task.status)
            if status not in FIRST:
                raise IllegalMove(key=task.key, old="", new=status.value)
            if task.key in pending:
                continue
            transition = _transition(task, old="", new=status, reason=birth.reason, actor=birth.actor, now=now)
            task.last_transition_id, task.reason = transition.id, birth.reason
            task.updated_at = now
            if status in STAMPS:
                setattr(task, STAMPS[status], now)
            pending[task.key], transitions[task.key] = birth, transition
        inserted: list[str] = []
        try:
            for part in _chunks(list(pending)):
                newborn = Newborn({key: pending[key] for key in part}, transitions)
                inserted += _insert_groups([newborn])[0] if bulk.in_transaction(Task) else _at_once.commit(newborn)
        finally:
            _announce(_moved(pending[key].task, transitions[key]) for key in inserted)
        return set(inserted)

    def move_many(self, moves: Sequence[Move], *, now: datetime) -> set[str]:
        """Move each task that still is as it was loaded; answer the keys of those that moved."""
        plans: dict[str, tuple[Move, Transition, dict[str, Any]]] = {}
        for move in moves:
            task, old = move.task, TaskStatus(move.task.status)
            if not TASK_STATES.allows(old, move.end) or task.key in plans:
                raise IllegalMove(key=task.key, old=old.value, new=move.end.value)
            attempt = move.fields.get("attempt", task.attempt)
            transition = _transition(
                task, old=old, new=move.end, reason=move.reason, actor=move.actor, now=now, attempt=attempt, cause=move.cause
            )
            fields = {"status": move.end.value, "reason": move.reason, "updated_at": now, "last_transition_id": transition.id}
            if move.end in STAMPS:
                fields[STAMPS[move.end]] = now
            plans[task.key] = (move, transition, {**fields, **move.fields})
        if not plans:
            return set()
        letters = {key: _dead_letters(move, now) for key, (move, _, _) in plans.items()}
        changes = [
            bulk.Change(
                pk=key,
                guards={"status": move.task.status, "attempt": move.task.attempt},
                fields=fields,
                rows=(transition, *move.rows, *letters[key]),
            )
            for key, (move, transition, fields) in plans.items()
        ]
        self.complete([move.task for move, _, _ in plans.values()])
        won: set[str] = set()
        try:
            for part in _chunks(changes):
                won |= self._written(part)
        finally:
            for key in won:
                move, _, fields = plans[key]
                for name, value in fields.items():
                    setattr(move.task, name, value)
            _announce(_moved(move.task, transition) for key, (move, transition, _) in plans.items() if key in won)
        return won

    def _written(self, changes: Sequence[bulk.Change]) -> set[str]:
        with bulk.atomic(Task):
            won = bulk.compare_and_set(Task, changes)
            bulk.insert_missing([row for change in changes if change.pk in won for row in change.rows])
        return won

    def complete(self, tasks: Sequence[Task]) -> int:
        """Where there are no transactions a mover may have died between its move and the row that tells of it: write that
        row now, before the next move covers the traces. Answers how many were missing."""
        if bulk.has_transactions(Task) or not tasks:
            return 0
        told = {task.last_transition_id: task for task in tasks}
        for transition_id in Transition.objects.filter(pk__in=list(told)).values_list("pk", flat=True):
            told.pop(transition_id, None)
        if not told:
            return 0
        moved = bulk.complete(Task, [task.key for task in told.values()])
        # One that has never moved was being born.
        born = Task.objects.in_bulk([task.key for task in told.values() if task.key not in moved])
        bulk.insert_missing(
            [
                _transition(
                    task, old="", new=TaskStatus(task.status), reason=task.reason, actor=task.submitter_subject_id, now=task.created_at,
                    id=task.last_transition_id,
                )
                for task in born.values()
            ]
        )  # fmt: skip
        return len(told)

    def move(self, task: Task, end: TaskStatus, *, reason: str, actor: str, now: datetime, **fields: Any) -> Task:
        """Move one task or raise LostRace."""
        if not self.move_many([Move(task=task, end=end, reason=reason, actor=actor, fields=fields)], now=now):
            raise LostRace(key=task.key)
        return task


def _insert_groups(groups: Sequence[Newborn]) -> list[list[str]]:
    """The keys that were new, of each group. Where two bring the same task, the first one's is written first."""
    found: dict[int, list[str]] = {}
    while len(found) < len(groups):
        births: dict[str, Birth] = {}
        transitions: dict[str, Transition] = {}
        together = []
        for index, group in enumerate(groups):
            if index not in found and not births.keys() & group.births.keys():
                births |= group.births
                transitions |= group.transitions
                together.append(index)
        inserted = set(_insert_new(births, transitions))
        found |= {index: [key for key in groups[index].births if key in inserted] for index in together}
    return [found[index] for index in range(len(groups))]


def _insert_new(births: dict[str, Birth], transitions: dict[str, Transition]) -> list[str]:
    pending = dict(births)
    inserted: list[str] = []
    while pending:
        rows = [row for key, birth in pending.items() for row in (birth.task, transitions[key], *birth.rows)]
        try:
            with bulk.atomic(Task):
                bulk.insert(rows)
            return [*inserted, *pending]
        except IntegrityError:
            # Some keys exist. Where there are no transactions a part of ours may be in already: its token tells.
            tokens = dict(Task.objects.filter(pk__in=list(pending)).values_list("pk", "last_transition_id"))
            mine = [key for key, token in tokens.items() if token == transitions[key].id]
            bulk.insert_missing([row for key in mine for row in (transitions[key], *pending[key].rows)])
            inserted += mine
            if not tokens:
                raise
            for key in tokens:
                del pending[key]
    return inserted


_at_once = GroupCommit(_insert_groups, size=lambda group: len(group.births), most=WRITE_CHUNK, shared=(OperationalError, InterfaceError))
"""Requests that come at the same time are born together."""


def dead_letter_kind(move: Move) -> str:
    """Why a task that fails or expires needs somebody to look at it; "" for every other end."""
    if move.end is TaskStatus.EXPIRED:
        return DeadLetter.Kind.EXPIRED
    if move.end is not TaskStatus.FAILED:
        return ""
    if move.dead_letter:
        return DeadLetter.Kind(move.dead_letter)
    task = move.task
    if task.status == TaskStatus.AWAITING_VERIFICATION:
        return DeadLetter.Kind.NOT_VERIFIED
    if task.status == TaskStatus.QUEUED:
        return DeadLetter.Kind.NO_AGENT
    return DeadLetter.Kind.MAX_ATTEMPTS if task.attempt >= task.max_attempts else DeadLetter.Kind.AGENT_FAILED


def _dead_letters(move: Move, now: datetime) -> tuple[DeadLetter, ...]:
    kind, task = dead_letter_kind(move), move.task
    if not kind:
        return ()
    return (
        bulk.new(
            DeadLetter,
            key=task.key,
            org_id=task.org_id,
            task_id=task.task_id,
            kind=kind,
            agent=task.head_agent_subject_id,
            job_space_id=task.job_space_id,
            sequence=clock.sequence(),
            at=now,
        ),
    )


def _transition(
    task: Task, *, old: str, new: TaskStatus, reason: str, actor: str, now: datetime, attempt: int | None = None, id: str = "",
    cause: Cause | None = None,
) -> Transition:  # fmt: skip
    return bulk.new(
        Transition,
        id=id or ids.time_ordered(),
        task_key=task.key,
        org_id=task.org_id,
        old=str(old),
        new=new.value,
        reason=reason,
        actor=actor,
        attempt=task.attempt if attempt is None else attempt,
        cause=cause.value if cause else None,
        at=now,
    )


def _moved(task: Task, transition: Transition) -> TaskMoved:
    return TaskMoved(
        key=task.key,
        org_id=task.org_id,
        task_id=task.task_id,
        old=transition.old,
        new=transition.new,
        reason=transition.reason,
        actor=transition.actor,
        attempt=transition.attempt,
        agent=task.head_agent_subject_id,
        at=transition.at,
        cause=transition.cause or "",
        parent_key=task.parent_key,
    )


def _chunks(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    if not bulk.has_transactions(Task):
        return [items]
    return (items[start : start + WRITE_CHUNK] for start in range(0, len(items), WRITE_CHUNK))


def _announce(moves: Iterable[TaskMoved]) -> None:
    batch = tuple(moves)
    if batch:
        events.publish(TasksMoved(moves=batch))
