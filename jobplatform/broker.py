"""How we meet Celery's broker: where we look for it, under which keys, and what may come from it.

Whoever may write to the broker may write anything. What is no message of ours is dropped at the door and counted, before anything
is made of it: Celery and kombu expect well-formed ones, and a worker that met another would die of it, as would each that got it next.
A message that passes is still only a hint: it names rows, and the rows decide (decision 036).
"""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from celery.app.amqp import AMQP
from celery.signals import task_rejected
from kombu import Connection, Consumer
from kombu.message import Message
from kombu.transport import TRANSPORT_ALIASES, redis

log = logging.getLogger(__name__)

JSON, UTF8 = "application/json", "utf-8"
EMBEDDED = {"callbacks": list, "errbacks": list, "chain": list, "chord": dict}
"""What the third part of a body may hold, besides nothing."""
ID_MAX = 255


class Refused(Exception):
    """A message that is none of ours. `reason`: a label of the metric."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def drop(reason: str, **about: object) -> None:
    """Say it and count it. What it held is not repeated: it may be anything."""
    from apps.core import observe  # Celery is set up before Django is

    observe.MESSAGES_REFUSED.inc(reason)
    log.warning("message.refused", extra={"reason": reason, **about})


def judge(message: Message) -> None:
    """Raises Refused, and whatever decoding raises. Celery uses what was decoded here."""
    if message.content_type != JSON or str(message.content_encoding).lower() != UTF8:
        raise Refused("content_type")
    headers = message.headers
    name, id_ = headers.get("task"), headers.get("id")
    if not isinstance(name, str) or not isinstance(id_, str) or not 0 < len(id_) <= ID_MAX:
        raise Refused("headers")
    if (task := current_app.tasks.get(name)) is None:
        raise Refused("unknown_task")
    match message.decode():
        case [list() as args, dict() as kwargs, dict() as embedded]:
            pass
        case _:
            raise Refused("body")
    if any(value is not None and not isinstance(value, EMBEDDED.get(key, object)) for key, value in embedded.items()):
        raise Refused("body")
    if takes := getattr(task, "__header__", None):
        try:
            takes(*args, **kwargs)
        except TypeError:
            raise Refused("arguments") from None


class Judged(Consumer):
    """A worker's: looks at each message before Celery does."""

    def _receive_callback(self, message: Message) -> None:
        try:
            judge(message)
        except Refused as refused:
            drop(refused.reason, queue=str(message.delivery_info.get("routing_key", ""))[:100])
        except Exception as error:  # the boundary: whatever a stranger's bytes do to decoders
            drop("body", error=type(error).__name__)
        else:
            self._hand_on(message)
            return
        message.reject()

    def _hand_on(self, message: Message) -> None:
        try:
            super()._receive_callback(message)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            # A header that Celery chokes on. The loss of the broker is an OSError or the driver's own, and rises.
            drop("headers", error=type(error).__name__)
            log.debug("message.choked", exc_info=True)
            if not message.acknowledged:
                message.reject()


@task_rejected.connect
def _rejected_by_celery(**_signal: object) -> None:
    """One with the right form that says nonsense: a time that is none, for example."""
    drop("headers")


class Channel(redis.Channel):
    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, RecursionError) as error:  # not JSON; it is off the list already
            drop("envelope", error=type(error).__name__)
            return True

    def _has_queue(self, queue: str, **_how: Any) -> bool:
        # kombu asks without the prefix.
        with self.conn_or_acquire() as client:
            return bool(client.exists(*(self.global_keyprefix + self._q_for_pri(queue, step) for step in self.priority_steps)))


class Transport(redis.Transport):
    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        """All that comes, from lists and from those who shout to everybody, as parsed JSON."""
        if not _is_envelope(message):
            drop("envelope", queue=str(queue)[:100])
            return
        try:
            super()._deliver(message, queue)
        except ValueError as error:  # a body that is not what its encoding says
            drop("envelope", queue=str(queue)[:100], error=type(error).__name__)


# In kombu's table of names, because connections that wait in its pools are of a class of its own.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))


def _is_envelope(message: Any) -> bool:
    match message:
        case {"body": str(), "headers": dict() as headers, "properties": {"delivery_tag": str(), "delivery_info": dict()}}:
            return not headers.get("compression")  # we compress none, and small ones may grow beyond all bounds
    return False


class Reconnecting(Connection):
    """Workers and beat look for a broker that is away every other second; Celery's own pauses grow to half a minute."""

    def ensure_connection(self, errback=None, max_retries=None, **how):
        pauses = {"interval_start": 0.2, "interval_step": 0.4, "interval_max": 2.0}
        return super().ensure_connection(errback, max_retries, **{**pauses, **how})


class Broker(AMQP):
    Connection = Reconnecting
    Consumer = Judged
