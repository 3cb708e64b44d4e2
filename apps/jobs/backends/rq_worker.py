# ruff: noqa: E402  (Django is loaded between the imports)
"""Workers of jobs on RQ: each job in a process of its own, forked for it.

    manage.py worker jobs --backend rq
    DJANGO_SETTINGS_MODULE=jobplatform.settings RQ_KEY_PREFIX=jp:rq \\
        rq worker --url $REDIS_URL --worker-class apps.jobs.backends.rq_worker.JobsWorker embeddings gpu

Both take jobs of ours only. Whatever else somebody writes into their queues is refused, never called.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import django
from django.apps import apps

if not apps.ready:  # RQ's own command line: nobody has loaded Django yet
    django.setup()

from django.db import DatabaseError, connections
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from apps.core import observe, readiness, redis
from apps.jobs import adapters, marks, runner
from apps.jobs.backends.lanes import lanes
from apps.jobs.backends.processes import ended_with, keep
from apps.jobs.backends.rq import Carrier
from apps.jobs.backends.stopping import HAND_BACK, Held, Stopping, listen, longest_seconds
from apps.jobs.models import Job as Row
from apps.jobs.states import Reason

log = logging.getLogger(__name__)


class JobsWorker(Worker):
    """Takes the lanes of its queues in order, and says at once when a horse dies of a job."""

    log_job_description = False

    def __init__(self, queues: Iterable[str | Queue], name: str | None = None, **how: Any) -> None:
        names = [queue if isinstance(queue, str) else queue.name for queue in queues]
        super().__init__(lanes(names), name, **{**how, "job_class": Carrier, "serializer": JSONSerializer})
        self._per_lane = len(names)
        self._horse_status = 0
        self._limit: threading.Timer | None = None
        self._is_over = False
        """The present horse outlived its limit."""
        self._carried: Job | None = None
        self._stopping = Stopping(self._held)

    def bootstrap(self, *how: Any, **more: Any) -> None:
        super().bootstrap(*how, **more)
        signal.signal(HAND_BACK, signal.SIG_IGN)  # a horse has this until it listens itself
        readiness.mark_ready(f"rq:{self.name}")

    def teardown(self) -> None:
        super().teardown()
        readiness.say_stopped(f"rq:{self.name}")

    def reorder_queues(self, reference_queue: Queue) -> None:
        """The queues of a lane take turns: a crowd in one does not hold up the others."""
        ordered = self._ordered_queues
        place = ordered.index(reference_queue)
        start = place - place % self._per_lane
        end = start + self._per_lane
        ordered[start:end] = ordered[place + 1 : end] + ordered[start : place + 1]

    def execute_job(self, job: Job, queue: Queue) -> None:
        _preload(job)
        # No connection to the database crosses the fork: two processes would talk on one.
        connections.close_all()
        self._carried = job
        try:
            super().execute_job(job, queue)
        finally:  # also when a second signal ends horse and worker
            self._carried = None
            status, self._horse_status = self._horse_status, 0
            if status:
                why = Reason.WORKER_STOPPED if self._stopping.has_begun else Reason.WORKER_LOST
                _tell_lost(job, status, Reason.TIMEOUT if self._is_over else why)

    def handle_warm_shutdown_request(self) -> None:
        self._stopping.begin()

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()
        listen()

    def _held(self) -> list[Held]:
        job, pid = self._carried, self.horse_pid
        if job is None or not pid:
            return []
        try:
            return [Held(*job.wake(), pid)]
        except ValueError:  # none of ours, and soon refused
            return []

    def perform_job(self, *of: Any) -> bool:
        """In the horse, which ends without saying goodbye."""
        try:
            return super().perform_job(*of)
        finally:
            observe.flush()

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        super().fork_work_horse(job, queue)
        self._is_over = False
        if job.timeout and job.timeout > 0:
            # RQ itself would look every half a minute, and give it another minute.
            self._limit = threading.Timer(job.timeout, self._kill, [self.horse_pid])
            self._limit.daemon = True
            self._limit.start()

    def wait_for_horse(self) -> tuple[int | None, int | None, Any]:
        pid, status, usage = super().wait_for_horse()
        self._horse_status = status or 0
        if self._limit is not None:
            self._limit.cancel()
        return pid, status, usage

    def _kill(self, pid: int) -> None:
        if pid == self.horse_pid:
            self._is_over = True
            self.kill_horse()


def _preload(job: Job) -> None:
    """What the job needs is imported here, once, not in each process that runs one."""
    try:
        row = Row.objects.filter(pk=job.wake()[0]).values("target", "request__kind").first()
        if row is not None:
            marks.resolve(row["target"])
            adapters.named(row["request__kind"] or "plain")
    except Exception as error:  # the boundary to the code of jobs; its own process says what is wrong
        log.debug("jobs.not_preloaded", extra={"rq_job": job.id, "error": str(error)})


def _tell_lost(job: Job, status: int, reason: Reason) -> None:
    try:
        job_id, attempt = job.wake()
        runner.lost(job_id, attempt, code=reason, detail=ended_with(status))
    except ValueError:
        log.warning("jobs.rq_refused", extra={"rq_job": job.id})
    except DatabaseError as error:  # upkeep finds it when its lease lapses
        log.warning("jobs.loss_not_told", extra={"rq_job": job.id, "error": str(error)})


def serve(names: Sequence[str], *, processes: int = 1) -> None:
    """Work until told to stop: a first SIGTERM or Ctrl-C gives the present jobs time to end, a second does not."""
    work = lambda: JobsWorker(names, connection=redis.raw()).work(logging_level="WARNING")  # noqa: E731
    keep(work, processes=processes, patience_seconds=longest_seconds() + 10)  # each ends its own horse, and must be there to tell of it
