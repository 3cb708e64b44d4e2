"""The coordinator: carries out what the plan says must happen next, in the neighbourhood of what changed.

Look, decide (`plan`, pure), move (compare-and-set), and look again at whatever that touched, until nothing more is to be
done. Any number of coordinators may be at one session; a move has one winner, and who loses goes on looking. A coordinator
that dies anywhere leaves rows from which the next one goes on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from apps.core import bulk, clock
from apps.core.failpoint import failpoint
from apps.workflows.document.spec import ROOT, SessionSpec
from apps.workflows.engine import births, canvas, endings, limits, pulse, store
from apps.workflows.engine.canvas import Sending
from apps.workflows.engine.starting import ACTOR, BUSY, Starter
from apps.workflows.engine.store import STEP_IS_OPEN, StepMove, StoreReader
from apps.workflows.models import Session, Step
from apps.workflows.planning import plan
from apps.workflows.states import StepStatus

log = logging.getLogger(__name__)

ROUNDS_MAX = 200_000
SMALL = 100
"""So many results are gathered and written while others wait to write."""
LOOKED_AT = 400
"""Nodes looked at in one round."""
RACES = (plan.Finish, plan.Skip, plan.Retry, plan.Open, plan.Start)
LOSSES_MAX = 20
"""So often one coordinator goes after the same node."""


class Coordinator:
    def __init__(self, session_key: str) -> None:
        self.session: Session = store.light(session_key)
        self.sendings: list[Sending] = []
        self._changed = self._moved = False
        self._lost: Counter[str] = Counter()
        self._release = False
        self._look_again: set[str] = set()
        """Of the steps just started: those that may have ended already."""

    def advance(self, paths: Collection[str] | None, *, now: datetime) -> list[Sending]:
        """Everything that follows from a change of these nodes (None: of any). Answers what is to be sent now: give it to
        `canvas.send`, or do some of it yourself."""
        if not self.session.prepared:
            births.prepare(self.session, now=now)
        spec = store.spec_of(self.session)
        touched = self._everything() if paths is None else {path for path in paths if path == ROOT or path in spec.nodes}
        for _ in range(ROUNDS_MAX):
            if not touched:
                break
            part = touched if len(touched) <= LOOKED_AT else set(sorted(touched)[:LOOKED_AT])
            losses = self._lost.total()
            changed = self._round(spec, part, clock.now() if self._changed else now)
            touched = (touched - part) | changed
            self._changed = self._changed or self._moved
            if self._moved or self._lost.total() > losses:
                self.session = store.light(self.session.key)
        else:
            log.error("coordinator.no_end", extra={"session": self.session.key})
        if self._release or any(one for one in self.sendings if limits.limit_of(spec, one.path) is not None):
            limits.release(self.session, spec, now=now)
        if self._changed:
            pulse.tell(self.session.key)
        return self.sendings

    def _everything(self) -> set[str]:
        rows = Step.objects.filter(session_key=self.session.key, status__in=STEP_IS_OPEN).exclude(parent=store.UNDOING)
        # Ended steps may still have items to cancel; a running one is looked at anyway.
        return {ROOT, *rows.values_list("path", flat=True)}

    def _round(self, spec: SessionSpec, touched: set[str], now: datetime) -> set[str]:
        reader = StoreReader(self.session, spec)
        snapshot = plan.look(spec, reader, reader.state(), touched)
        moves = plan.next_moves(spec, snapshot, now=now)
        missing = [move.path for move in moves if move.path and move.path not in reader.rows]
        reader.rows |= store.steps(self.session.key, missing) if missing else {}
        touched = set()
        self._moved = False
        for kind, carry_out in self._verbs():
            if chosen := [move for move in moves if type(move) is kind]:
                won = carry_out(spec, reader, snapshot, chosen, now)
                self._moved = self._moved or bool(won)
                if kind in RACES:
                    # Who loses looks again: a step that started in the meantime may be one that a cancel has to stop.
                    lost = {move.path for move in chosen} - won
                    self._lost.update(lost)
                    touched |= {path for path in lost if self._lost[path] <= LOSSES_MAX}
                if kind is plan.Start:
                    won &= self._look_again
                touched |= {path for move in chosen if move.path in won for path in plan.touches(spec, move)}
        return touched

    def _verbs(self) -> Sequence[tuple[type, Any]]:
        """In this order: what must stop stops before anything starts."""
        return (
            (plan.CancelItems, self._cancel_items),
            (plan.Finish, self._finish),
            (plan.Skip, self._skip),
            (plan.Retry, self._retry),
            (plan.Open, self._open),
            (plan.Start, self._start),
            (plan.EndSession, self._end),
            (plan.Publish, self._publish),
        )

    def _move(self, moves: Sequence[StepMove], now: datetime) -> set[str]:
        return store.move_steps(moves, actor=ACTOR, session_run=self.session.run, now=now)

    # Moves

    def _cancel_items(
        self, _spec: SessionSpec, reader: StoreReader, _snapshot: plan.Snapshot, moves: Sequence[plan.CancelItems], now: datetime
    ) -> set[str]:
        return {move.path for move in moves if endings.cancel_items(reader.rows[move.path], move.because, now=now)}

    def _finish(
        self, spec: SessionSpec, reader: StoreReader, snapshot: plan.Snapshot, moves: Sequence[plan.Finish], now: datetime
    ) -> set[str]:
        groups = [
            StepMove(row=reader.rows[move.path], end=move.status, reason=move.because, fields={"partial": move.partial})
            for move in moves
            if not spec.nodes[move.path].is_step
        ]
        # Results and ends go in one transaction, but for results that take long to gather: others would wait for us.
        small = sum(reader.rows[move.path].total for move in moves) <= SMALL
        with bulk.atomic(Step) if small else nullcontext():
            steps = [self._finished_step(spec, reader, snapshot, move, now) for move in moves if spec.nodes[move.path].is_step]
            failpoint("finish.context_written")
            changed = self._move([*steps, *groups], now)
        self._release = self._release or any(spec.scopes(path) for path in changed if spec.nodes[path].is_step)
        failpoint("finish.moved")
        return changed

    def _finished_step(self, spec: SessionSpec, reader: StoreReader, snapshot: plan.Snapshot, move: plan.Finish, now: datetime) -> StepMove:
        row, node = reader.rows[move.path], spec.nodes[move.path]
        counted = snapshot.nodes[move.path].counts if move.path in snapshot.nodes else store.row_counts(row)
        end = endings.end_of(self.session, node, row, counted, move, now=now)
        return StepMove(row=row, end=end.status, reason=end.because, fields={**store.count_columns(counted), **end.fields})

    def _skip(
        self, _spec: SessionSpec, reader: StoreReader, _snapshot: plan.Snapshot, moves: Sequence[plan.Skip], now: datetime
    ) -> set[str]:
        return self._move([StepMove(row=reader.rows[move.path], end=StepStatus.SKIPPED, reason=move.because) for move in moves], now)

    def _retry(
        self, _spec: SessionSpec, reader: StoreReader, snapshot: plan.Snapshot, moves: Sequence[plan.Retry], now: datetime
    ) -> set[str]:
        return self._move(
            [
                StepMove(
                    row=reader.rows[move.path], end=StepStatus.RETRYING, reason=move.because,
                    fields={"retry_at": move.at, **store.count_columns(snapshot.nodes[move.path].counts)},
                )
                for move in moves
            ],
            now,
        )  # fmt: skip

    def _open(
        self, _spec: SessionSpec, reader: StoreReader, _snapshot: plan.Snapshot, moves: Sequence[plan.Open], now: datetime
    ) -> set[str]:
        fields = [{"deadline": move.deadline, "started_at": now} for move in moves]
        rows = [reader.rows[move.path] for move in moves]
        return self._move(
            [
                StepMove(row=row, end=StepStatus.RUNNING, reason=move.because, fields=given)
                for row, move, given in zip(rows, moves, fields, strict=True)
            ],
            now,
        )

    def _start(
        self, spec: SessionSpec, reader: StoreReader, _snapshot: plan.Snapshot, moves: Sequence[plan.Start], now: datetime
    ) -> set[str]:
        starts = []
        for move in moves:
            row = reader.rows[move.path]
            again = row.status == StepStatus.EXPANDING
            fields = {"attempt": move.attempt, "deadline": move.deadline, "busy_until": now + BUSY}
            if not row.started_at or row.attempt == 0:
                fields["started_at"] = now
            guards = {"busy_until": row.busy_until} if again and row.busy_until else {}
            starts.append(StepMove(row=row, end=StepStatus.EXPANDING, reason=move.because, fields=fields, guards=guards, quiet=again))
        tasks = {move.path: spec.nodes[move.path].task for move in moves}
        starter = Starter(self.session, spec, tasks)
        sent, changed = starter.start(starts, now=now)
        self.sendings += sent
        self._release = self._release or starter.held_back
        self._look_again = starter.look_again
        return changed

    def _end(
        self, spec: SessionSpec, _reader: StoreReader, _snapshot: plan.Snapshot, moves: Sequence[plan.EndSession], now: datetime
    ) -> set[str]:
        move = moves[0]
        moved = store.move_session(
            self.session, move.status, reason=move.because, actor=ACTOR, now=now, partial=move.partial, finished_at=now
        )
        if not moved:
            return set()
        failpoint("session.ended")
        return {ROOT}

    def _publish(
        self, spec: SessionSpec, _reader: StoreReader, _snapshot: plan.Snapshot, _moves: Sequence[plan.Publish], now: datetime
    ) -> set[str]:
        return {ROOT} if endings.publish(self.session, spec, now=now) else set()


def advance(session_key: str, paths: Collection[str] | None, *, now: datetime) -> list[Sending]:
    """As `Coordinator.advance`, and everything is sent."""
    sendings = Coordinator(session_key).advance(paths, now=now)
    canvas.send(sendings)
    return sendings
