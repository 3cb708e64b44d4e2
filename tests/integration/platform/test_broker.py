"""What comes from Celery's broker is judged before anything is made of it."""

from __future__ import annotations

import pytest

from apps.core import observe
from jobplatform.broker import Broker, Judged
from jobplatform.celery import app
from tests.hostile_messages import hostile, message

QUEUE = "upkeep"
PREFIX = app.conf.broker_transport_options["global_keyprefix"]
KINDS = {(reason, name): item for reason, items in hostile(QUEUE).items() for name, item in items.items()}


class Door:
    """A worker's way to its messages, up to where Celery would take them over."""

    def __init__(self, url: str) -> None:
        app.loader.import_default_modules()
        self.connection = Broker.Connection(url, transport_options=app.conf.broker_transport_options)
        self.taken: list[str] = []
        channel = self.connection.channel()
        self.consumer = Judged(channel, queues=[app.amqp.queues[QUEUE]], accept=["json"], on_message=self._take)
        self.consumer.consume()

    def _take(self, message) -> None:
        eta = message.headers["eta"], message.headers["expires"]
        if any(eta):
            raise ValueError(eta)  # as Celery would
        self.taken.append(message.headers["id"])
        message.ack()

    def read_until(self, id_: str) -> None:
        while id_ not in self.taken:
            self.connection.drain_events(timeout=30)


@pytest.fixture
def door(redis, settings):
    opened = Door(settings.REDIS_URL)
    yield opened
    opened.connection.close()


@pytest.fixture
def refused(monkeypatch):
    counted: list[str] = []
    monkeypatch.setattr(observe.Counter, "inc", lambda metric, *labels, by=1: counted.append((metric.name, *labels)))
    return counted


def test_what_is_no_message_of_ours_is_dropped_and_counted_and_the_next_one_is_read(door, redis, refused):
    for item in KINDS.values():
        redis.lpush(f"{PREFIX}{QUEUE}", item)
    redis.lpush(f"{PREFIX}{QUEUE}", message(QUEUE, headers={"id": "ours"}))
    door.read_until("ours")
    assert door.taken == ["ours"]
    assert refused == [("jobplatform_messages_refused_total", reason) for reason, _ in KINDS]
    assert redis.llen(f"{PREFIX}{QUEUE}") == redis.hlen(f"{PREFIX}unacked") == 0


def test_platforms_that_share_a_redis_do_not_take_each_others_messages(redis, settings):
    options = {**app.conf.broker_transport_options, "global_keyprefix": "other:broker:"}
    with Broker.Connection(settings.REDIS_URL, transport_options=options) as other:
        other.SimpleQueue(QUEUE).put({"to": "another platform"})
        assert other.default_channel._has_queue(QUEUE)
    with Broker.Connection(settings.REDIS_URL, transport_options=app.conf.broker_transport_options) as ours:
        assert not ours.default_channel._has_queue(QUEUE)
    assert {key.partition(":broker:")[0] for key in redis.scan_iter()} == {"other"}
