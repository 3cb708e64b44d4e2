"""From waiting to running: the items of steps that start are made, and chunks of them may be sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from apps.core import bulk, clock
from apps.core.errors import PlatformError
from apps.core.failpoint import failpoint
from apps.workflows.document.spec import SessionSpec, TaskSpec
from apps.workflows.engine import canvas, endings, expanding, limits, store
from apps.workflows.engine.canvas import Sending
from apps.workflows.engine.store import StepMove
from apps.workflows.models import Session, Step
from apps.workflows.states import STEP_ENDED, SessionStatus, StepStatus

ACTOR = "coordinator"
STEP_IS_OVER = [status.value for status in STEP_ENDED]
BUSY = timedelta(seconds=15)
"""An expansion says so often that it lives."""


class Starter:
    """Takes steps from waiting (or retrying) to running: their items are made, and chunks of them may be sent."""

    def __init__(self, session: Session, spec: SessionSpec, tasks: dict[str, TaskSpec]) -> None:
        self.session, self.spec, self.tasks = session, spec, tasks
        self.held_back = False
        self.look_again: set[str] = set()
        """Steps without items, or whose items have been on their way for a while."""
        self._sendings: list[Sending] = []

    def start(self, starts: Sequence[StepMove], *, now: datetime) -> tuple[list[Sending], set[str]]:
        """What may be sent, and the paths that moved. Small steps go in one write together, big ones batch by batch."""
        first = [one for one in starts if one.fields["attempt"] == 1]
        rows = [one.row for one in first]
        prepared = expanding.prepare(self.session, self.spec, rows, self.tasks) if rows else {}
        small = [one for one in first if self._size(prepared[one.row.path]) <= expanding.BATCH]
        changed: set[str] = set()
        for part in _parts(small, prepared):
            changed |= self._together(part, prepared, now)
        for one in starts:
            if one not in small:
                changed |= self._alone(one, prepared.get(one.row.path), now)
        return self._sendings, changed

    def _size(self, one: Any) -> int:
        return 0 if isinstance(one, Exception) else one.total

    def _together(self, starts: Sequence[StepMove], prepared: dict[str, Any], now: datetime) -> set[str]:
        with bulk.atomic(Step):
            won = store.move_steps(starts, actor=ACTOR, session_run=self.session.run, now=now)
            failpoint("start.expanding")
            good: list[StepMove] = []
            ends, rows, sendings = [], [], []
            for one in starts:
                if one.row.path not in won:
                    continue
                found = prepared[one.row.path]
                try:
                    if isinstance(found, Exception):
                        raise found
                    for made, sending in expanding.first_attempt(found, self.tasks[one.row.path], self._limit(one.row), now=now):
                        rows += made
                        if sending:
                            sendings.append(sending)
                        else:
                            self.held_back = True
                    good.append(one)
                except PlatformError as error:
                    ends.append(_failed(one.row, error))
            bulk.insert_missing(rows)
            failpoint("start.items_written")
            ends += [
                StepMove(row=one.row, end=StepStatus.RUNNING, fields={"total": prepared[one.row.path].total, "busy_until": None})
                for one in good
            ]
            self._runs(ends, now)
        self._sendings += sendings
        self.look_again |= {one.row.path for one in starts if one.row.path in won and (one not in good or not one.row.total)}
        return won

    def _runs(self, moves: Sequence[StepMove], now: datetime) -> None:
        """Their items are written. A step that was ended meanwhile knew nothing of them: they end as well."""
        moved = store.move_steps(moves, actor=ACTOR, session_run=self.session.run, now=now)
        for one in moves:
            if one.row.path in moved:
                continue
            over = Step.objects.filter(pk=one.row.id, run=one.row.run, status__in=STEP_IS_OVER).values_list("reason", flat=True)
            for reason in over:
                endings.cancel_items(one.row, reason, now=now)

    def _alone(self, start: StepMove, found: Any, now: datetime) -> set[str]:
        """A step of many items: their chunks go as soon as they are written."""
        row, task = start.row, self.tasks[start.row.path]
        if not store.move_steps([start], actor=ACTOR, session_run=self.session.run, now=now):
            return set()
        failpoint("start.expanding")
        self.look_again.add(row.path)
        try:
            if found is None:
                limited = self._limit(row) is not None
                self._sendings += expanding.next_attempt(row, task, self._limit(row), limited=limited, now=now)
                self.held_back = self.held_back or limited
                total = row.total
            else:
                if isinstance(found, Exception):
                    raise found
                total = found.total
                self._write(found, task, now)
        except PlatformError as error:
            store.move_steps([_failed(row, error)], actor=ACTOR, session_run=self.session.run, now=clock.now())
            return {row.path}
        failpoint("start.items_written")
        end = StepMove(row=row, end=StepStatus.RUNNING, fields={"total": total, "busy_until": None})
        self._runs([end], clock.now())
        return {row.path}

    def _write(self, found: expanding.Prepared, task: TaskSpec, now: datetime) -> None:
        ready: Sending | None = None
        for number, (rows, sending) in enumerate(expanding.first_attempt(found, task, self._limit(found.row), now=now)):
            bulk.insert_missing(rows)
            if sending:
                ready = sending if ready is None else replace(ready, count=ready.count + sending.count)
            else:
                self.held_back = True
            if ready is not None and ready.count >= canvas.WAVE_AT_ONCE:
                canvas.send([ready])
                ready = None
            if number % 5 == 4:
                Step.objects.filter(pk=found.row.id, status=StepStatus.EXPANDING.value).update(busy_until=clock.now() + BUSY)
                found.row.busy_until = None
                if Session.objects.filter(pk=self.session.key, status=SessionStatus.CANCELLED.value).exists():
                    return
        if ready is not None:
            canvas.send([ready])

    def _limit(self, row: Step) -> int | None:
        return limits.limit_of(self.spec, row.path)


def _failed(row: Step, error: PlatformError) -> StepMove:
    reason = str(error)
    return StepMove(row=row, end=StepStatus.FAILED, reason=reason, fields={"busy_until": None})


def _parts(starts: Sequence[StepMove], prepared: dict[str, Any], size: int = expanding.BATCH) -> Iterable[list[StepMove]]:
    part: list[StepMove] = []
    rows = 0
    for one in starts:
        found = prepared[one.row.path]
        weight = 1 if isinstance(found, Exception) else max(1, found.total)
        if part and rows + weight > size:
            yield part
            part, rows = [], 0
        part.append(one)
        rows += weight
    if part:
        yield part
