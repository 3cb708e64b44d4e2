"""Sessions by event: who may, what is answered, and what is told at the end. On a real Valkey and a real NATS server."""

from __future__ import annotations

import queue

import orjson
import pytest

from apps.core import events
from apps.core import redis as redis_door
from apps.core.errors import Conflict, Invalid, Missing, Problem, Unavailable
from apps.messaging.connection import wire
from apps.orgs.models import Org
from apps.workflows.eventing import agency_events
from apps.workflows.eventing.agency_events import ACTION_TOPIC, RESULT_MAX, RESULT_TOPIC, AgencyActions
from apps.workflows.eventing.event_manager import Event, EventManager
from apps.workflows.eventing.transports import TransportDown
from apps.workflows.eventing.transports import nats as on_nats
from apps.workflows.eventing.transports import redis as on_redis
from apps.workflows.events import SessionEnded
from apps.workflows.models import Session
from tests.factories import NOON, make_key, make_org

PATIENCE = 10.0
DOCUMENT = {"tasks": [{"key": "a", "agent_class": "noop"}]}


class Sessions:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], dict] = {}
        self.asked: list[tuple] = []
        self.fault: Exception | None = None
        self.answer: dict = {"status": "completed", "final": True, "partial": False, "results": {"a": 1}, "missing": []}

    def create(self, document, principal, *, now):
        if self.fault:
            raise self.fault
        self.asked.append(("create", principal.org_id, principal.role, document))
        place = (principal.org_id, document["session_id"])
        repeated = place in self.made
        if repeated and self.made[place] != document:
            raise Conflict()
        self.made[place] = document
        return {"session_id": document["session_id"], "status": "running"}, repeated

    def cancel(self, principal, session_id, *, now, reason=""):
        self._there(principal, session_id)
        return {"status": "cancelled"}

    def results(self, principal, session_id, *, partial=False):
        self._there(principal, session_id)
        return {"session_id": session_id, **self.answer}

    def _there(self, principal, session_id):
        if (principal.org_id, session_id) not in self.made:
            raise Missing("session not found")


class Told(EventManager):
    """Keeps what is told out."""

    def __init__(self) -> None:
        super().__init__([])
        self.told: list[dict] = []

    def forward(self, topic, body, *, key, org_id):
        assert topic == RESULT_TOPIC
        self.told.append(orjson.loads(orjson.dumps(body)))
        return []


class Bus:
    """A transport that may be away."""

    name = "redis"

    def __init__(self) -> None:
        self.is_up, self.asked, self.told = False, 0, []

    def publish(self, topic, payload, *, key, org_id):
        self.asked += 1
        if not self.is_up:
            raise TransportDown("away")
        self.told.append(orjson.loads(payload))


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def manager() -> Told:
    return Told()


@pytest.fixture
def actions(db, settings, sessions, manager) -> AgencyActions:
    settings.EVENT_ORGS = ["acme", "umbra"]
    for org in ("acme", "umbra", "quiet"):
        make_org(org)
    return AgencyActions(manager, sessions)


def _from(org: str, transport: str = "kafka", **data) -> Event:
    body = {"key": "s1", "action": "initialize", "data": DOCUMENT, "org_id": org, **data}
    return Event(type=ACTION_TOPIC, transport=transport, data=body)


def test_an_event_makes_a_session_and_coming_twice_makes_no_other(actions, sessions, manager):
    for _ in range(2):
        actions.receive(_from("acme", context={"n": 1}))
    assert sessions.asked[0] == ("create", "acme", "submitter", {"session_id": "s1", **DOCUMENT, "context": {"n": 1}})
    assert [(told["event"], told["session_id"], told["repeated"], told["key"], told["org_id"]) for told in manager.told] == [
        ("accepted", "s1", False, "s1", "acme"), ("accepted", "s1", True, "s1", "acme"),
    ]  # fmt: skip
    assert len(sessions.made) == 1


def test_the_document_wins_over_the_event(actions, sessions):
    actions.receive(_from("acme", data={**DOCUMENT, "session_id": "mine", "context": {"n": 2}}, context={"n": 1, "m": 1}))
    assert sessions.made["acme", "mine"]["context"] == {"n": 2, "m": 1}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"key": ""}, "key"),
        ({"key": 7}, "key"),
        ({"key": "a\nb"}, "key"),
        ({"action": "explode"}, "action"),
        ({"action": ["initialize"]}, "action"),
        ({"data": []}, "data"),
        ({"data": None}, "data"),
        ({"context": 7}, "context"),
        ({"colour": "red"}, "colour"),
        ({"action": "cancel", "data": {"session_id": 7}}, "data.session_id"),
    ],
)
def test_what_is_wrong_is_answered_by_name_and_makes_nothing(actions, sessions, manager, change, field):
    actions.receive(_from("acme", **change))
    (told,) = manager.told
    assert (told["event"], [problem["field"] for problem in told["errors"]]) == ("refused", [field])
    assert sessions.made == {}


def test_what_the_session_refuses_is_answered(actions, sessions, manager):
    sessions.fault = Invalid([Problem(field="tasks[0].agent_class", code="unknown", message="nobody")])
    actions.receive(_from("acme"))
    assert (manager.told[0]["event"], manager.told[0]["errors"][0]["field"]) == ("refused", "tasks[0].agent_class")
    sessions.fault = None
    actions.receive(_from("acme"))
    actions.receive(_from("acme", data={"tasks": []}))
    assert (manager.told[2]["event"], manager.told[2]["code"]) == ("refused", "conflict")


def test_what_cannot_be_done_now_comes_again(actions, sessions, manager):
    sessions.fault = Unavailable()
    with pytest.raises(Unavailable):
        actions.receive(_from("acme"))
    assert manager.told == []


def test_orgs_that_are_not_named_or_not_there_get_no_answer(actions, sessions, manager):
    Org.objects.filter(pk="umbra").update(is_active=False)
    for org in ("quiet", "umbra", "nowhere", "", 7, None, ["acme"]):
        actions.receive(_from(org))
    actions.receive(Event(type=ACTION_TOPIC, transport="redis", data={}))
    assert (sessions.asked, manager.told) == ([], [])


def test_on_nats_the_key_must_be_of_the_org_in_the_subject_and_may_submit(actions, sessions, manager):
    good, agent, other = make_key("acme"), make_key("acme", "agent", "ada"), make_key("umbra")
    for authorization in ("", "Bearer ", f"Bearer {other}", f"Bearer {agent}", f"Bearer {good[:-1]}", f"Basic {good}", 7, None):
        # What the body says of the org counts for nothing.
        actions.receive(
            Event(type=ACTION_TOPIC, transport="nats", org_id="acme", data={**_from("umbra").data, "authorization": authorization})
        )
    assert (sessions.asked, manager.told) == ([], [])
    actions.receive(
        Event(type=ACTION_TOPIC, transport="nats", org_id="acme", data={**_from("umbra").data, "authorization": f"Bearer {good}"})
    )
    assert [(asked[1], asked[3]) for asked in sessions.asked] == [("acme", {"session_id": "s1", **DOCUMENT})]
    assert good not in str(manager.told) and good not in str(sessions.asked)


def test_a_session_is_cancelled_and_its_results_told_on_request_and_only_its_orgs(actions, sessions, manager):
    actions.receive(_from("acme"))
    sessions.answer |= {"status": "running", "final": False, "partial": True}
    actions.receive(_from("acme", action="results", data=None))
    actions.receive(_from("acme", action="cancel", data={"reason": "enough"}))
    actions.receive(_from("umbra", action="results", data={"session_id": "s1"}))
    assert [(told["event"], told["org_id"]) for told in manager.told] == [
        ("accepted", "acme"), ("partial", "acme"), ("accepted", "acme"), ("refused", "umbra"),
    ]  # fmt: skip
    assert (manager.told[1]["results"], manager.told[3]["code"]) == ({"a": 1}, "not_found")


def test_the_end_of_a_session_is_told_and_what_is_too_long_is_to_be_fetched(actions, sessions, manager):
    actions.receive(_from("acme"))
    actions.publish_result("acme", "s1", reason="")
    sessions.answer |= {"status": "failed", "partial": True, "results": {"a": "x" * RESULT_MAX}}
    actions.publish_result("acme", "s1", reason="b failed")
    short, long = manager.told[1:]
    assert (short["event"], short["status"], short["results"], short["partial"]) == ("final", "completed", {"a": 1}, False)
    assert (long["event"], long["status"], long["partial"], long["reason"]) == ("final", "failed", True, "b failed")
    assert (long["results"], long["fetch"]) == (None, "/api/v1/sessions/s1/results")
    assert long["omitted_bytes"] > RESULT_MAX and len(orjson.dumps(long)) < 1000


def test_real_sessions_come_of_it(db, redis, settings, manager):
    """The platform's own sessions behind the same face: born, refused with every problem, asked for, cancelled, told of."""
    settings.EVENT_ORGS = ["acme"]
    make_org("acme")
    actions = AgencyActions(manager)
    document = {"tasks": [{"key": "a", "message_template": "Say {word}", "executor": "agent"}], "context": {"word": "hello"}}
    for _ in range(2):
        actions.receive(_from("acme", data=document))
    actions.receive(_from("acme", key="s2", data={"tasks": [{"key": "a", "dependencies": ["b"]}]}))
    actions.receive(_from("acme", action="results", data=None))
    actions.receive(_from("acme", action="cancel", data=None))
    session_ended = SessionEnded(
        key="acme/s1", org_id="acme", session_id="s1", status="cancelled", partial=True, reason="enough", run=1, at=NOON
    )
    settings.EVENT_TRANSPORTS = ["redis"]
    agency_events.reset()
    heard: queue.Queue = queue.Queue()
    ear = on_redis.RedisTransport()
    ear.subscribe([RESULT_TOPIC], heard.put).wait_in_force(PATIENCE)
    events.publish(session_ended)
    told = orjson.loads(heard.get(timeout=PATIENCE).payload)
    ear.close()
    agency_events.reset()
    assert [(one["event"], one.get("repeated")) for one in manager.told[:2]] == [("accepted", False), ("accepted", True)]
    assert (manager.told[2]["event"], manager.told[2]["key"]) == ("refused", "s2")
    assert any("dependencies" in problem["field"] for problem in manager.told[2]["errors"])
    assert [one["event"] for one in manager.told[3:]] == ["partial", "accepted"]
    assert (told["event"], told["status"], told["session_id"], told["reason"]) == ("final", "cancelled", "s1", "enough")


@pytest.mark.store
def test_a_result_that_a_bus_did_not_take_is_told_again_until_it_has_and_then_no_more(flow, settings, monkeypatch):
    """Also when whoever ended the session died before the telling: that it is owed was written with the end."""
    settings.EVENT_TRANSPORTS, settings.EVENT_ORGS = ["redis"], ["acme"]
    bus = Bus()
    monkeypatch.setattr(agency_events, "_manager", EventManager([bus]))
    session_id = flow.run({"tasks": [{"key": "a", "agent_class": "Echo"}]})
    assert bus.asked == 1 and not bus.told
    seconds = [29, 32, 40, 70, 140]
    for number, later in enumerate(seconds):
        bus.is_up = number >= 3
        flow.hand.tend(later)
    (told,) = bus.told
    assert (told["event"], told["session_id"], told["run"], told["status"]) == ("final", session_id, 1, "completed")
    assert bus.asked == 3, "at once, after half a minute, after as long again"
    assert Session.objects.get(session_id=session_id).tell_at is None


def test_nothing_is_listened_to_unless_the_operator_says_so(settings):
    assert (settings.EVENT_TRANSPORTS, settings.EVENT_ORGS) == ([], [])
    assert agency_events.listen() is None


@pytest.fixture
def listening(redis, nats, settings, sessions, transactional_db):
    """What the listener does, on both, with its results heard."""
    settings.EVENT_TRANSPORTS, settings.EVENT_ORGS = ["redis", "nats"], ["acme"]
    make_org("acme")
    assert wire().wait_up(PATIENCE)
    agency_events.reset()
    found = agency_events.manager()
    AgencyActions(found, sessions).connect()
    heard: queue.Queue = queue.Queue()
    ear = on_redis.RedisTransport()
    ear.subscribe([RESULT_TOPIC], lambda message: heard.put(("redis", orjson.loads(message.payload)))).wait_in_force(PATIENCE)
    subscription = wire().subscribe(on_nats.subject("acme", RESULT_TOPIC), lambda _, payload: heard.put(("nats", orjson.loads(payload))))
    found.start()
    assert found.wait_in_force(PATIENCE)
    yield heard
    agency_events.reset()
    subscription.close()
    ear.close()


def test_the_whole_way_on_redis_and_on_nats(listening, sessions):
    body = {"key": "s1", "action": "initialize", "data": DOCUMENT, "org_id": "acme"}
    redis_door.client().publish(on_redis.channel(ACTION_TOPIC), orjson.dumps(body))
    answers = sorted([listening.get(timeout=PATIENCE), listening.get(timeout=PATIENCE)], key=lambda answer: answer[0])
    assert [(name, told["event"], told["session_id"]) for name, told in answers] == [
        ("nats", "accepted", "s1"),
        ("redis", "accepted", "s1"),
    ]
    asked = {"key": "s2", "action": "initialize", "data": DOCUMENT, "authorization": f"Bearer {make_key('acme')}"}
    wire().publish([(on_nats.subject("acme", ACTION_TOPIC), orjson.dumps(asked))])
    assert {listening.get(timeout=PATIENCE)[1]["session_id"] for _ in range(2)} == {"s2"}
    assert set(sessions.made) == {("acme", "s1"), ("acme", "s2")}


def test_bytes_that_are_no_text_do_not_deafen(redis, settings):
    """The client stops in the middle of such a message; the ear begins anew."""
    transport, heard, gaps = on_redis.RedisTransport(), queue.Queue(), queue.Queue()
    transport.subscribe(["t"], heard.put, on_gap=lambda: gaps.put(True)).wait_in_force(PATIENCE)
    transport.publish("t", b"\xff\xfe", key="", org_id="")
    assert gaps.get(timeout=PATIENCE)
    transport.publish("t", b"fine", key="", org_id="")
    assert heard.get(timeout=PATIENCE).payload == b"fine"
    transport.close()
