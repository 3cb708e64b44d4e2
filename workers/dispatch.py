"""Celery tasks of the `dispatch` queue."""

from __future__ import annotations

import logging

from celery import shared_task, signals
from django.db import DatabaseError

from apps.agents.market.floor import floor
from apps.core import clock, redis
from apps.tasks.executor import JobExecutor
from jobplatform.queues import Work

log = logging.getLogger(__name__)

SLICE_SECONDS = 5.0
_stopping = False


@signals.worker_shutting_down.connect
def _stop(**_signal: object) -> None:
    global _stopping
    _stopping = True


@signals.worker_shutdown.connect
@signals.worker_process_shutdown.connect
def _write_down(**_signal: object) -> None:
    """Bids that came after their auctions wait in this process for the next batch; there is none any more."""
    if floor.cache_info().currsize:
        try:
            late = floor().record_late(now=clock.now())
        except DatabaseError as error:
            log.warning("auction.late_bids_lost", extra={"error": str(error)})
        else:
            if late:
                log.info("auction.late_bids_kept", extra={"bids": late})


@shared_task(name=Work.DRAIN, ignore_result=True)
def drain(**_newer: object) -> None:
    """Dispatch what is queued, for one time slice. The message is a hint; a lost one is replaced by the sweeper."""
    try:
        JobExecutor().drain(seconds=SLICE_SECONDS, stopping=lambda: _stopping)
    except redis.RedisDown as error:
        redis.log_away(error)
