"""Jobs on RQ. An RQ job carries the id of one of ours and the attempt, as JSON, and is deleted when it has run.

What RQ knows of a job is a hint like every message: `rq info` shows it, the row decides. `rq_worker` takes them off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from rq import Queue, defaults
from rq.command import send_command
from rq.exceptions import DeserializationError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import Worker

from apps.core import redis
from apps.jobs.backends.base import Traits, Wake
from apps.jobs.backends.lanes import lane, lanes

CALLS = "apps.jobs.runner.run"
"""What our RQ jobs say they call, for people who look at them. Our workers do not ask."""
FAILED_SECONDS = 24 * 3600
"""How long RQ remembers a message whose horse died. The row remembers for longer."""


class Carrier(Job):
    """An RQ job that can name one of our jobs and nothing else: no function, callback or address in a forged one is used."""

    func = success_callback = failure_callback = stopped_callback = None

    def send_webhooks(self, *_what: Any, **_how: Any) -> None:
        """The end of the row tells whoever wants to know."""

    def wake(self) -> tuple[str, int]:
        """The job's id and attempt. A message that names none is a ValueError."""
        try:
            match self.args:
                case [str(job_id), int(attempt)]:
                    return job_id, attempt
        except DeserializationError:
            pass
        raise ValueError("an RQ job that names none of ours")

    def _execute(self) -> None:
        from apps.jobs import runner

        job_id, attempt = self.wake()
        runner.run(job_id, attempt, worker=f"rq:{self.worker_name}", alone=True)


class RqBackend:
    name = "rq"
    traits = Traits(
        priority="three lanes a queue (high, normal, low); first come, first served in each",
        hard_kill="the job's own process, when its grace is over; then the worker",
        worker_death="the worker, at once, when the process of the job dies; upkeep, by the lease, when the worker does too",
        told_to_stop="waits, then tells the job's own process, then kills it",
        concurrency="a process for each job, forked for it",
        wire="JSON, in RQ's own keys below `<REDIS_PREFIX>:rq:`",
        results="the row; RQ keeps none",
        extra="rq",
    )

    def __init__(self, queue: Queue | None = None) -> None:
        """On the platform's own Redis, or on that of a `queue` of yours."""
        if defaults.RQ_KEY_PREFIX != settings.RQ_KEY_PREFIX:
            # RQ fixes its prefix when it is first imported; a sender and a worker that differ would never meet.
            raise RuntimeError(f"rq was imported before Django's settings were read: set RQ_KEY_PREFIX={settings.RQ_KEY_PREFIX}")
        self._connection = redis.raw() if queue is None else queue.connection

    def send(self, wakes: Sequence[Wake]) -> bool:
        try:
            with self._connection.pipeline() as pipeline:
                for wake in wakes:
                    queue = self._queue(lane(wake.queue, wake.priority))
                    queue.enqueue_job(_message(queue, wake), pipeline=pipeline)
                pipeline.execute()
        except redis.RedisDown as error:
            redis.log_away(error)
            return False
        return True

    def depth(self, queue: str) -> int | None:
        try:
            return sum(self._queue(name).count for name in lanes([queue]))
        except redis.RedisDown as error:
            redis.log_away(error)
            return None

    def interrupt(self, job_id: str, worker: str) -> None:
        """Its worker kills the process of the job."""
        name = worker.removeprefix("rq:")
        try:
            found = Worker.find_by_key(f"{Worker.redis_worker_namespace_prefix}{name}", self._connection, serializer=JSONSerializer)
            for execution in found.get_current_executions() if found else ():
                if execution.job_id.startswith(f"{job_id}-"):
                    send_command(self._connection, name, "stop-job", job_id=execution.job_id)
        except redis.RedisDown as error:
            redis.log_away(error)

    def close(self) -> None:
        """The connections are the process's."""

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self._connection, job_class=Carrier, serializer=JSONSerializer)


def _message(queue: Queue, wake: Wake) -> Job:
    return queue.create_job(
        CALLS,
        args=[wake.job_id, wake.attempt],
        # One for each attempt: the end of one deletes it, and must not take the next one along.
        job_id=f"{wake.job_id}-{wake.attempt}",
        timeout=math.ceil(wake.timeout_s + 2 * settings.JOBS_GRACE_S) if wake.timeout_s else -1,
        result_ttl=0,
        failure_ttl=FAILED_SECONDS,
        description=f"{wake.job_id}, attempt {wake.attempt}",
    )
