"""Celery tasks of the `upkeep` queue: what beat rings for. Each may run in several copies at once."""

from __future__ import annotations

import logging

from celery import shared_task, signals

from apps.agents import heartbeats
from apps.core import background, clock, redis
from apps.dsl import backtest
from apps.jobs import upkeep as jobs_upkeep
from apps.messaging import credentials
from apps.orgs import keys
from apps.retention import purge
from apps.retention.keeper import NO_ORG, Keeper
from apps.tasks import attempts, reassign
from apps.tasks.loader import TaskLoader
from apps.tasks.operating.bulk_actions import BulkRunner
from apps.tasks.operating.schedule_ticker import ScheduleTicker
from apps.tasks.reordering import Reorderer
from apps.tasks.sweeper import Sweeper
from jobplatform.queues import Work

log = logging.getLogger(__name__)

REORDER_SLICE_SECONDS = 1.0
RETENTION_SLICE_SECONDS = 0.5


@shared_task(name=Work.SWEEP, ignore_result=True)
def sweep(**_newer: object) -> None:
    try:
        if TaskLoader().is_due():
            TaskLoader().reconcile(now=clock.now())
        Sweeper().sweep(now=clock.now())
        if BulkRunner().waiting(now=clock.now()):
            background.send(Work.BULK_ACTIONS)
    except redis.RedisDown as error:
        redis.log_away(error)


@shared_task(name=Work.RECONCILE, ignore_result=True)
def reconcile(**_newer: object) -> None:
    try:
        TaskLoader().reconcile(now=clock.now())
    except redis.RedisDown as error:
        redis.log_away(error)


@shared_task(name=Work.REORDER, ignore_result=True)
def reorder(**_newer: object) -> None:
    """A slice of it at a time: the sweep must not wait behind it."""
    try:
        left = Reorderer().run(now=clock.now(), seconds=REORDER_SLICE_SECONDS)
    except redis.RedisDown as error:
        redis.log_away(error)
        return
    if left:
        background.send(Work.REORDER)


@shared_task(name=Work.TEND_AGENTS, ignore_result=True)
def tend_agents(**_newer: object) -> None:
    """Figures, breakers; tasks of revoked agents; who is drained, who was seen."""
    now = clock.now()
    try:
        heartbeats.tend(now=now)
        reassign.tend(now=now)
    except redis.RedisDown as error:
        redis.log_away(error)


@shared_task(name=Work.CATCH_UP_EVIDENCE, ignore_result=True)
def catch_up_evidence(**_newer: object) -> None:
    """Evidence that nobody told of."""
    try:
        attempts.catch_up(now=clock.now())
    except redis.RedisDown as error:
        redis.log_away(error)


@shared_task(name=Work.TELL_REVOKED, ignore_result=True)
def tell_revoked(**_newer: object) -> None:
    """NATS may have been away when a key was revoked, or have lost its disk since: say it again. Cheap when it knows."""
    try:
        credentials.settle(keys.revoked_on_nats, now=clock.now())
    except credentials.NotPushed as error:
        log.info("nats.revocations_not_told", extra={"problem": error.facts.get("problem", "")})


@shared_task(name=Work.TEND_JOBS, ignore_result=True)
def tend_jobs(**_newer: object) -> None:
    """Jobs whose time has come, lost ones, and results whose time is over."""
    jobs_upkeep.tend_jobs(now=clock.now())


@shared_task(name=Work.SWEEP_JOB_FILES, ignore_result=True)
def sweep_job_files(**_newer: object) -> None:
    """Uploads whose job was never written."""
    jobs_upkeep.sweep_files(now=clock.now())


@shared_task(name=Work.SCHEDULES, ignore_result=True)
def schedules(**_newer: object) -> None:
    """Fire what is due. Rung for every two seconds, and by each schedule's own row at its time."""
    ScheduleTicker().tick(now=clock.now())


@shared_task(name=Work.BULK_ACTIONS, ignore_result=True)
def bulk_actions(**_newer: object) -> None:
    """A slice of what was asked for; the sweep finds what a lost message or a dead worker left."""
    if BulkRunner().run():
        background.send(Work.BULK_ACTIONS)


@shared_task(name=Work.RESUME_BACKTESTS, ignore_result=True)
def resume_backtests(**_newer: object) -> None:
    """A hint may have been lost, or a worker have died in the middle of one. The same of purges."""
    backtest.resume(now=clock.now())
    for org_id in purge.waiting(now=clock.now()):
        background.send(Work.PURGE, org_id=org_id)


@shared_task(name=Work.RETENTION, ignore_result=True)
def retention(*, start: str = NO_ORG, **_newer: object) -> None:
    """A slice of it at a time. Where a message of a later slice is lost, the next hour begins anew."""
    left_at = Keeper().run(now=clock.now(), seconds=RETENTION_SLICE_SECONDS, start=start).left_at
    if left_at is not None:
        background.send(Work.RETENTION, start=left_at)


@signals.worker_ready.connect
def load_at_start(sender: object = None, **_signal: object) -> None:
    """A platform that comes up looks at once for what it left lying."""
    background.send(Work.RECONCILE)
