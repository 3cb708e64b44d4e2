"""`manage.py worker QUEUE`: a Celery worker of one queue.

Celery's own command line would load Flower, a shell and every other command first, which takes longer than the platform itself.
"""

from __future__ import annotations

import socket
import sys

from django.core.management.base import BaseCommand, CommandParser

from jobplatform.queues import QUEUES


class Command(BaseCommand):
    help = "Work off one queue until stopped (SIGTERM or Ctrl-C). Run as many copies as you like."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("queue", choices=[queue.name for queue in QUEUES])
        parser.add_argument("--number", type=int, default=0, help="tells copies on one machine apart")
        parser.add_argument("--events", action="store_true", help="send the events that Flower shows")

    def handle(self, *, queue: str, number: int, events: bool, **_options: object) -> None:
        from jobplatform.celery import app

        row = next(each for each in QUEUES if each.name == queue)
        name = f"{queue}-{number}" if number else queue
        worker = app.Worker(
            hostname=f"{name}@{socket.gethostname()}",
            queues=list(row.names),
            pool_cls=row.pool,
            concurrency=1,
            task_events=events,
            # Workers that talk to each other at start: ours have nothing to say.
            without_gossip=True,
            without_mingle=True,
            loglevel="WARNING",
            quiet=True,
        )
        worker.start()
        sys.exit(worker.exitcode)
