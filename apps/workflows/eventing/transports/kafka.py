"""Events on Kafka, with the client of the ecosystem (confluent-kafka, librdkafka). An optional extra:

    pip install confluent-kafka==2.16.1

An event is done when it was worked on: its offset is stored only then, and committed a second later and on closing. A
listener that dies in between leaves its last events to the next one, again. librdkafka finds lost brokers again by itself; a
consumer that cannot go on is made anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import close_old_connections

from apps.core import observe
from apps.workflows.eventing.transports import KAFKA, Deliver, Message, TransportDown
from apps.workflows.eventing.transports.pump import FIRST_PAUSE, LONGEST_PAUSE, deliver_once

try:
    import confluent_kafka as kafka
except ImportError as missing:
    raise ImportError("EVENT_TRANSPORTS names kafka: pip install confluent-kafka==2.16.1") from missing

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
CLOSE_SECONDS = 5.0
AWAY_SECONDS = 1.0
_QUIET = frozenset({kafka.KafkaError.UNKNOWN_TOPIC_OR_PART, kafka.KafkaError._PARTITION_EOF})
"""A topic that is not there yet appears when somebody writes to it."""


class _Listening:
    def __init__(
        self, config: Mapping[str, Any], topics: Mapping[str, str], deliver: Deliver, on_gap: Callable[[], None], stop_after: float
    ) -> None:
        """`topics`: Kafka's name → ours."""
        self._config, self._topics, self._deliver, self._on_gap = config, topics, deliver, on_gap
        self.in_force = threading.Event()
        self._stopping = threading.Event()
        self._stop_after = stop_after
        self._thread = threading.Thread(target=self._run, name="events-kafka", daemon=True)
        self._thread.start()

    def wait_in_force(self, timeout_seconds: float) -> bool:
        return self.in_force.wait(timeout_seconds)

    def close(self) -> None:
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(self._stop_after)

    def _run(self) -> None:
        while not self._stopping.is_set():
            consumer = kafka.Consumer(dict(self._config), logger=log)
            try:
                consumer.subscribe(list(self._topics), on_assign=self._assigned)
                self._consume(consumer)
            except kafka.KafkaException as error:
                log.warning("kafka.consumer_lost", extra={"error": str(error)[:200]})
                self._stopping.wait(AWAY_SECONDS)
                self._on_gap()
            finally:
                consumer.close()  # commits what was stored, and leaves the group at once
                close_old_connections()

    def _assigned(self, _consumer: Any, _partitions: Any) -> None:
        self.in_force.set()

    def _consume(self, consumer: kafka.Consumer) -> None:
        """Until stopped. Raises KafkaException when this consumer cannot go on."""
        while not self._stopping.is_set():
            found = consumer.poll(POLL_SECONDS)
            if found is None:
                continue
            error = found.error()
            if error is None:
                self._one(consumer, found)
            elif error.fatal():
                raise kafka.KafkaException(error)
            elif error.code() not in _QUIET:
                log.warning("kafka.error", extra={"error": str(error)[:200]})

    def _one(self, consumer: kafka.Consumer, found: kafka.Message) -> None:
        message = Message(transport=KAFKA, topic=self._topics[found.topic()], payload=found.value() or b"")
        pause = FIRST_PAUSE
        # Paused and polled, the group keeps us while we wait; what is paused brings no further message.
        assigned: list[Any] = []
        while not deliver_once(self._deliver, message):
            if not assigned:
                assigned = consumer.assignment()
                consumer.pause(assigned)
            consumer.poll(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)
            if self._stopping.is_set():
                return  # not stored: the next one to read this partition gets it
        if assigned:
            consumer.resume(consumer.assignment())
        try:
            consumer.store_offsets(found)
        except kafka.KafkaException as error:
            # The partition was given to somebody else meanwhile, who gets the event again.
            log.info("kafka.offset_not_ours", extra={"error": str(error)[:200]})


class KafkaTransport:
    name = KAFKA

    def __init__(self, servers: str, *, group: str = "", prefix: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        self._prefix = settings.KAFKA_TOPIC_PREFIX if prefix is None else prefix
        given = settings.KAFKA_OPTIONS if options is None else options
        self._common = {"bootstrap.servers": servers, "client.id": "jobplatform", **given}
        self._group = group or settings.KAFKA_GROUP
        self._open: list[_Listening] = []
        self._lock = threading.Lock()
        self._producer: kafka.Producer | None = None

    def subscribe(self, topics: Sequence[str], deliver: Deliver, *, on_gap: Callable[[], None] = lambda: None) -> _Listening:
        config = {
            **self._common, "group.id": self._group, "auto.offset.reset": "earliest", "enable.auto.offset.store": False,
            "enable.auto.commit": True, "auto.commit.interval.ms": 1000, "allow.auto.create.topics": True,
        }  # fmt: skip
        listening = _Listening(config, {self._prefix + topic: topic for topic in topics}, deliver, on_gap, CLOSE_SECONDS + LONGEST_PAUSE)
        self._open.append(listening)
        return listening

    def publish(self, topic: str, payload: bytes, *, key: str, org_id: str) -> None:
        """Handed to librdkafka, which tries for five minutes; what it gives up is counted and logged."""
        producer = self._producing()
        try:
            producer.produce(self._prefix + topic, payload, key=f"{org_id}/{key}", on_delivery=_delivered)
        except (BufferError, kafka.KafkaException) as error:
            producer.poll(0)
            raise TransportDown(transport=KAFKA, problem=str(error)[:200]) from None
        producer.poll(0)

    def healthy(self) -> bool:
        try:
            return bool(self._producing().list_topics(timeout=2).brokers)
        except kafka.KafkaException:
            return False

    def close(self) -> None:
        while self._open:
            self._open.pop().close()
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None and (left := producer.flush(CLOSE_SECONDS)):
            observe.EVENTS.inc(KAFKA, "lost", by=left)
            log.warning("kafka.not_sent", extra={"events": left})

    def _producing(self) -> kafka.Producer:
        with self._lock:
            if self._producer is None:
                self._producer = kafka.Producer({**self._common, "linger.ms": 5, "enable.idempotence": True}, logger=log)
            return self._producer


def _delivered(error: Any, _message: Any) -> None:
    if error is not None:
        observe.EVENTS.inc(KAFKA, "lost")
        log.warning("kafka.not_sent", extra={"events": 1, "error": str(error)[:200]})
