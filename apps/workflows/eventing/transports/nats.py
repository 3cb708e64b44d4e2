"""Events on core NATS, on the connection that the process has anyway. The subject carries the org.

Copies of the listener form a queue group: a message goes to one of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from apps.messaging import subjects
from apps.messaging.connection import Subscription, wire
from apps.workflows.eventing.transports import NATS, Deliver, Message, TransportDown
from apps.workflows.eventing.transports.pump import Pump

log = logging.getLogger(__name__)

ROOT = "sessions"
GROUP = "sessions"
UP_SECONDS = 2.0


def subject(org_id: str, topic: str) -> str:
    return f"{ROOT}.{subjects.encode(org_id)}.{subjects.encode(topic)}"


class _Listening:
    def __init__(self, topics: Sequence[str], deliver: Deliver, on_gap: Callable[[], None]) -> None:
        self._pump = Pump(NATS, deliver)
        self._subscriptions: list[Subscription] = [
            wire().subscribe(f"{ROOT}.*.{subjects.encode(topic)}", self._heard, queue=GROUP, on_gap=on_gap) for topic in topics
        ]

    def wait_in_force(self, timeout_seconds: float) -> bool:
        return wire().wait_up(timeout_seconds)

    def close(self) -> None:
        while self._subscriptions:
            self._subscriptions.pop().close()
        self._pump.close()

    def _heard(self, name: str, payload: bytes) -> None:
        """On the wire's thread: must not block."""
        try:
            _, org, topic = name.split(".")
            message = Message(transport=NATS, topic=subjects.decode(topic), payload=payload, org_id=subjects.decode(org))
        except ValueError:
            log.warning("event.malformed", extra={"transport": NATS, "subject": name[:200]})
            return
        self._pump.offer(message)


class NatsTransport:
    name = NATS

    def __init__(self) -> None:
        self._open: list[_Listening] = []

    def subscribe(self, topics: Sequence[str], deliver: Deliver, *, on_gap: Callable[[], None] = lambda: None) -> _Listening:
        listening = _Listening(topics, deliver, on_gap)
        self._open.append(listening)
        return listening

    def publish(self, topic: str, payload: bytes, *, key: str, org_id: str) -> None:
        # The first event of a process may be what makes its connection.
        if not wire().healthy() and not wire().wait_up(UP_SECONDS):
            raise TransportDown(transport=NATS)
        wire().publish([(subject(org_id, topic), payload)])

    def healthy(self) -> bool:
        return wire().healthy()

    def close(self) -> None:
        """The connection is the process's own and stays."""
        while self._open:
            self._open.pop().close()
