# ruff: noqa: E402  (Django is loaded between the imports)
"""Workers of jobs on Dramatiq: threads of one process.

    manage.py worker jobs --backend dramatiq
    DJANGO_SETTINGS_MODULE=jobplatform.settings dramatiq apps.jobs.backends.dramatiq_worker --processes 2 --threads 4

Importing this module declares the queues and the actors, which is what Dramatiq's own command line wants.
"""

from __future__ import annotations

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
from django.db import close_old_connections

from apps.core import readiness
from apps.jobs import queues, runner
from apps.jobs.backends.base import BANDS
from apps.jobs.backends.dramatiq import actor_name, own_broker
from apps.jobs.backends.lanes import lanes

STOP_MS = 20_000
"""How long the jobs of a worker that is told to stop may go on; what is cut off is made again, or fails, when its lease lapses."""

broker = own_broker()
dramatiq.set_broker(broker)


def run(job_id: str, attempt: int) -> None:
    close_old_connections()
    try:
        runner.run(job_id, attempt, worker=f"dramatiq:{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}")
    finally:
        close_old_connections()


for order, band in enumerate(BANDS):
    dramatiq.actor(run, actor_name=actor_name(band), priority=order, broker=broker)
for queue in lanes(queues.known()):
    broker.declare_queue(queue)


def serve(queues: Sequence[str], *, processes: int = 1) -> None:
    """Work until told to stop (SIGTERM or Ctrl-C): one thread in each of so many processes, which are replaced when they die."""
    children: dict[int, float] = {}
    stop = threading.Event()

    def tell(number: int, _frame: object) -> None:
        stop.set()
        for pid in children:
            os.kill(pid, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, tell)
    while children or not stop.is_set():
        while len(children) < processes and not stop.is_set():
            connections.close_all()
            if (pid := os.fork()) == 0:
                _work(queues)
            children[pid] = time.monotonic()
        pid, status = os.wait()
        if time.monotonic() - children.pop(pid) < SHORT_LIFE_SECONDS:
            stop.wait(SHORT_LIFE_SECONDS)
        if status:
            _tell_lost(pid, status)
