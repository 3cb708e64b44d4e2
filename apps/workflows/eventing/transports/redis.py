"""Events on Redis pub/sub."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from apps.core import observe, redis
from apps.workflows.eventing.transports import REDIS, Deliver, Message, TransportDown
from apps.workflows.eventing.transports.pump import Pump

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
AWAY_SECONDS = 0.5


def channel(topic: str) -> str:
    return redis.key("events", topic)


class _Listening:
    def __init__(self, topics: Sequence[str], deliver: Deliver, on_gap: Callable[[], None]) -> None:
        self._topics = {channel(topic): topic for topic in topics}
        self._on_gap = on_gap
        self._pump = Pump(REDIS, deliver)
        self._confirmed: set[str] = set()
        self.in_force = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events-redis-ear", daemon=True)
        self._thread.start()

    def wait_in_force(self, timeout_seconds: float) -> bool:
        return self.in_force.wait(timeout_seconds)

    def close(self) -> None:
        self._pump.stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)
        self._pump.close()

    def _run(self) -> None:
        stopping = self._pump.stopping
        while not stopping.is_set():
            try:
                with redis.client().pubsub() as heard:
                    heard.subscribe(*self._topics)
                    while not stopping.is_set():
                        self._hear(heard.get_message(timeout=POLL_SECONDS))
            except redis.RedisDown as error:
                redis.log_away(error)
                stopping.wait(AWAY_SECONDS)
            except UnicodeDecodeError:
                # The client decodes, and where it stopped in the answer nobody knows: begin anew.
                observe.EVENTS.inc(REDIS, "malformed")
                log.warning("event.malformed", extra={"transport": REDIS, "error": "not UTF-8"})
            self._confirmed.clear()

    def _hear(self, message: dict | None) -> None:
        if message is None:
            return
        if message["type"] == "subscribe":
            self._subscribed(message["channel"])
        elif message["type"] == "message" and message["channel"] in self._topics:
            payload = message["data"].encode()
            self._pump.offer(Message(transport=REDIS, topic=self._topics[message["channel"]], payload=payload))

    def _subscribed(self, name: str) -> None:
        """A second time: the connection was away, and redis-py has made another."""
        again = name in self._confirmed or self.in_force.is_set()
        self._confirmed.add(name)
        if len(self._confirmed) == len(self._topics):
            self.in_force.set()
            if again:
                self._on_gap()


class RedisTransport:
    name = REDIS

    def __init__(self) -> None:
        self._open: list[_Listening] = []

    def subscribe(self, topics: Sequence[str], deliver: Deliver, *, on_gap: Callable[[], None] = lambda: None) -> _Listening:
        listening = _Listening(topics, deliver, on_gap)
        self._open.append(listening)
        return listening

    def publish(self, topic: str, payload: bytes, *, key: str, org_id: str) -> None:
        try:
            redis.client().publish(channel(topic), payload)
        except redis.RedisDown as error:
            raise TransportDown(transport=REDIS, problem=str(error)) from None

    def healthy(self) -> bool:
        try:
            return bool(redis.client().ping())
        except redis.RedisDown:
            return False

    def close(self) -> None:
        while self._open:
            self._open.pop().close()
