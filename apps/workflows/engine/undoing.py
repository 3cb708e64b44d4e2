"""Compensation: undoing what completed steps did, on request or after a failure, the last one first.

Each completed step that says how to be undone gets a step of its own (`path~undo`), outside the graph. One runs after the
other has ended; one that fails is recorded and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from apps.core import bulk
from apps.core.errors import Conflict
from apps.workflows.document.spec import UNDO, SessionSpec
from apps.workflows.engine import store
from apps.workflows.engine.canvas import Sending
from apps.workflows.engine.starting import Starter
from apps.workflows.engine.store import UNDOING, StepMove
from apps.workflows.models import Item, Session, Step
from apps.workflows.states import ITEM_OPEN, ItemStatus, StepStatus

ACTOR = "compensation"
RUNNING, COMPLETED, FAILED = "running", "completed", "failed"
OPEN = [status.value for status in (StepStatus.WAITING, StepStatus.EXPANDING, StepStatus.RUNNING)]


class NothingToUndo(Conflict):
    code, sentence = "nothing_to_undo", "No completed step of this session says how it is undone."


def begin(session: Session, spec: SessionSpec, *, now: datetime) -> int:
    """Write the steps that undo what this run completed; how many there are. Derived ids: twice is harmless."""
    able = [path for path in spec.steps if (task := spec.nodes[path].task) is not None and task.compensation is not None]
    done = [row for row in store.steps(session.key, able).values() if row.status == StepStatus.COMPLETED]
    done.sort(key=lambda row: (row.finished_at or now, row.position), reverse=True)
    rows = [
        bulk.new(
            Step, id=store.step_id(session.key, row.path + UNDO), session_key=session.key, org_id=session.org_id,
            path=row.path + UNDO, kind=Step.Kind.COMPENSATION.value, parent=UNDOING, name=f"undo {row.name}"[:200],
            position=place, status=StepStatus.WAITING.value, updated_at=now,
        )
        for place, row in enumerate(done)
    ]  # fmt: skip
    bulk.insert_missing(rows)
    return len(rows)


def advance(session: Session, spec: SessionSpec, *, now: datetime) -> list[Sending]:
    """End what has ended, start the next. Answers what is to be sent."""
    rows = list(Step.objects.filter(session_key=session.key, parent=UNDOING).order_by("position"))
    if not rows:
        if begin(session, spec, now=now) == 0:
            _end(session, COMPLETED, now)
            return []
        return advance(session, spec, now=now)
    sendings: list[Sending] = []
    for row in rows:
        if row.status in (StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.CANCELLED):
            continue
        if row.status == StepStatus.RUNNING:
            if not _finish(session, row, now):
                return sendings
            continue
        if row.status == StepStatus.EXPANDING and row.busy_until and row.busy_until > now:
            return sendings
        task = spec.task_of(row.path)
        if task is None:
            continue
        again = row.status == StepStatus.EXPANDING
        fields = {"attempt": 1, "started_at": now, "busy_until": now}
        guards = {"busy_until": row.busy_until} if again and row.busy_until else {}
        start = StepMove(row=row, end=StepStatus.EXPANDING, fields=fields, guards=guards, quiet=again)
        sent, changed = Starter(session, spec, {row.path: task}).start([start], now=now)
        sendings += sent
        if not changed or row.status == StepStatus.RUNNING:
            return sendings
    failed = Step.objects.filter(session_key=session.key, parent=UNDOING).exclude(status=StepStatus.COMPLETED.value).exists()
    _end(session, FAILED if failed else COMPLETED, now)
    return sendings


def _finish(session: Session, row: Step, now: datetime) -> bool:
    """True when it is over."""
    items: Sequence[Mapping[str, Any]] = list(Item.objects.filter(step_run=row.step_run).values("status", "reason"))
    if any(item["status"] in ITEM_OPEN for item in items):
        return False
    bad = next((item for item in items if item["status"] != ItemStatus.COMPLETED), None)
    counted = store.counts([row.step_run])[row.step_run]
    end = StepStatus.FAILED if bad else StepStatus.COMPLETED
    move = StepMove(row=row, end=end, reason=bad["reason"] if bad else "", fields=store.count_columns(counted))
    store.move_steps([move], actor=ACTOR, session_run=session.run, now=now)
    return True


def _end(session: Session, status: str, now: datetime) -> None:
    Session.objects.filter(pk=session.key, compensation=RUNNING).update(compensation=status, updated_at=now)
    session.compensation = status
