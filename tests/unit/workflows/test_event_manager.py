"""EventHandler and EventManager: who hears what, and what a fault does."""

from __future__ import annotations

import asyncio
import logging

import pytest

from apps.core.errors import Unavailable
from apps.workflows.eventing import event_manager
from apps.workflows.eventing.event_manager import DEPENDENCY, ERROR, GROUP_STATE_UPDATE, METRICS_UPDATE, Event, EventHandler, EventManager
from apps.workflows.eventing.transports import Message, TransportDown


class Wire:
    """A transport in memory."""

    def __init__(self, name: str = "redis", down: bool = False) -> None:
        self.name, self.down, self.sent, self.closed, self.deliver, self.topics = name, down, [], 0, None, []

    def subscribe(self, topics, deliver, *, on_gap=lambda: None):
        self.topics, self.deliver = list(topics), deliver
        return self

    def wait_in_force(self, timeout_seconds: float) -> bool:
        return True

    def publish(self, topic, payload, *, key, org_id):
        if self.down:
            raise TransportDown()
        self.sent.append((topic, payload, key, org_id))

    def healthy(self) -> bool:
        return not self.down

    def close(self) -> None:
        self.closed += 1

    def comes(self, payload: bytes, topic: str = "t", org_id: str = "") -> None:
        self.deliver(Message(transport=self.name, topic=topic, payload=payload, org_id=org_id))


@pytest.fixture
def counted(monkeypatch):
    found = []
    monkeypatch.setattr(type(event_manager.observe.EVENTS), "inc", lambda self, *labels, by=1: found.append((*labels, by)))
    return found


def test_sync_and_async_handlers_all_hear_an_event():
    heard = []

    async def later(event):
        await asyncio.sleep(0)
        heard.append(("async", event.data["n"]))

    handler = EventHandler()
    handler.register_handler("t", lambda event: heard.append(("sync", event.data["n"])))
    for _ in range(2):
        handler.register_handler("t", later)
    assert handler.handle_event(Event(type="t", data={"n": 1})) == []
    assert asyncio.run(handler.handle_event_async(Event(type="t", data={"n": 2}))) == []
    assert heard == [("sync", 1), ("async", 1), ("sync", 2), ("async", 2)]
    handler.unregister_handler("t", later)
    handler.unregister_handler("t", later)
    handler.unregister_handler("never", later)
    handler.handle_event(Event(type="t", data={"n": 3}))
    assert heard[4:] == [("sync", 3)]


def test_one_that_fails_keeps_nobody_from_the_event(caplog):
    heard = []

    def broken(event):
        raise KeyError("sync")

    async def broken_too(event):
        raise ValueError("async")

    async def fine(event):
        heard.append("async")

    handler = EventHandler()
    for one in (broken, lambda event: heard.append("sync"), broken_too, fine):
        handler.register_handler("t", one)
    failed = handler.handle_event(Event(type="t"))
    assert [type(error) for error in failed] == [KeyError, ValueError]
    assert heard == ["sync", "async"]
    assert [record.getMessage() for record in caplog.records] == ["event.handler_failed"] * 2


def test_an_async_handler_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(event_manager, "ASYNC_SECONDS", 0.01)

    async def stuck(event):
        await asyncio.Event().wait()

    handler = EventHandler()
    handler.register_handler("t", stuck)
    assert [type(error) for error in handler.handle_event(Event(type="t"))] == [TimeoutError]


def test_the_default_handlers_count_log_and_ask_for_another_look(counted, caplog):
    looks = []
    handler = EventHandler(look=lambda session_key, paths: looks.append((session_key, list(paths))))
    caplog.set_level(logging.INFO)
    handler.handle_event(Event(type=METRICS_UPDATE, data={"outcome": "handled", "count": 3}))
    handler.handle_event(Event(type=METRICS_UPDATE, data={"outcome": "whatever I like", "count": True}))
    handler.handle_event(Event(type=ERROR, data={"session_id": "s1", "error": "boom", "secret": "x"}))
    handler.handle_event(Event(type=DEPENDENCY, data={"session_key": "acme/s1", "path": "main.a"}))
    handler.handle_event(Event(type=GROUP_STATE_UPDATE, data={"session_key": "acme/s1", "status": "completed"}))
    handler.handle_event(Event(type=DEPENDENCY, data={"session_key": "umbra/s1"}, transport="redis"))
    assert counted == [("none", "handled", 3)]
    assert looks == [("acme/s1", ["main.a"]), ("acme/s1", [])]
    assert [record.getMessage() for record in caplog.records] == ["event.error", "session.moved"]
    assert not hasattr(caplog.records[0], "secret")


def test_events_of_every_transport_are_forwarded_to_who_subscribed(counted):
    wires = [Wire("redis"), Wire("nats")]
    manager = EventManager(wires)
    heard = []
    manager.subscribe("t", heard.append)
    manager.start()
    manager.start()
    assert [wire.topics for wire in wires] == [["t"], ["t"]]
    with pytest.raises(RuntimeError):
        manager.subscribe("late", heard.append)
    wires[0].comes(b'{"n": 1}')
    wires[1].comes(b'{"n": 2}', org_id="acme")
    assert [(event.type, event.data, event.transport, event.org_id) for event in heard] == [
        ("t", {"n": 1}, "redis", ""), ("t", {"n": 2}, "nats", "acme"),
    ]  # fmt: skip
    assert counted == [("redis", "handled", 1), ("nats", "handled", 1)]
    manager.stop()
    assert all(wire.closed for wire in wires)


@pytest.mark.parametrize("payload", [b"", b"not json", b"[]", b"7", b"\xff\xfe", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_what_is_no_event_is_dropped_and_counted(counted, payload):
    wire, heard = Wire(), []
    manager = EventManager([wire])
    manager.subscribe("t", heard.append)
    manager.start()
    wire.comes(payload)
    assert (heard, counted) == ([], [("redis", "malformed", 1)])


def test_an_event_comes_again_only_when_something_was_away(counted):
    wire = Wire()
    manager = EventManager([wire])
    faults = [Unavailable(), KeyError("a bug")]

    def handler(event):
        if faults:
            raise faults.pop(0)

    manager.subscribe("t", handler)
    manager.start()
    with pytest.raises(Unavailable):
        wire.comes(b"{}")
    wire.comes(b"{}")
    wire.comes(b"{}")
    assert counted == [("redis", "failed", 1), ("redis", "handled", 1)]


def test_what_is_told_goes_to_all_that_are_there(counted):
    wires = [Wire("redis", down=True), Wire("kafka")]
    manager = EventManager(wires)
    assert manager.forward("results", {"a": 1}, key="s1", org_id="acme") == ["kafka"]
    assert wires[1].sent == [("results", b'{"a":1}', "s1", "acme")]
    assert manager.healthy() == {"redis": False, "kafka": True}
    assert counted == [("redis", "lost", 1), ("kafka", "forwarded", 1)]
