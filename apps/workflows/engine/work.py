"""What the messages ask for: run a chunk, look at a session, end the items of ended tasks. One call each.

Whoever ends a step looks at what follows from it right here, and does one of the chunks that may run now itself, without a
message to itself: a chain of short steps costs no hop. Others are sent. A worker for whom other chunks wait takes the next one
at once, and has what follows written beside it (`afterwards.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

from apps.core import clock
from apps.workflows.document.spec import UNDO, TaskSpec
from apps.workflows.engine import afterwards, away, canvas, limits, pulse, store, undoing
from apps.workflows.engine.canvas import Sending, chunk_id
from apps.workflows.engine.coordinator import Coordinator
from apps.workflows.engine.endings import CHUNK_OPEN
from apps.workflows.engine.running import ChunkRunner, claim
from apps.workflows.models import Chunk, Step
from apps.workflows.states import SessionStatus

SLICE_SECONDS = 5.0
"""So long a worker goes on with what follows before it takes the next message."""
LONG_SECONDS = 0.005
"""After a chunk that took so long, with others waiting, what follows is written while the next one is done."""
CROWDED_SECONDS = 1.0
"""Others are likely to wait so long after there was more to do than one could do."""

_crowded_until = 0.0


def never() -> bool:
    return False


def run_chunk(first: str, *, saved: dict[str, Any] | None, stopping: Callable[[], bool] = never) -> bool:
    """True when the chunk is out with agents: its chord, if any, is told later. `saved`: what the chord needs to hear."""
    is_away, sendings = _one(first, saved, stopping)
    _go_on(sendings, stopping)
    return is_away


def _go_on(sendings: list[Sending], stopping: Callable[[], bool]) -> None:
    """Send what may run, but do one of it here, and one of what follows from that, for a while."""
    until = time.monotonic() + SLICE_SECONDS
    while sendings:
        own = None
        if not stopping() and time.monotonic() < until:
            own, sendings = _take_one(sendings)
        canvas.send(sendings)
        sendings = _one(own, None, stopping)[1] if own else []


def _one(chunk: str, saved: dict[str, Any] | None, stopping: Callable[[], bool]) -> tuple[bool, list[Sending]]:
    now = clock.now()
    taken = claim(chunk, now=now)
    if taken is None:
        return False, []
    spec = store.spec_of(taken.session)
    task = spec.task_of(taken.step.path)
    if task is None:
        return False, []
    if taken.chunk.executor == "agent":
        unheard = away.send(taken, task, saved, now=now)
        pulse.tell(taken.session.key)
        return saved is not None and not unheard, after(unheard, now=now) if unheard else []
    runner = ChunkRunner(taken, task, stopping=stopping)
    took = runner.run()
    if took >= LONG_SECONDS and saved is None and not stopping() and time.monotonic() < _crowded_until:
        afterwards.hand_over(lambda: canvas.send(_after_chunk(runner, task, in_chord=False)))
        return False, []
    return False, _after_chunk(runner, task, in_chord=saved is not None)


def _after_chunk(runner: ChunkRunner, task: TaskSpec, *, in_chord: bool) -> list[Sending]:
    """In a chord the last part wakes the step; else whoever finds that nothing is left."""
    taken = runner.taken
    if not runner.finish() and not taken.lost:
        return []
    eager = bool(taken.failed and task.fail_fast) or task.join.rule == "first"
    now = clock.now()
    step = taken.step
    spec = store.spec_of(taken.session)
    limited = limits.limit_of(spec, step.path) is not None
    if limited:
        limits.release(taken.session, spec, now=now)
    if not eager and (in_chord or (taken.chunk.size < step.total and _more_of(step))):
        pulse.tell(taken.session.key)
        return []
    sendings = look(taken.session.key, [step.path], now=now)
    if sum(one.count for one in sendings) > 1:
        global _crowded_until
        _crowded_until = time.monotonic() + CROWDED_SECONDS
    return sendings


def _more_of(step: Step) -> bool:
    return Chunk.objects.filter(step_run=step.step_run, status__in=CHUNK_OPEN).exists()


def after(chunk_ids: Collection[str], *, now: datetime) -> list[Sending]:
    """Chunks of agents that no chord speaks for have ended."""
    steps: dict[str, set[str]] = {}
    found: list[Sending] = []
    for session_key, step_id in Chunk.objects.filter(pk__in=list(chunk_ids)).values_list("session_key", "step_id"):
        steps.setdefault(session_key, set()).add(step_id.removeprefix(f"{session_key}:"))
    for session_key, paths in steps.items():
        try:
            session = store.light(session_key)
            limits.release(session, store.spec_of(session), now=now)
            found += look(session_key, paths, now=now)
        except store.UnknownSession:
            continue  # deleted meanwhile; the others go on
    return found


def look(session_key: str, paths: Collection[str] | None, *, now: datetime) -> list[Sending]:
    """What follows in a session; what is to be sent."""
    coordinator = Coordinator(session_key)
    undo = [path for path in paths or () if path.endswith(UNDO)]
    sendings: list[Sending] = []
    if not undo or len(undo) < len(paths or ()):
        sendings = coordinator.advance(paths, now=now)
    if coordinator.session.compensation == undoing.RUNNING:
        sendings = [*sendings, *undoing.advance(coordinator.session, store.spec_of(coordinator.session), now=now)]
        pulse.tell(session_key)
    return sendings


def advance(session_key: str, paths: Sequence[str], *, stopping: Callable[[], bool] = never) -> None:
    now = clock.now()
    session = store.light(session_key)
    if session.status == SessionStatus.RUNNING and not paths:
        limits.release(session, store.spec_of(session), now=now)
    _go_on(look(session_key, paths or None, now=now), stopping)


def items_ended(task_keys: Collection[str], *, stopping: Callable[[], bool] = never) -> None:
    now = clock.now()
    _go_on(after(away.ended_tasks(task_keys, now=now), now=now), stopping)


def _take_one(sendings: Sequence[Sending]) -> tuple[str | None, list[Sending]]:
    """One chunk to do here, of a step that has just one; the rest is sent. Of many small steps the others travel."""
    for place, one in enumerate(sendings):
        if one.count == 1:
            return chunk_id(one.step_run, one.attempt, one.first), [*sendings[:place], *sendings[place + 1 :]]
    return None, list(sendings)
