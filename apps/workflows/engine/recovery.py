"""Upkeep of sessions: finds what a lost hint or a dead process left lying, and what time itself has brought about.

Idempotent, and safe in several copies: everything it does is a compare-and-set or a hint.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

from apps.core.errors import PlatformError
from apps.core.redis import RedisDown
from apps.tasks.models import Task
from apps.tasks.states import TERMINAL
from apps.workflows.engine import away, canvas, endings, limits, store, telling, undoing, work
from apps.workflows.engine.store import STEP_IS_OPEN, light
from apps.workflows.models import Chunk, ChunkStatus, Item, Session, Step
from apps.workflows.states import SESSION_ENDED, ItemStatus, SessionStatus, StepStatus

log = logging.getLogger(__name__)

AT_ONCE = 500
SESSIONS_AT_ONCE = 50
LYING = timedelta(seconds=5)
"""What has not moved for so long may have been forgotten."""
SENT_LYING = timedelta(seconds=15)
"""A message in a queue: others may be before it."""
RUNNING = [status.value for status in (SessionStatus.RUNNING, SessionStatus.PAUSED)]
ENDED = [status.value for status in SESSION_ENDED]


def tend(*, now: datetime) -> int:
    """Everything there is to tend; how many things were taken up."""
    return sum(
        each(now)
        for each in (_unprepared, _lapsed_chunks, _unsent_chunks, _due, _still, _away, _unpublished, _untold, _undoing)
    )  # fmt: skip


def _unprepared(now: datetime) -> int:
    """Accepted, and whoever accepted them died before their steps were written."""
    rows = Session.objects.filter(status__in=RUNNING, prepared=False, updated_at__lte=now - LYING)
    return _advance(dict.fromkeys(rows.values_list("key", flat=True)[:SESSIONS_AT_ONCE]), now)


def _lapsed_chunks(now: datetime) -> int:
    """Their worker is gone: another one goes on."""
    rows = Chunk.objects.filter(status=ChunkStatus.RUNNING.value, lease_until__lte=now).order_by("lease_until")
    found = list(rows.values_list("id", flat=True)[:AT_ONCE])
    if found:
        log.info("chunks.lapsed", extra={"chunks": len(found)})
        canvas.send_again(found)
    return len(found)


def _unsent_chunks(now: datetime) -> int:
    """Their message was lost, or waits in a long queue: a second one does no harm. Held back ones may have a place now."""
    rows = Chunk.objects.filter(status=ChunkStatus.SENT.value, updated_at__lte=now - SENT_LYING).order_by("updated_at")
    found = list(rows.values_list("id", flat=True)[:AT_ONCE])
    if found:
        Chunk.objects.filter(pk__in=found, status=ChunkStatus.SENT.value).update(updated_at=now)
        canvas.send_again(found)
    waiting = Chunk.objects.filter(status=ChunkStatus.WAITING.value, updated_at__lte=now - LYING).order_by()
    released = 0
    for key in list(waiting.values_list("session_key", flat=True).distinct()[:SESSIONS_AT_ONCE]):
        session = _session(key)
        if session is None or session.status != SessionStatus.RUNNING:
            continue
        spec = store.spec_of(session)
        # Chunks of steps without a limit wait only because the session was paused.
        free = [
            chunk
            for chunk, step in waiting.filter(session_key=key).values_list("id", "step_id")[:AT_ONCE]
            if limits.limit_of(spec, step.removeprefix(f"{key}:")) is None
        ]
        Chunk.objects.filter(pk__in=free, status=ChunkStatus.WAITING.value).update(status=ChunkStatus.SENT.value, updated_at=now)
        canvas.send_again(free)
        released += len(free) + limits.release(session, spec, now=now)
    return len(found) + released


def _due(now: datetime) -> int:
    """Deadlines, retries, and expansions whose process is gone."""
    wanted: dict[str, set[str] | None] = defaultdict(set)
    late = Step.objects.filter(status__in=STEP_IS_OPEN, deadline__lte=now)
    retries = Step.objects.filter(status=StepStatus.RETRYING.value, retry_at__lte=now)
    stuck = Step.objects.filter(status=StepStatus.EXPANDING.value, updated_at__lte=now - LYING)
    for rows in (late, retries, stuck):
        for key, path in rows.exclude(parent=store.UNDOING).values_list("session_key", "path")[:AT_ONCE]:
            paths = wanted[key]
            if paths is not None:
                paths.add(path)
    for key in Session.objects.filter(status=SessionStatus.RUNNING.value, deadline__lte=now).values_list("key", flat=True)[:AT_ONCE]:
        wanted[key] = None
    return _advance(wanted, now)


def _still(now: datetime) -> int:
    """Sessions that have not moved for a while: look at all that is open in them. Of one that moves, at steps that have run for
    a while, and once a minute at everything: a look at thousands of steps is not free. Each look puts them off."""
    rows = Session.objects.filter(status__in=RUNNING, prepared=True, updated_at__lte=now - LYING).order_by("updated_at")
    found = list(rows.values_list("key", flat=True)[:SESSIONS_AT_ONCE])
    Session.objects.filter(pk__in=found).update(updated_at=now)
    wanted: dict[str, set[str] | None] = {}
    for key in found:
        steps = Step.objects.filter(session_key=key)
        if now.second < LYING.total_seconds() or not steps.filter(updated_at__gt=now - LYING).exists():
            wanted[key] = None
        elif slow := steps.filter(status=StepStatus.RUNNING.value, updated_at__lte=now - LYING).exclude(parent=store.UNDOING):
            wanted[key] = set(slow.values_list("path", flat=True)[:AT_ONCE])
    return _advance(wanted, now)


def _away(now: datetime) -> int:
    """Items of agents: of some the end was not heard, some were never submitted, some wait for a limit of the org."""
    rows = Chunk.objects.filter(status=ChunkStatus.AWAY.value, updated_at__lte=now - LYING).order_by("updated_at")
    chunks = list(rows[:50])
    Chunk.objects.filter(pk__in=[chunk.pk for chunk in chunks], status=ChunkStatus.AWAY.value).update(updated_at=now)
    unheard: set[str] = set()
    for chunk in chunks:
        session = _session(chunk.session_key)
        if session is None:
            continue
        step = Step.objects.filter(pk=chunk.step_id).first()
        items = Item.objects.filter(chunk_id=chunk.pk)
        if step is not None and items.filter(status=ItemStatus.PENDING.value).exists() and session.status == SessionStatus.RUNNING:
            task = store.spec_of(session).task_of(step.path)
            if task is not None:
                unheard |= away.submit(chunk.pk, session, step, task, now=now)
        keys = list(items.filter(status=ItemStatus.RUNNING.value).values_list("task_key", flat=True))
        there = set(Task.objects.filter(pk__in=keys).values_list("pk", flat=True)) if keys else set()
        # Their key was written and their submitter died: once more, under the same id.
        lost = [key for key in keys if key not in there]
        items.filter(status=ItemStatus.RUNNING.value, task_key__in=lost).update(status=ItemStatus.PENDING.value)
        ended = Task.objects.filter(pk__in=keys, status__in=[status.value for status in TERMINAL]).values_list("pk", flat=True)
        unheard |= away.ended_tasks(list(ended), now=now)
        unheard |= away.settle([chunk.pk], now=now)
    canvas.send(work.after(unheard, now=now))
    return len(unheard)


def _unpublished(now: datetime) -> int:
    """Ended, and whoever ended them died before all of it was stopped and told."""
    rows = Session.objects.filter(status__in=ENDED, published=False, updated_at__lte=now - LYING).order_by("updated_at")
    found = list(rows.values_list("key", flat=True)[:SESSIONS_AT_ONCE])
    Session.objects.filter(pk__in=found).update(updated_at=now)
    return _advance(dict.fromkeys(found), now)


def _untold(now: datetime) -> int:
    """Ended, but a bus was away, or whoever was to tell it died."""
    due = Session.objects.filter(tell_at__lte=now, run__gt=endings.GONE).order_by("tell_at").only(*telling.FIELDS)[:SESSIONS_AT_ONCE]
    return sum(telling.again(session, now=now) for session in due)


def _undoing(now: datetime) -> int:
    rows = Session.objects.filter(compensation=undoing.RUNNING, updated_at__lte=now - LYING).order_by("updated_at")
    found = list(rows.values_list("key", flat=True)[:SESSIONS_AT_ONCE])
    Session.objects.filter(pk__in=found).update(updated_at=now)
    return _advance(dict.fromkeys(found), now)


def _advance(wanted: Iterable[str], now: datetime) -> int:
    paths = wanted if isinstance(wanted, dict) else dict.fromkeys(wanted)
    for key, these in paths.items():
        try:
            canvas.send(work.look(key, sorted(these) if these else None, now=now))
        except PlatformError as error:
            log.warning("session.not_tended", extra={"session": key, "error": str(error)})
        except RedisDown as error:
            log.warning("session.not_tended", extra={"session": key, "error": str(error)})
            break
    return len(paths)


def _session(key: str) -> Session | None:
    try:
        return light(key)
    except store.UnknownSession:
        return None
