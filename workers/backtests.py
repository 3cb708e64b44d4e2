"""Celery tasks of the `backtests` queue."""

from __future__ import annotations

from celery import shared_task

from apps.core import clock
from apps.dsl import backtest
from jobplatform.queues import Work


@shared_task(name=Work.BACKTEST, ignore_result=True)
def run(*, backtest_id: str, **_newer: object) -> None:
    backtest.run(backtest_id, now=clock.now())
