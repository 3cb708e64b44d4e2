"""An org with an approval policy that has all three answers, a priority policy, and a key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from django.test import Client

from apps.core import clock
from apps.core.auth import Principal
from apps.orgs.config_store import OrgConfigProvider
from tests.factories import bearer, make_agent, make_key, make_org

APPROVAL = """
def approve(task):
    wish = task["payload"].get("wish", "yes")
    if wish == "crash":
        fail("boom")
    if wish == "no":
        return {"accepted": False, "reason": "not this one"}
    if wish == "ask":
        return {"accepted": None, "reason": "let a person see it"}
    return {"accepted": True, "reason": "fine"}
"""
ASK_PERSON = """
def approve(task):
    if task["payload"].get("wish") == "ask":
        return {"accepted": None, "reason": "ask", "approvers": task["payload"].get("approvers")}
    return {"accepted": True, "reason": "fine"}
"""
PRIORITY = """
def prioritize(task):
    return {"priority": task["payload"]["rank"]}
"""


def register(script_id: str, hook: str, source: str, org_id: str = "acme") -> None:
    from apps.dsl.scripts import register

    register(org_id=org_id, script_id=script_id, hook=hook, source=source, by="tests", now=clock.now(), activate=True)


def configure(org_id: str = "acme", **config: Any) -> None:
    """As an admin does it: what is cached already follows."""
    for key, value in config.items():
        OrgConfigProvider().set(org_id, key, value, by="tests", now=clock.now())


@pytest.fixture
def acme(db, redis):
    """Approves what wishes it, ranks by payload.rank, has one agent."""
    return _furnish()


@pytest.fixture
def shared_acme(transactional_db, redis):
    """The same, visible to other threads."""
    return _furnish()


def _furnish() -> Any:
    org = make_org("acme", approval_dsl_id="approval/test")
    make_agent("acme", "ada")
    register("approval/test", "approval", APPROVAL)
    register("priority/rank", "priority", PRIORITY)
    return org


@pytest.fixture
def sam(acme) -> Principal:
    return Principal(org_id="acme", role="submitter", subject_id="sam", key_id="k1", name="tests")


class Caller:
    """Django's test client with a key, JSON in and out."""

    def __init__(self, key: str) -> None:
        self.key, self.client = key, Client()

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers={**bearer(self.key), **headers})

    def post(self, path: str, body: Any = None, *, content_type: str = "application/json", **headers: str) -> Any:
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        return self.client.post(path, data=raw, content_type=content_type, headers={**bearer(self.key), **headers})

    def bulk(self, *lines: Any) -> list[dict[str, Any]]:
        raw = b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines)
        response = self.post("/api/v1/tasks/bulk", raw, content_type="application/x-ndjson")
        assert response.status_code == 200, response.content
        return [orjson.loads(line) for line in b"".join(response.streaming_content).splitlines()]


@pytest.fixture
def caller() -> Callable[..., Caller]:
    def make(role: str = "submitter", org_id: str = "acme") -> Caller:
        make_org(org_id)
        return Caller(make_key(org_id, role))

    return make


@pytest.fixture
def submitter(acme, caller) -> Caller:
    return caller()


@pytest.fixture
def operator(acme, caller) -> Caller:
    return caller("operator")


class Listeners:
    """The real wire, and who has begun to listen on it."""

    def __init__(self, wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wire = wire
        self._subjects: list[str] = []
        self._changed = threading.Condition()
        really = wire.subscribe

        def subscribe(subject: str, *arguments: Any, **options: Any) -> Any:
            subscription = really(subject, *arguments, **options)
            with self._changed:
                self._subjects.append(subject)
                self._changed.notify_all()
            return subscription

        monkeypatch.setattr(wire, "subscribe", subscribe)

    def listening(self, subject: str) -> None:
        """Wait until somebody listens there."""
        with self._changed:
            assert self._changed.wait_for(lambda: subject in self._subjects, 20), f"nobody listens on {subject}: {self._subjects}"


@pytest.fixture
def nats_wire(nats, monkeypatch) -> Iterator[Listeners]:
    from apps.messaging import connection

    connection.reset()
    wire = connection.wire()
    assert wire.wait_up(10)
    yield Listeners(wire, monkeypatch)
    connection.reset()
