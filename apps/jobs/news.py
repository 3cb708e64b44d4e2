"""How others hear of a job at once: a message on Redis that says only which job. Whoever hears it reads the row, so a lost, late or
doubled one delays what is told but cannot falsify it. Without Redis those that wait look again every quarter of a second."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from apps.core import redis

BLIND_SECONDS = 0.25
"""How often one that waits looks at the row while Redis is away."""


def channel(job_id: str) -> str:
    return redis.key("jobs", "news", job_id)


def cancels() -> str:
    """Every process that runs jobs listens here."""
    return redis.key("jobs", "cancels")


def tell(job_ids: Sequence[str]) -> None:
    """Something about these jobs has changed."""
    _publish([(channel(job_id), "") for job_id in job_ids])


def ask_to_stop(job_id: str) -> None:
    _publish([(cancels(), job_id)])


def _publish(messages: Sequence[tuple[str, str]]) -> None:
    try:
        redis.publish(messages)
    except redis.RedisDown as error:
        redis.log_away(error)


class Ear:
    """Hears about one job, from the moment it is made. Read the row after making it, and after each `wait`."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub

    def wait(self, seconds: float) -> bool:
        """True when the row should be read again; False after `seconds` of silence."""
        if self._pubsub is not None:
            with suppress(*redis.RedisDown):
                return self._pubsub.get_message(ignore_subscribe_messages=False, timeout=seconds) is not None
            self._pubsub = None
        threading.Event().wait(min(seconds, BLIND_SECONDS))
        return True


@contextmanager
def listen(job_id: str) -> Iterator[Ear]:
    pubsub = redis.client().pubsub(ignore_subscribe_messages=False)
    try:
        try:
            pubsub.subscribe(channel(job_id))
            pubsub.get_message(timeout=2)  # the server says that it listens; what is told from now on is heard
        except redis.RedisDown:
            yield Ear(None)
        else:
            yield Ear(pubsub)
    finally:
        with suppress(*redis.RedisDown):
            pubsub.close()
