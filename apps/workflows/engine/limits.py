"""`max_parallel`: how many items may be in flight at once in a step, a group, a session.

Chunks of a step under a limit are born `waiting` and released one by one. A chunk in a worker is one item in flight, since
a worker does one after the other; a chunk of agents' tasks is as many as it holds. Releases of one session take turns, or two
might fill the same place. They wait for each other at a lock in Redis, which costs the database nothing; whether a place is free is
decided under the lock of the session's row, which nobody can empty. MongoDB has no such lock: should Redis be emptied in the middle
of a release, a limit may be exceeded there until those that are too many have ended.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from datetime import datetime

from apps.core import bulk, redis
from apps.workflows.document.spec import ROOT, SessionSpec
from apps.workflows.engine import canvas
from apps.workflows.models import Chunk, ChunkStatus, Session, Step

LOCK_SECONDS, PATIENCE_SECONDS = 10.0, 3.0
LOOKED_AT = 500
FLYING = [ChunkStatus.SENT.value, ChunkStatus.RUNNING.value, ChunkStatus.AWAY.value]


def limit_of(spec: SessionSpec, path: str) -> int | None:
    """The narrowest limit on a step, None for none."""
    if path not in spec.nodes:
        return None
    return min((_limit(spec, scope) for scope in spec.scopes(path)), default=None)


def release(session: Session, spec: SessionSpec, *, now: datetime) -> int:
    """Send the chunks that have a place now; answers how many."""
    waiting = Chunk.objects.filter(session_key=session.key, status=ChunkStatus.WAITING.value)
    if not waiting.exists():
        return 0
    name = redis.key("wf", "release", session.key)
    lock = redis.client().lock(name, timeout=LOCK_SECONDS, blocking_timeout=PATIENCE_SECONDS, sleep=0.005)
    released: list[str] = []
    # Not ours in time: somebody else has been at it all the while, and upkeep looks again. Not ours any more: what we have chosen goes.
    with suppress(redis.LockLost), lock:
        released = _choose(session, spec, now)
    if released:
        canvas.send_again(released)
    return len(released)


def _choose(session: Session, spec: SessionSpec, now: datetime) -> list[str]:
    with bulk.atomic(Chunk):
        if bulk.has_transactions(Chunk):
            # SQLite, which has no locks of rows, lets one transaction write at a time.
            Session.objects.select_for_update().filter(pk=session.key).values_list("pk").first()
        return _chosen(session, spec, now)


def _chosen(session: Session, spec: SessionSpec, now: datetime) -> list[str]:
    flying: Counter[str] = Counter()
    for step, executor, size in Chunk.objects.filter(session_key=session.key, status__in=FLYING).values_list("step_id", "executor", "size"):
        path = step.removeprefix(f"{session.key}:")
        if path in spec.nodes:
            flying.update(dict.fromkeys(spec.scopes(path), size if executor == "agent" else 1))
    rows = Chunk.objects.filter(session_key=session.key, status=ChunkStatus.WAITING.value).order_by("step_run", "number")
    rank = {path: place for place, path in enumerate(spec.nodes)}
    found = list(rows.values_list("id", "step_id", "executor", "size")[:LOOKED_AT])
    by_path = sorted(found, key=lambda one: rank.get(one[1].removeprefix(f"{session.key}:"), 0))
    chosen = []
    for chunk, step, executor, size in by_path:
        path, weight = step.removeprefix(f"{session.key}:"), size if executor == "agent" else 1
        scopes = spec.scopes(path) if path in spec.nodes else ()
        # A chunk wider than its limit goes when nothing else flies: it would wait for ever.
        if all(flying[scope] + weight <= _limit(spec, scope) or not flying[scope] for scope in scopes):
            flying.update(dict.fromkeys(scopes, weight))
            chosen.append(chunk)
    if chosen:
        Chunk.objects.filter(pk__in=chosen, status=ChunkStatus.WAITING.value).update(status=ChunkStatus.SENT.value, updated_at=now)
    return chosen


def _limit(spec: SessionSpec, scope: str) -> int:
    found = spec.max_parallel if scope == ROOT else spec.nodes[scope].max_parallel
    return found if found is not None else 2**31


def held_back(step: Step) -> bool:
    return Chunk.objects.filter(step_run=step.step_run, status=ChunkStatus.WAITING.value).exists()
