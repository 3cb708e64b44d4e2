"""The workflow store: births, moves and counts of sessions, steps, chunks and items.

Every move is a compare-and-set on the status (and run, and attempt) that was seen; winners leave a SessionEvent, losers
leave nothing. Counts of items are what joins are decided from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db.models import Count

from apps.core import bulk, ids
from apps.core.errors import Missing
from apps.workflows.document import reading
from apps.workflows.document.spec import SessionSpec
from apps.workflows.models import Item, Session, SessionEvent, Step
from apps.workflows.planning.plan import Counts, Members, NodeState, SessionState
from apps.workflows.states import STEP_ENDED, STEP_FAILED, STEP_OPEN, SessionStatus, StepStatus

AT_ONCE = 500
FEW = 20
SESSION_LIGHT = (
    "org_id", "session_id", "status", "reason", "partial", "body_hash", "submitter", "run", "priority", "job_space_id", "prepared",
    "compensation", "published", "deadline", "paused_at", "updated_at", "started_at", "finished_at",
)  # fmt: skip
"""All but what a session carries: document, result, missing, counts."""
STEP_FIELDS = (
    "session_key", "org_id", "path", "kind", "parent", "name", "position", "status", "reason", "partial", "run", "attempt", "total",
    "completed", "failed", "cancelled", "skipped", "timed_out", "override", "busy_until", "retry_at", "deadline", "started_at",
    "finished_at",
)  # fmt: skip
STEP_IS_OPEN = [status.value for status in STEP_OPEN]
TEXT = 1000
_STEP_STATUS = {status.value: status for status in StepStatus}
UNDOING = "~undo"
"""Parent of the steps that undo others: they are in no group."""


class UnknownSession(Missing):
    """Said of another org's exactly as of one that does not exist."""

    sentence = "session not found"


# ---- reading ----------------------------------------------------------------------------------------------


def session_key(org_id: str, session_id: str) -> str:
    return ids.task_key(org_id, session_id)


def step_id(session: str, path: str) -> str:
    return f"{session}:{path}"


def item_id(step_run: str, index: int) -> str:
    return f"{step_run}/{index}"


def light(key: str) -> Session:
    """The session without what it carries. Raises UnknownSession."""
    found = bulk.load(Session, [key], SESSION_LIGHT)
    if key not in found:
        raise UnknownSession(key=key)
    return found[key]


def steps(session: str, paths: Iterable[str]) -> dict[str, Step]:
    """Rows by path."""
    wanted = [step_id(session, path) for path in paths if path]
    found: dict[str, Step] = {}
    for start in range(0, len(wanted), AT_ONCE):
        found.update((row.path, row) for row in bulk.load(Step, wanted[start : start + AT_ONCE], STEP_FIELDS).values())
    return found


@lru_cache(maxsize=256)
def _spec(key: str, body_hash: str) -> SessionSpec:
    """A document is read once per process: every step of the session looks at it."""
    document = Session.objects.filter(pk=key, body_hash=body_hash).values_list("document", flat=True).first()
    if document is None:
        raise UnknownSession(key=key)
    return reading.load(document)


def spec_of(session: Session) -> SessionSpec:
    return _spec(session.key, session.body_hash)


def counts(step_runs: Sequence[str]) -> dict[str, Counts]:
    """Items by status, as they are now."""
    found: dict[str, dict[str, int]] = {step_run: {} for step_run in step_runs}
    for start in range(0, len(step_runs), AT_ONCE):
        rows = Item.objects.filter(step_run__in=step_runs[start : start + AT_ONCE]).order_by()
        for step_run, status, count in rows.values_list("step_run", "status").annotate(count=Count("pk")):
            found[step_run][status] = count
    return {step_run: Counts(total=sum(of.values()), **of) for step_run, of in found.items()}


def _count(step_run: str) -> Counts:
    """The same of one step with few items: in less time than it takes to say GROUP BY."""
    found: dict[str, int] = {}
    for (status,) in bulk.scan(Item, ["status"], order="index", step_run=step_run):
        found[status] = found.get(status, 0) + 1
    return Counts(total=sum(found.values()), **found)


def row_counts(step: Step) -> Counts:
    """As they were written when the step ended; what is in no column was open."""
    ended = {name: getattr(step, name) for name in ("completed", "failed", "cancelled", "skipped", "timed_out")}
    return Counts(total=step.total, running=max(0, step.total - sum(ended.values())), **ended)


def outdated(session: Session, spec: SessionSpec, keys: Iterable[str]) -> list[str]:
    """Context keys whose value is of an earlier run: the steps that write them were begun again and have not completed."""
    if session.run == 1:
        return []
    written = [key for key in keys if key in spec.writers and key not in spec.context]
    owners = {path for key in written for path in spec.writers[key]}
    done = {path for path, row in steps(session.key, owners).items() if row.status == StepStatus.COMPLETED}
    # A failure after which others go on has written null: that is no older value.
    done |= {path for path in owners if spec.nodes[path].on_failure == "continue"}
    return [key for key in written if not done.intersection(spec.writers[key])]


class StoreReader:
    """What `plan.look` asks, of one session. Keeps the rows it read: whoever carries moves out needs them as their guards."""

    def __init__(self, session: Session, spec: SessionSpec) -> None:
        self.session, self.spec = session, spec
        self.rows: dict[str, Step] = {}

    def state(self) -> SessionState:
        one = self.session
        return SessionState(
            key=one.key, status=SessionStatus(one.status), run=one.run, deadline=one.deadline, published=one.published,
        )  # fmt: skip

    def nodes(self, paths: Collection[str]) -> Mapping[str, NodeState]:
        rows = steps(self.session.key, paths)
        self.rows |= rows
        running = [row for row in rows.values() if row.kind == Step.Kind.STEP and row.status == StepStatus.RUNNING]
        few = [row.step_run for row in running if row.total <= FEW]
        many = [row.step_run for row in running if row.total > FEW]
        counted = counts(many) if many else {}
        counted |= {step_run: _count(step_run) for step_run in few} if len(few) <= FEW else counts(few)
        return {
            path: NodeState(
                status=StepStatus(row.status), run=row.run, attempt=row.attempt, partial=row.partial,
                counts=counted.get(row.step_run) or row_counts(row), retry_at=row.retry_at, deadline=row.deadline,
                busy_until=row.busy_until,
            )
            for path, row in rows.items()
        }  # fmt: skip

    def statuses(self, paths: Collection[str]) -> Mapping[str, StepStatus]:
        wanted = [step_id(self.session.key, path) for path in paths]
        parts = (wanted[start : start + AT_ONCE] for start in range(0, len(wanted), AT_ONCE))
        return {path: _STEP_STATUS[status] for part in parts for path, status in bulk.pick(Step, part, ("path", "status"))}

    def open_member(self, group: str) -> bool:
        return self._members(group).filter(status__in=STEP_IS_OPEN).exists()

    def members(self, group: str) -> Members:
        rows = self._members(group)
        found = {StepStatus(status): count for status, count in rows.values_list("status").annotate(count=Count("pk"))}
        failed = sum(found.get(status, 0) for status in STEP_FAILED)
        paths = rows.filter(status__in=[status.value for status in STEP_FAILED]).values_list("path", flat=True) if failed else ()
        return Members(
            statuses=found,
            fatal=sum(self.spec.nodes[path].on_failure == "fail" for path in paths),
            partial=rows.filter(status=StepStatus.COMPLETED.value, partial=True).count() if found.get(StepStatus.COMPLETED) else 0,
        )

    def open_node(self) -> bool:
        return Step.objects.filter(session_key=self.session.key, status__in=STEP_IS_OPEN).exclude(parent=UNDOING).exists()

    def _members(self, group: str) -> Any:
        return Step.objects.filter(session_key=self.session.key, parent=group).order_by()


# ---- moving -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMove:
    row: Step
    """As loaded: its status, run and attempt are the guards. A winner's instance is brought up to date."""
    end: StepStatus
    reason: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    guards: dict[str, Any] = field(default_factory=dict)
    """More that must still be true."""
    quiet: bool = False
    """Leaves no event."""


def move_steps(moves: Sequence[StepMove], *, actor: str, session_run: int, now: datetime) -> set[str]:
    """Move each step that still is as it was loaded; the paths of those that moved."""
    changes, told = [], {}
    for move in moves:
        row = move.row
        fields = {"status": move.end.value, "reason": move.reason[:TEXT], "updated_at": now, **move.fields}
        if move.end in STEP_ENDED:
            fields["finished_at"] = now
        event = () if move.quiet else (event_of(row, move.end, move.reason, actor=actor, run=session_run, now=now),)
        guards = {"status": row.status, "run": row.run, "attempt": row.attempt, **move.guards}
        changes.append(bulk.Change(pk=row.id, guards=guards, fields=fields, rows=event))
        told[row.id] = (move, fields, event)
    if not changes:
        return set()
    with bulk.atomic(Step, savepoint=False):
        won = bulk.compare_and_set(Step, changes)
        bulk.insert([event for pk in won for event in told[pk][2]])
    for pk in won:
        move, fields, _ = told[pk]
        for name, value in fields.items():
            setattr(move.row, name, value)
    return {told[pk][0].row.path for pk in won}


def move_session(
    session: Session, end: SessionStatus, *, reason: str, actor: str, now: datetime, **fields: Any
) -> bool:
    """Move it while it is as it was loaded (status and run); False when somebody was faster."""
    fields = {"status": end.value, "reason": reason[:TEXT], "updated_at": now, **fields}
    event = bulk.new(
        SessionEvent, id=ids.time_ordered(), session_key=session.key, org_id=session.org_id, old=session.status, new=end.value,
        reason=reason[:TEXT], actor=actor, run=fields.get("run", session.run), at=now,
    )  # fmt: skip
    change = bulk.Change(pk=session.key, guards={"status": session.status, "run": session.run}, fields=fields, rows=(event,))
    with bulk.atomic(Session):
        won = bulk.compare_and_set(Session, [change])
        if won:
            bulk.insert_missing([event])
    if won:
        for name, value in fields.items():
            setattr(session, name, value)
    return bool(won)


def event_of(
    row: Step, new: str, reason: str, *, actor: str, run: int, now: datetime, item: int | None = None, old: str | None = None
) -> SessionEvent:
    return bulk.new(
        SessionEvent, id=ids.time_ordered(), session_key=row.session_key, org_id=row.org_id, path=row.path, item=item,
        old=row.status if old is None else old, new=str(new), reason=reason[:TEXT], actor=actor, run=run, at=now,
    )  # fmt: skip


def count_columns(found: Counts) -> dict[str, int]:
    """The columns of a step that remember its counts."""
    return {name: getattr(found, name) for name in ("total", "completed", "failed", "cancelled", "skipped", "timed_out")}
