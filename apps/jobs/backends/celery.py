"""Jobs on Celery. One task, `jobs.run`, whose message says which job and which attempt; `workers/jobs.py` has the other end.

Messages are put together here and published on a connection that is kept: `.delay()` spends twice as long on what never changes.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

from celery import Celery, current_app
from celery.result import AsyncResult
from django.conf import settings
from kombu.exceptions import ChannelError, OperationalError

from apps.jobs.backends.base import Traits, Wake, band
from jobplatform.queues import Work

log = logging.getLogger(__name__)

AWAY = (OperationalError, ConnectionError, TimeoutError)
REDIS_PRIORITY = {"high": 0, "normal": 3, "low": 6}
"""kombu keeps a Redis list per step and takes from the lowest number first; RabbitMQ from the highest."""
AMQP_PRIORITY = {"high": 9, "normal": 5, "low": 1}
BATCH = 500


class CeleryBackend:
    name = "celery"
    traits = Traits(
        priority="three bands: kombu's priority steps on Redis, message priority on RabbitMQ",
        hard_kill="the worker's parent kills the child after the grace",
        worker_death="the worker's parent, at once; without it the lease",
        told_to_stop="waits, then tells the child, then kills it",
        concurrency="processes (prefork)",
        wire="JSON, Celery's protocol 2",
        results="the row, mirrored in django-celery-results",
    )

    def __init__(self, app: Celery | None = None) -> None:
        self._app = app

    @property
    def app(self) -> Celery:
        return self._app or current_app._get_current_object()

    def send(self, wakes: Sequence[Wake]) -> bool:
        app = self.app
        priorities = AMQP_PRIORITY if app.conf.broker_url.startswith(("amqp", "pyamqp")) else REDIS_PRIORITY
        try:
            with app.producer_pool.acquire(block=True) as producer:
                if len(wakes) == 1:
                    _publish(app, producer, wakes[0], priorities)
                else:
                    with producer.batch(BATCH):
                        for wake in wakes:
                            _publish(app, producer, wake, priorities)
        except AWAY as error:
            log.warning("jobs.not_sent", extra={"jobs": len(wakes), "error": str(error)})
            return False
        return True

    def depth(self, queue: str) -> int | None:
        try:
            with self.app.producer_pool.acquire(block=True) as producer:
                return producer.channel.queue_declare(queue, passive=True).message_count
        except ChannelError:
            return 0  # nobody has ever sent or listened there
        except AWAY as error:
            log.warning("jobs.depth_unknown", extra={"queue": queue, "error": str(error)})
            return None

    def interrupt(self, job_id: str, worker: str) -> None:
        """Every worker is asked to kill the child that runs it; those that do not, do nothing."""
        try:
            self.app.control.broadcast(Work.KILL_JOB, arguments={"job_id": job_id})
        except AWAY as error:
            log.warning("jobs.not_interrupted", extra={"job": job_id, "error": str(error)})

    def result(self, job_id: str) -> AsyncResult:
        """Celery's own view of an ended job, from its mirror; PENDING before."""
        # Not at the top: its models exist only once Django has loaded the apps.
        from django_celery_results.backends import DatabaseBackend

        return AsyncResult(job_id, backend=DatabaseBackend(app=self.app), app=self.app)

    def close(self) -> None:
        self.app.pool.force_close_all()


def message_id(job_id: str, attempt: int) -> str:
    """What Celery and Flower know a message by. A later attempt is another message."""
    return job_id if attempt == 1 else f"{job_id}.{attempt}"


def _publish(app: Celery, producer: Any, wake: Wake, priorities: dict[str, int]) -> None:
    task_id = message_id(wake.job_id, wake.attempt)
    # Past the job's own alarm and the heart's verdict; only what holds the interpreter itself lives to see it.
    hard = wake.timeout_s + 2 * settings.JOBS_GRACE_S + 1 if wake.timeout_s else None
    arguments = {"job_id": wake.job_id, "attempt": wake.attempt}
    headers = {
        "lang": "py", "task": Work.RUN_JOB, "id": task_id, "shadow": None, "eta": None, "expires": None, "group": None, "group_index": None,
        "retries": 0, "timelimit": [hard, None], "root_id": task_id, "parent_id": None, "argsrepr": "()", "kwargsrepr": repr(arguments),
        "origin": _ORIGIN, "ignore_result": True, "replaced_task_nesting": 0, "stamped_headers": None, "stamps": {},
    }  # fmt: skip
    producer.publish(
        ((), arguments, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}),
        serializer="json",
        exchange="",
        routing_key=wake.queue,
        declare=[app.amqp.queues[wake.queue]],
        headers=headers,
        correlation_id=task_id,
        priority=priorities[band(wake.priority)],
        delivery_mode=2,
        retry=False,
    )


_ORIGIN = f"{os.getpid()}@{socket.gethostname()}"
