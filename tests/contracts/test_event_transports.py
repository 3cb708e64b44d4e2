"""What every transport of events promises: on a real Valkey, a real NATS server and librdkafka's mock cluster."""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from apps.core import redis as redis_door
from apps.core.errors import Unavailable
from apps.messaging import connection
from apps.workflows.eventing.transports import Message, Transport
from tests import services
from tests.kafka import kafka_server

PATIENCE = 20.0


@dataclass
class Line:
    """A transport, its broker, and how the broker goes away and comes back."""

    transport: Transport
    leave: Callable[[], None]
    come_back: Callable[[], None]
    heard: queue.Queue[Message] = field(default_factory=queue.Queue)

    def next(self) -> Message:
        return self.heard.get(timeout=PATIENCE)


@pytest.fixture(params=["redis", "nats", "kafka"])
def line(request, settings, tmp_path) -> Iterator[Line]:
    made = {"redis": _redis, "nats": _nats, "kafka": _kafka}[request.param](settings, tmp_path)
    server, transport, leave, come_back = made
    yield Line(transport, leave, come_back)
    transport.close()
    server.kill()
    redis_door.reset()
    connection.reset()


def _redis(settings, tmp_path):
    from apps.workflows.eventing.transports.redis import RedisTransport

    server = services.valkey_server(tmp_path)
    server.start()
    settings.REDIS_URL = f"redis://127.0.0.1:{server.port}/0"
    redis_door.reset()
    return server, RedisTransport(), server.kill, server.start


def _nats(settings, tmp_path):
    from apps.workflows.eventing.transports.nats import NatsTransport

    server = services.nats_server(tmp_path)
    server.start()
    settings.NATS_URL = f"nats://127.0.0.1:{server.port}"
    connection.reset()
    assert connection.wire().wait_up(PATIENCE)
    return server, NatsTransport(), server.kill, server.start


def _kafka(settings, tmp_path):
    server = kafka_server()
    server.start()
    from apps.workflows.eventing.transports.kafka import KafkaTransport

    options = {"reconnect.backoff.max.ms": "200", "socket.timeout.ms": "2000", "group.protocol": "consumer"}
    transport = KafkaTransport(server.ready_line.split()[-1], group="g", prefix="", options=options)
    # A mock cluster that is killed forgets everything, and its port: it is frozen and thawed instead.
    freeze, thaw = (lambda: server.process.send_signal(signal.SIGSTOP)), (lambda: server.process.send_signal(signal.SIGCONT))
    # Topics of a real cluster are there before anybody reads; of the mock they appear with the first message.
    for topic in ("actions", "other"):
        transport.publish(topic, b"first", key="k", org_id="acme")
    assert transport._producing().flush(PATIENCE) == 0
    return server, transport, freeze, thaw


def test_messages_arrive_on_their_topic_in_order_and_one_that_cannot_be_worked_on_yet_comes_again(line):
    away = [2]

    def deliver(message: Message) -> None:
        if message.payload == b"2" and away[0]:
            away[0] -= 1
            raise Unavailable()
        line.heard.put(message)

    subscription = line.transport.subscribe(["actions", "other"], deliver)
    assert subscription.wait_in_force(PATIENCE)
    for number in range(5):
        line.transport.publish("actions", str(number).encode(), key="k", org_id="acme")
    line.transport.publish("nobody-listens", b"x", key="k", org_id="acme")
    line.transport.publish("other", b"last", key="k", org_id="acme")
    heard = [line.next() for _ in range(8 if line.transport.name == "kafka" else 6)]
    actions = [message.payload for message in heard if message.topic == "actions" and message.payload != b"first"]
    assert actions == [b"0", b"1", b"2", b"3", b"4"]
    assert [message.payload for message in heard if message.topic == "other"][-1] == b"last"
    assert {message.transport for message in heard} == {line.transport.name}
    # Only NATS says on its own whose message it is.
    assert {message.org_id for message in heard} == ({"acme"} if line.transport.name == "nats" else {""})
    assert away == [0]
    assert line.transport.healthy()


def test_a_broker_that_comes_back_is_found_again_and_after_closing_nothing_comes(line):
    gaps: queue.Queue[bool] = queue.Queue()
    subscription = line.transport.subscribe(["actions"], line.heard.put, on_gap=lambda: gaps.put(True))
    assert subscription.wait_in_force(PATIENCE)
    line.transport.publish("actions", b"before", key="k", org_id="acme")
    while line.next().payload != b"before":
        pass
    line.leave()
    try:
        line.transport.publish("actions", b"meanwhile", key="k", org_id="acme")
    except Unavailable:
        assert line.transport.name != "kafka"
    finally:
        line.come_back()
    if line.transport.name == "kafka":
        # Kept by the producer until the broker is there again.
        assert line.next().payload == b"meanwhile"
    else:
        assert gaps.get(timeout=PATIENCE)
        _arrives(line, b"after")
    subscription.close()
    subscription.close()
    while not line.heard.empty():
        line.heard.get_nowait()
    line.transport.publish("actions", b"too late", key="k", org_id="acme")
    with pytest.raises(queue.Empty):
        line.heard.get(timeout=0.3)


def test_what_a_listener_had_not_done_when_it_ended_comes_to_the_next(settings, tmp_path):
    """Kafka only: the others lose what nobody listens to."""
    server, transport, _, _ = _kafka(settings, tmp_path)
    seen, heard = queue.Queue(), queue.Queue()

    def never(message: Message) -> None:
        seen.put(message)
        raise Unavailable()

    first = transport.subscribe(["actions"], never)
    assert seen.get(timeout=PATIENCE).payload == b"first"
    first.close()
    second = transport.subscribe(["actions"], heard.put)
    assert heard.get(timeout=PATIENCE).payload == b"first"
    second.close()
    third = transport.subscribe(["actions"], heard.put)
    assert third.wait_in_force(PATIENCE)
    transport.publish("actions", b"new", key="k", org_id="acme")
    assert heard.get(timeout=PATIENCE).payload == b"new"  # what was done does not come again
    transport.close()
    server.kill()


def test_the_first_event_of_a_process_waits_for_its_connection(nats):
    from apps.workflows.eventing.transports.nats import NatsTransport, subject

    heard: queue.Queue = queue.Queue()
    connection.wire().wait_up(PATIENCE)
    other = connection.Wire(nats, name="other", options=connection.platform_credentials().options())
    other.wait_up(PATIENCE)
    other.subscribe(subject("acme", "t"), lambda _, payload: heard.put(payload))
    connection.reset()
    NatsTransport().publish("t", b"first", key="k", org_id="acme")
    assert heard.get(timeout=PATIENCE) == b"first"
    other.close()


def _arrives(line: Line, payload: bytes) -> None:
    """Published until it does."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            line.transport.publish("actions", payload, key="k", org_id="acme")
            if line.heard.get(timeout=0.2).payload == payload:
                return
        except (Unavailable, queue.Empty):
            continue
    pytest.fail("it never arrived")
