"""`manage.py worker QUEUE`: a Celery worker of one of the platform's queues, or of queues of jobs.

Celery's own command line would load Flower, a shell and every other command first, which takes longer than the platform itself.
"""

from __future__ import annotations

import socket
import sys

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobplatform.queues import QUEUES

CHILD_KILOBYTES = 768 * 1024


class Command(BaseCommand):
    help = "Work off queues until stopped (SIGTERM or Ctrl-C). Run as many copies as you like."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        ours = ", ".join(queue.name for queue in QUEUES)
        parser.add_argument("queue", nargs="+", help=f"one of {ours}; or jobs (all of them), or queues of jobs such as fast, embeddings")
        parser.add_argument("--concurrency", type=int, default=0, help="queues of jobs: how many at once (default: $JOBS_CONCURRENCY)")
        parser.add_argument("--backend", choices=("celery", "rq", "dramatiq"), help="of queues of jobs (default: $JOBS_BACKEND)")
        parser.add_argument("--number", type=int, default=0, help="tells copies on one machine apart")
        parser.add_argument("--events", action="store_true", help="send the events that Flower shows")

    def handle(self, *, queue: list[str], number: int, events: bool, concurrency: int, backend: str | None, **_options: object) -> None:
        row = next((each for each in QUEUES if [each.name] == queue), None)
        name = f"{'+'.join(queue)}-{number}" if number else "+".join(queue)
        if row and not row.jobs:
            self._celery(name, list(row.names), events=events, pool_cls=row.pool, concurrency=1)
            return
        names = self._job_queues([row.jobs] if row else queue)
        concurrency = concurrency or settings.JOBS_CONCURRENCY
        match backend or settings.JOBS_BACKEND:
            case "rq":
                from apps.jobs.backends import rq_worker

                rq_worker.serve(names, processes=concurrency)
            case "dramatiq":
                from apps.jobs.backends import dramatiq_worker

                dramatiq_worker.serve(names, processes=concurrency)
            case _:
                # A child that has grown by what jobs left in it is replaced before its next one.
                limits = {"max_memory_per_child": CHILD_KILOBYTES}
                self._celery(name, names, events=events, pool_cls="prefork", concurrency=concurrency, **limits)

    def _celery(self, name: str, queues: list[str], *, events: bool, **pool: object) -> None:
        from jobplatform.celery import app

        worker = app.Worker(
            hostname=f"{name}@{socket.gethostname()}",
            queues=queues,
            task_events=events,
            **pool,
            # Workers that talk to each other at start: ours have nothing to say.
            without_gossip=True,
            without_mingle=True,
            loglevel="WARNING",
            quiet=True,
        )
        worker.start()
        sys.exit(worker.exitcode)

    def _job_queues(self, names: list[str]) -> list[str]:
        from apps.jobs.queues import job_queues

        try:
            return [queue.name for queue in job_queues(() if names == ["jobs"] else names)]
        except ValueError as error:
            raise CommandError(str(error)) from None
