# ruff: noqa: E402  (Django is loaded between the imports)
"""Workers of jobs on Dramatiq.

    manage.py worker jobs --backend dramatiq
    DJANGO_SETTINGS_MODULE=jobplatform.settings dramatiq apps.jobs.backends.dramatiq_worker --processes 2 --threads 4

The first has processes of one thread each, and replaces those that die. Dramatiq's own command line, which reads queues and
actors from this module, has threads, and ends when one of its processes does.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence

import django
from django.apps import apps

if not apps.ready:  # Dramatiq's own command line: nobody has loaded Django yet
    django.setup()

import dramatiq
from django.conf import settings
from django.db import DatabaseError
from dramatiq.middleware import Middleware

from apps.core import readiness
from apps.jobs import queues, runner
from apps.jobs.backends.base import BANDS
from apps.jobs.backends.dramatiq import actor_name, own_broker
from apps.jobs.backends.lanes import lanes
from apps.jobs.backends.processes import ended_with, keep
from apps.jobs.backends.stopping import longest_seconds
from apps.jobs.heart import heart
from apps.jobs.models import Job
from apps.jobs.states import JobStatus, Reason

log = logging.getLogger(__name__)

_alone = False
"""This process has one thread for jobs: it may be killed for the sake of one."""


class Ready(Middleware):
    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        readiness.mark_ready(_name(os.getpid()))

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        readiness.say_stopped(_name(os.getpid()))

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        telling = threading.Timer(settings.JOBS_STOP_S, heart.hand_back)
        telling.daemon = True
        telling.start()


def run(job_id: str, attempt: int, limit_s: float | None = None) -> None:
    worker = f"{_name(os.getpid())}{threading.get_native_id()}"
    if _alone:
        # The kernel ends this process: nothing in it need be able to. Zero: never.
        signal.setitimer(signal.ITIMER_REAL, limit_s or 0)
    try:
        runner.run(job_id, attempt, worker=worker, alone=_alone)
    finally:
        if _alone:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _name(pid: int) -> str:
    return f"dramatiq:{socket.gethostname()}:{pid}:"


broker = own_broker()
broker.add_middleware(Ready())
dramatiq.set_broker(broker)
for order, band in enumerate(BANDS):
    dramatiq.actor(run, actor_name=actor_name(band), priority=order, broker=broker)
for name in lanes(queues.known()):
    broker.declare_queue(name)


def serve(names: Sequence[str], *, processes: int = 1) -> None:
    """Work until told to stop (SIGTERM or Ctrl-C)."""
    keep(lambda: _work(names), processes=processes, patience_seconds=longest_seconds() + 1, died=_tell_lost)


def _work(names: Sequence[str]) -> None:
    global _alone
    _alone = True
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Two processes with one broker id would give back each other's messages.
    broker.broker_id = f"{broker.broker_id}-{os.getpid()}"
    worker = dramatiq.Worker(broker, queues=set(lanes(names)), worker_threads=1)
    worker.queue_prefetch = 1  # what waits here another process could take
    worker.start()
    stop.wait()
    worker.stop(timeout=int(longest_seconds() * 1000))


def _tell_lost(pid: int, status: int, was_told: bool) -> None:
    """Its jobs need not wait for their leases to lapse."""
    why = Reason.WORKER_STOPPED if was_told else Reason.WORKER_LOST
    over = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
    try:
        for job_id, attempt in Job.objects.filter(status=JobStatus.STARTED, worker__startswith=_name(pid)).values_list("id", "attempt"):
            runner.lost(job_id, attempt, code=Reason.TIMEOUT if over else why, detail=ended_with(status))
    except DatabaseError as error:
        log.warning("jobs.loss_not_told", extra={"error": str(error)})
