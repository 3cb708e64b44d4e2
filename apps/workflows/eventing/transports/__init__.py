"""What events travel on: Redis pub/sub, core NATS, Kafka. One port; `EVENT_TRANSPORTS` names those that are used.

|       | topic `t` of org `o` is | who may write there | a message is lost when |
|---|---|---|---|
| redis | channel `<prefix>:events:t` | whoever may use that Redis: it is trusted, the message names its org | nobody listens |
| nats  | subject `sessions.o.t` | whoever may use the platform's account; the message carries an API key of that org | nobody listens |
| kafka | topic `<prefix>t` | whoever may write to it: it is trusted, the message names its org | never, while Kafka keeps it |

Redis hands a message to every listener copy, NATS and Kafka to one of them. So whatever an event asks for must be harmless
when it is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from django.conf import settings

from apps.core.errors import Unavailable

REDIS, NATS, KAFKA = "redis", "nats", "kafka"
NAMES = (REDIS, NATS, KAFKA)


class TransportDown(Unavailable):
    sentence = "The event could not be sent."


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    transport: str
    topic: str
    payload: bytes
    org_id: str = ""
    """As the transport itself says (NATS: the subject); "" where only the message does."""


Deliver = Callable[[Message], None]
"""Runs on a thread of the subscription, one message after the other. Raises Unavailable to be given the message again,
nothing else."""


class Subscription(Protocol):
    def wait_in_force(self, timeout_seconds: float) -> bool:
        """Whether what is published from now on is delivered."""

    def close(self) -> None:
        """No message is delivered after it returns. Twice is harmless."""


class Transport(Protocol):
    name: str

    def subscribe(self, topics: Sequence[str], deliver: Deliver, *, on_gap: Callable[[], None] = lambda: None) -> Subscription:
        """Returns at once; in force as soon as the broker is there. `on_gap`: messages may have been missed."""

    def publish(self, topic: str, payload: bytes, *, key: str, org_id: str) -> None:
        """Events of one key keep their order. Raises TransportDown when it is known not to be sent."""

    def healthy(self) -> bool: ...

    def close(self) -> None:
        """What was published is sent first, when that is possible soon. Twice is harmless."""


def configured() -> list[Transport]:
    """Those that EVENT_TRANSPORTS names, each imported only then."""
    found: list[Transport] = []
    for name in settings.EVENT_TRANSPORTS:
        if name == REDIS:
            from apps.workflows.eventing.transports.redis import RedisTransport

            found.append(RedisTransport())
        elif name == NATS:
            from apps.workflows.eventing.transports.nats import NatsTransport

            found.append(NatsTransport())
        elif name == KAFKA:
            from apps.workflows.eventing.transports.kafka import KafkaTransport

            found.append(KafkaTransport(settings.KAFKA_BOOTSTRAP_SERVERS))
        else:
            raise ValueError(f"EVENT_TRANSPORTS takes {', '.join(NAMES)}, not {name}")
    return found
