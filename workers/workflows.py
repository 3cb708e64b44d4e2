"""Celery tasks of the `workflows` and `items` queues: sessions go on, chunks of their items are run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery import Task, shared_task, signals
from celery.exceptions import Ignore

from apps.core import background, clock, redis
from apps.workflows.engine import afterwards, recovery, work
from apps.workflows.engine.store import UnknownSession
from jobplatform.queues import Work

log = logging.getLogger(__name__)

_stopping = False


@signals.worker_shutting_down.connect
def _stop(**_signal: object) -> None:
    global _stopping
    _stopping = True


@signals.worker_shutdown.connect
def _settle(**_signal: object) -> None:
    afterwards.settle()


@shared_task(name=Work.RUN_CHUNK, bind=True, ignore_result=True)
def run_chunk(self: Task, *, chunk_id: str, **_newer: object) -> None:
    """A chunk of items, and what follows from its end. One that is out with agents tells its chord later."""
    try:
        is_away = work.run_chunk(chunk_id, saved=background.saved_part(self.request), stopping=lambda: _stopping)
    except UnknownSession:
        return  # deleted meanwhile
    except redis.RedisDown as error:
        redis.log_away(error)
        return
    if is_away:
        raise Ignore()


@shared_task(name=Work.ADVANCE, ignore_result=True)
def advance(*, session_key: str, paths: Sequence[str] = (), **_newer: Any) -> None:
    _look(session_key, paths)


@shared_task(name=Work.FINISH, ignore_result=True)
def finish(*, session_key: str, path: str, **_newer: Any) -> None:
    """The body of a chord: it wakes, the rows decide."""
    _look(session_key, [path])


def _look(session_key: str, paths: Sequence[str]) -> None:
    try:
        work.advance(session_key, paths, stopping=lambda: _stopping)
    except UnknownSession:
        return
    except redis.RedisDown as error:
        redis.log_away(error)


@shared_task(name=Work.ITEMS_ENDED, ignore_result=True)
def items_ended(*, task_keys: Sequence[str], **_newer: Any) -> None:
    try:
        work.items_ended(task_keys, stopping=lambda: _stopping)
    except redis.RedisDown as error:
        redis.log_away(error)


@shared_task(name=Work.TEND_SESSIONS, ignore_result=True)
def tend(**_newer: object) -> None:
    try:
        recovery.tend(now=clock.now())
    except redis.RedisDown as error:
        redis.log_away(error)
