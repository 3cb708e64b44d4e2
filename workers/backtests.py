"""Celery tasks of the `backtests` queue: what takes long and nobody waits for."""

from __future__ import annotations

import logging

from celery import shared_task

from apps.core import background, clock, redis
from apps.dsl import backtest
from apps.messaging.connection import WireDown
from apps.retention.purge import Purger
from jobplatform.queues import Work

log = logging.getLogger(__name__)

PURGE_SLICE_SECONDS = 5.0


@shared_task(name=Work.BACKTEST, ignore_result=True)
def run(*, backtest_id: str, **_newer: object) -> None:
    backtest.run(backtest_id, now=clock.now())


@shared_task(name=Work.PURGE, ignore_result=True)
def purge(*, org_id: str, **_newer: object) -> None:
    """A slice of it. Where its message is lost, or Redis or NATS is away, upkeep sends another."""
    try:
        done = Purger(org_id).run(now=clock.now(), seconds=PURGE_SLICE_SECONDS)
    except (*redis.RedisDown, WireDown) as error:
        log.warning("purge.put_off", extra={"org": org_id, "error": str(error)})
        return
    if not done:
        background.send(Work.PURGE, org_id=org_id)
