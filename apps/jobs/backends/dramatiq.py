"""Jobs on Dramatiq. A message carries the id of one of our jobs and the attempt, as JSON; `dramatiq_worker` takes them off.

None of Dramatiq's middleware is used: retries, delays, time limits and results are the row's. A broker of yours may have any.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from dramatiq import Broker, Message
from dramatiq.brokers.redis import RedisBroker
from dramatiq.encoder import JSONEncoder
from dramatiq.errors import BrokerConnectionError
from dramatiq.message import get_encoder

from apps.core import redis
from apps.jobs.backends.base import Traits, Wake, band
from apps.jobs.backends.lanes import SUFFIXES, lane, lanes


def own_broker() -> RedisBroker:
    """On the platform's own Redis."""
    return RedisBroker(client=redis.raw(), namespace=f"{settings.REDIS_PREFIX}:dramatiq", middleware=[])


def actor_name(band: str) -> str:
    """An actor for each lane: Dramatiq orders the messages that a worker holds by their actors."""
    return f"jobs.run{SUFFIXES[band]}"


class DramatiqBackend:
    name = "dramatiq"
    traits = Traits(
        priority="three lanes a queue (high, normal, low), asked for work side by side; first come, first served in each",
        hard_kill="the job's own process, when its grace is over; then the kernel; with threads nobody",
        worker_death="its parent, at once; upkeep, by the lease, when both die and with Dramatiq's own command line",
        told_to_stop="waits, then raises it in the job's thread; its parent kills the process; with threads nobody",
        concurrency="processes; with Dramatiq's own command line threads too",
        wire="JSON, in Dramatiq's own keys below `<REDIS_PREFIX>:dramatiq:`",
        results="the row; Dramatiq keeps none",
        extra="dramatiq",
    )

    def __init__(self, broker: Broker | None = None) -> None:
        """On a broker of yours, or one on the platform's own Redis."""
        if type(get_encoder()) is not JSONEncoder:
            raise RuntimeError("jobs on Dramatiq travel as JSON, but dramatiq.set_encoder has set another encoder")
        self.broker = broker or own_broker()

    def send(self, wakes: Sequence[Wake]) -> bool:
        try:
            for wake in wakes:
                queue = lane(wake.queue, wake.priority)
                self.broker.declare_queue(queue)
                limit = wake.timeout_s + 2 * settings.JOBS_GRACE_S if wake.timeout_s else None
                self.broker.enqueue(Message(queue, actor_name(band(wake.priority)), (wake.job_id, wake.attempt, limit), {}, {}))
        except (BrokerConnectionError, *redis.RedisDown) as error:
            redis.log_away(error)
            return False
        return True

    def depth(self, queue: str) -> int | None:
        if not isinstance(self.broker, RedisBroker):
            return None
        try:
            return sum(self.broker.client.llen(f"{self.broker.namespace}:{name}") for name in lanes([queue]))
        except redis.RedisDown as error:
            redis.log_away(error)
            return None

    def interrupt(self, job_id: str, worker: str) -> None:
        """A thread cannot be ended from outside: its process has heard of the cancel already, and raises it in the thread."""

    def close(self) -> None:
        """The connections are the process's."""
