"""Celery tasks of the `dispatch` queue."""

from __future__ import annotations

from celery import shared_task, signals

from apps.core import redis
from apps.tasks.executor import JobExecutor
from jobplatform.queues import Work

SLICE_SECONDS = 5.0
_stopping = False


@signals.worker_shutting_down.connect
def _stop(**_signal: object) -> None:
    global _stopping
    _stopping = True


@shared_task(name=Work.DRAIN, ignore_result=True)
def drain(**_newer: object) -> None:
    """Dispatch what is queued, for one time slice. The message is a hint; a lost one is replaced by the sweeper."""
    try:
        JobExecutor().drain(seconds=SLICE_SECONDS, stopping=lambda: _stopping)
    except redis.RedisDown as error:
        redis.log_away(error)
