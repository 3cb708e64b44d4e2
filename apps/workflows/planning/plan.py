"""What must happen next in a session: a pure function from a snapshot of a neighbourhood to moves.

    touched = spec.to_touch_after(changed)                 # or a timer's node, or every node, at recovery
    while touched:
        snapshot = look(spec, reader, session, touched)    # reads only what the decision needs
        moves = next_moves(spec, snapshot, now=now)
        # carry each out: a compare-and-set on the status, run and attempt that the snapshot shows
        touched = union of touches(spec, move) for those that changed something, and the nodes of those that lost

A move that loses its race changes nothing, and who loses looks again: a cancel that finds a step started in the meantime has to
stop that one too before it is answered. A move may be given again and again until its effect is in the truth, so nothing
here remembers what it said before, and any process may stop between any two writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from apps.workflows.document.spec import ROOT, NodeSpec, SessionSpec
from apps.workflows.planning.joins import delay, join
from apps.workflows.planning.looking import Reader, look
from apps.workflows.planning.moves import (
    CancelItems,
    Counts,
    Decision,
    EndSession,
    Finish,
    Members,
    Move,
    NodeState,
    Open,
    Publish,
    Reset,
    Retry,
    SessionState,
    Skip,
    Snapshot,
    Start,
    Verdict,
)  # fmt: skip
from apps.workflows.planning.reopening import compensation_order, to_rerun, to_retry
from apps.workflows.states import SESSION_ENDED, STEP_ENDED, STEP_FAILED, SessionStatus, StepStatus

__all__ = [
    "CancelItems", "Counts", "Decision", "EndSession", "Finish", "Members", "Move", "NodeState", "Open", "Publish", "Reader", "Reset",
    "Retry", "SessionState", "Skip", "Snapshot", "Start", "Verdict", "compensation_order", "delay", "join", "look", "next_moves", "room",
    "to_rerun", "to_retry", "touches",
]  # fmt: skip

OVERDUE = "the step ran out of time"


def next_moves(spec: SessionSpec, snapshot: Snapshot, *, now: datetime) -> list[Move]:
    """In document order. Empty: nothing to do here until something changes."""
    session = snapshot.session
    if session.status in SESSION_ENDED:
        moves = [move for path in _ordered(spec, snapshot) for move in _closing(spec, snapshot, path)]
        return moves or ([Publish(path=ROOT)] if snapshot.quiet and not session.published else [])
    if session.status is SessionStatus.RUNNING and _due(session.deadline, now):
        return [EndSession(path=ROOT, status=SessionStatus.TIMED_OUT, because="the session ran out of time")]
    fatal = _fatal(spec, snapshot)
    moves = []
    for path in _ordered(spec, snapshot):
        if _above_ended(spec, snapshot, path):
            moves += _closing(spec, snapshot, path)
        elif spec.nodes[path].kind == "group":
            moves += _group(spec, snapshot, path, fatal, now)
        else:
            moves += _step(spec, snapshot, path, now)
    if ROOT in snapshot.touched:
        moves += _session(snapshot, fatal)
    return moves


def touches(spec: SessionSpec, move: Move) -> set[str]:
    """What to look at again after the move was made."""
    if isinstance(move, Publish):
        return set()
    if isinstance(move, Start | Retry | CancelItems):
        return {move.path}
    if isinstance(move, Open):
        return {move.path, *spec.members(move.path)}
    return spec.to_touch_after(move.path)


def room(spec: SessionSpec, path: str, in_flight: Mapping[str, int]) -> int | None:
    """How many more items of the step may be in flight. None: nothing bounds them. `in_flight`: for each of
    `spec.scopes(path)`, the items in flight in it now."""
    free = []
    for scope in spec.scopes(path):
        limit = spec.nodes[scope].max_parallel if scope else spec.max_parallel
        free.append((limit or 0) - in_flight.get(scope, 0))
    return max(0, min(free)) if free else None


# ---- what holds in the neighbourhood ----------------------------------------------------------------------


def _ordered(spec: SessionSpec, snapshot: Snapshot) -> list[str]:
    return sorted((path for path in snapshot.touched if path in snapshot.nodes), key=lambda path: spec.nodes[path].position)


def _due(deadline: datetime | None, now: datetime) -> bool:
    return deadline is not None and deadline <= now


def _fatal(spec: SessionSpec, snapshot: Snapshot) -> dict[str, str]:
    """Group → a member seen to have failed whose failure is the group's."""
    return {
        spec.nodes[path].parent: path
        for path, state in snapshot.nodes.items()
        if state.status in STEP_FAILED and spec.nodes[path].on_failure == "fail"
    }


def _above_ended(spec: SessionSpec, snapshot: Snapshot, path: str) -> bool:
    parent = snapshot.nodes.get(spec.nodes[path].parent)
    return parent is not None and parent.status in STEP_ENDED


def _above_runs(spec: SessionSpec, snapshot: Snapshot, path: str) -> bool:
    parent = spec.nodes[path].parent
    return parent == ROOT or (parent in snapshot.nodes and snapshot.nodes[parent].status is StepStatus.RUNNING)


def _satisfied(node: NodeSpec, state: NodeState) -> bool:
    return state.status is StepStatus.COMPLETED or (state.status in STEP_FAILED and node.on_failure == "continue")


# ---- ends -------------------------------------------------------------------------------------------------


def _closing(spec: SessionSpec, snapshot: Snapshot, path: str) -> Iterator[Move]:
    """The session, or the group around the node, has ended: so must the node."""
    state, session = snapshot.nodes[path], snapshot.session
    parent = spec.nodes[path].parent
    if session.status in SESSION_ENDED:
        because = f"the session {_words(session.status)}"
    else:
        because = f"{parent} {_words(snapshot.nodes[parent].status)}"
    if state.status in STEP_ENDED:
        if state.counts.open:
            yield CancelItems(path=path, because=because)
    elif state.status is StepStatus.WAITING:
        # What never started was left out, except where somebody said stop.
        if session.status is SessionStatus.CANCELLED:
            yield Finish(path=path, status=StepStatus.CANCELLED, because=because)
        else:
            yield Skip(path=path, because=because)
    else:
        yield from _stop(path, state, StepStatus.CANCELLED, because)


def _stop(path: str, state: NodeState, status: StepStatus, because: str) -> Iterator[Move]:
    """End a running node early: first its items, then itself."""
    if state.counts.open:
        yield CancelItems(path=path, because=because)
    else:
        yield Finish(path=path, status=status, because=because, missing=_missing_items(state.counts))


def _missing_items(counts: Counts) -> dict[str, int]:
    return {name: count for name in ("failed", "timed_out", "cancelled") if (count := getattr(counts, name))}


def _words(status: SessionStatus | StepStatus) -> str:
    words = {"timed_out": "timed out", "cancelled": "was cancelled", "skipped": "was skipped", "completed": "has completed"}
    return words.get(status.value, status.value)


# ---- the session and its groups ---------------------------------------------------------------------------


def _session(snapshot: Snapshot, fatal: Mapping[str, str]) -> Iterator[Move]:
    if ROOT in fatal:
        yield EndSession(path=ROOT, status=SessionStatus.FAILED, because=f"{fatal[ROOT]} {_words(snapshot.nodes[fatal[ROOT]].status)}")
    elif members := snapshot.members.get(ROOT):
        if members.fatal:
            yield EndSession(path=ROOT, status=SessionStatus.FAILED, because="one of its groups failed")
        elif _all_ended(members):
            partial, missing = _lacks(members)
            because = "all its groups have ended"
            yield EndSession(path=ROOT, status=SessionStatus.COMPLETED, partial=partial, missing=missing, because=because)


def _group(spec: SessionSpec, snapshot: Snapshot, path: str, fatal: Mapping[str, str], now: datetime) -> Iterator[Move]:
    state = snapshot.nodes[path]
    if state.status is StepStatus.WAITING:
        yield from _waiting(spec, snapshot, path, now)
    elif state.status is not StepStatus.RUNNING:
        return
    elif path in fatal:
        because = f"{fatal[path]} {_words(snapshot.nodes[fatal[path]].status)}"
        yield Finish(path=path, status=StepStatus.FAILED, because=because)
    elif (members := snapshot.members.get(path)) and members.fatal:
        yield Finish(path=path, status=StepStatus.FAILED, because="one of its members failed")
    elif members and _all_ended(members):
        partial, missing = _lacks(members)
        yield Finish(path=path, status=StepStatus.COMPLETED, partial=partial, missing=missing, because="all its members have ended")
    elif _due(state.deadline, now) and snapshot.session.status is SessionStatus.RUNNING:
        yield Finish(path=path, status=StepStatus.TIMED_OUT, because="the group ran out of time")


def _all_ended(members: Members) -> bool:
    return not any(count for status, count in members.statuses.items() if status not in STEP_ENDED)


def _lacks(members: Members) -> tuple[bool, dict[str, int]]:
    missing = {status.value: count for status, count in members.statuses.items() if count and status is not StepStatus.COMPLETED}
    return bool(missing or members.partial), missing


# ---- nodes that wait, steps that run ----------------------------------------------------------------------


def _waiting(spec: SessionSpec, snapshot: Snapshot, path: str, now: datetime) -> Iterator[Move]:
    if not _above_runs(spec, snapshot, path):
        return
    node, ready = spec.nodes[path], True
    for needed in node.needs:
        state = snapshot.nodes.get(needed)
        if state is None or state.status not in STEP_ENDED:
            ready = False
        elif not _satisfied(spec.nodes[needed], state):
            yield Skip(path=path, because=f"{needed} {_words(state.status)}")
            return
    ready = ready and all((state := snapshot.nodes.get(wanted)) is not None and state.status in STEP_ENDED for wanted in node.wants)
    if not ready or snapshot.session.status is SessionStatus.PAUSED:
        return
    if node.kind == "group":
        yield Open(path=path, deadline=_deadline(node, now))
    else:
        yield Start(path=path, attempt=1, deadline=_deadline(node, now))


def _deadline(node: NodeSpec, now: datetime) -> datetime | None:
    return None if node.timeout_s is None else now + timedelta(seconds=node.timeout_s)


def _step(spec: SessionSpec, snapshot: Snapshot, path: str, now: datetime) -> Iterator[Move]:
    state, node = snapshot.nodes[path], spec.nodes[path]
    paused = snapshot.session.status is SessionStatus.PAUSED
    if state.status is StepStatus.WAITING:
        yield from _waiting(spec, snapshot, path, now)
    elif state.status in STEP_ENDED:
        if state.counts.open:
            yield CancelItems(path=path, because=f"{path} {_words(state.status)}")
    elif state.status is StepStatus.RUNNING:
        yield from _running(node, snapshot.session, state, now)
    elif _due(state.deadline, now) and not paused:
        yield from _stop(path, state, StepStatus.TIMED_OUT, OVERDUE)
    elif paused or not _above_runs(spec, snapshot, path):
        return
    elif state.status is StepStatus.RETRYING and (state.retry_at is None or state.retry_at <= now):
        yield Start(path=path, attempt=state.attempt + 1, deadline=state.deadline or _deadline(node, now))
    elif state.status is StepStatus.EXPANDING and _due(state.busy_until, now):
        yield Start(path=path, attempt=state.attempt, deadline=state.deadline, because="whoever started it is gone")


def _running(node: NodeSpec, session: SessionState, state: NodeState, now: datetime) -> Iterator[Move]:
    verdict = join(node, state.counts, attempt=state.attempt)
    if node.task is None:
        return
    # Its time is up when items are open still, or were stopped for that; what ended before is judged as ever.
    late = session.status is SessionStatus.RUNNING and _due(state.deadline, now) and (state.counts.open or state.counts.cancelled)
    if late and not (node.task.join.rule == "first" and verdict.decision is Decision.HOLDS):
        yield from _stop(node.path, state, StepStatus.TIMED_OUT, OVERDUE)
    elif verdict.decision is Decision.UNDECIDED:
        return
    elif verdict.decision is Decision.RETRY:
        wait = delay(node.task.retry, state.attempt, seed=f"{session.key}:{node.path}#{state.run}")
        yield Retry(path=node.path, at=now + wait, because=verdict.because)
    elif verdict.decision is Decision.FAILS:
        timed_out = state.counts.timed_out and not state.counts.failed
        yield from _stop(node.path, state, StepStatus.TIMED_OUT if timed_out else StepStatus.FAILED, verdict.because)
    elif state.counts.open:
        yield CancelItems(path=node.path, because=verdict.because)
    else:
        # Those cancelled because the first n were enough are not missed.
        missing = {} if node.task.join.rule == "first" else verdict.missing
        yield Finish(path=node.path, status=StepStatus.COMPLETED, partial=bool(missing), missing=missing, because=verdict.because)
