"""The Celery task that runs jobs, and what its worker's parent process sees of them: children that died, a call to kill one, and the
end of the worker, when what runs is handed back."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from billiard.common import terminate_handler_fired
from billiard.exceptions import WorkerLostError
from celery import Task, shared_task, signals
from celery.worker import state as worker_state
from celery.worker.control import control_command
from celery.worker.request import Request
from django.db import connections

from apps.core import observe
from apps.jobs import runner
from apps.jobs.backends.stopping import Held, Stopping, listen
from apps.jobs.states import Reason
from jobplatform.queues import Work

_is_child = False


@signals.worker_process_init.connect
def _born(**_signal: object) -> None:
    global _is_child
    _is_child = True
    listen()
    observe.start()  # its parent is ready, and counts, only after it was forked


def _held() -> list[Held]:
    """In the parent: what its children run now."""
    running = (each for each in tuple(worker_state.active_requests) if each.name == Work.RUN_JOB and each.worker_pid)
    return [Held(each.kwargs["job_id"], each.kwargs["attempt"], each.worker_pid) for each in running]


_stopping = Stopping(_held)


@signals.worker_shutting_down.connect
def _told_to_stop(**_signal: object) -> None:
    _stopping.begin()


class JobRequest(Request):
    """In the parent: who loses a child says so at once; the lease would need half a minute."""

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self._lost(Reason.TIMEOUT, "killed at its hard time limit")
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = getattr(exc_info.exception, "exc", exc_info.exception)  # billiard wraps it
        if isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt):
            self._lost(Reason.WORKER_LOST, str(error))
            return_ok = True  # it is said; Celery would add a traceback of its own insides
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _lost(self, reason: Reason, detail: str) -> None:
        if _stopping.has_begun and reason is Reason.WORKER_LOST:
            reason = Reason.WORKER_STOPPED
        try:
            runner.lost(self.kwargs["job_id"], self.kwargs["attempt"], code=reason, detail=detail)
        finally:
            connections.close_all()  # the next child must not inherit them


class JobTask(Task):
    Request = "workers.jobs:JobRequest"


# Never handed back by the broker: an attempt that died is over, and the row knows whether there is another.
@shared_task(base=JobTask, bind=True, name=Work.RUN_JOB, ignore_result=True, acks_late=True, reject_on_worker_lost=False)
def run_job(self: Task, *, job_id: str, attempt: int, **_newer: object) -> None:
    worker = f"{self.request.hostname}/{os.getpid()}"
    runner.run(job_id, attempt, worker=worker, alone=_is_child, is_told_to_end=terminate_handler_fired)
    if terminate_handler_fired():
        sys.exit()  # as it was told; the job has been seen to


@control_command(name=Work.KILL_JOB, args=[("job_id", str)])
def kill_job(state: Any, job_id: str, **_newer: object) -> None:
    for request in tuple(worker_state.active_requests):
        if request.kwargs.get("job_id") == job_id and request.worker_pid:
            state.consumer.pool.terminate_job(request.worker_pid, signal.SIGKILL)
