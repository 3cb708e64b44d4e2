"""The drawn way in: topic agency_action, action initialize, to real workers and agents; the final result is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

pytestmark = pytest.mark.acceptance
SECONDS = 30


@pytest.fixture
def bus(stack, org) -> Iterator[tuple[Callable[..., None], Callable[[], dict[str, Any]]]]:
    """(say, the next that is told to this org)."""
    with redis.Redis.from_url(stack.state["urls"]["redis"], decode_responses=True) as client, client.pubsub() as told:
        told.subscribe("jp:events:agency_results")
        assert told.get_message(timeout=SECONDS)["type"] == "subscribe"

        def say(**event: Any) -> None:
            client.publish("jp:events:agency_action", json.dumps({"org_id": org.org_id, **event}))

        def following() -> dict[str, Any]:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                message = told.get_message(ignore_subscribe_messages=True, timeout=1)
                if message is not None and (body := json.loads(message["data"]))["org_id"] == org.org_id:
                    return body
            raise AssertionError("nothing was told")

        yield say, following


def test_an_event_starts_a_session_on_agents_and_its_result_is_told(bus, org):
    say, following = bus
    document = {"tasks": [{"key": "ask", "message_template": "Look at {topic}", "result_keys": ["answer"]}]}
    for _ in range(2):
        say(key="by-event", action="initialize", data=document, context={"topic": "boilers"})
    say(key="wrong", action="initialize", data={"tasks": [{"key": "a", "dependencies": ["a"]}]})
    heard: dict[str, list[dict[str, Any]]] = {"accepted": [], "refused": [], "final": []}
    while not (len(heard["accepted"]) == 2 and heard["refused"] and heard["final"]):
        body = following()
        heard[body["event"]].append(body)
    assert sorted(one["repeated"] for one in heard["accepted"]) == [False, True]
    assert [one["key"] for one in heard["refused"]] == ["wrong"] and heard["refused"][0]["errors"]
    (final,) = heard["final"]
    assert (final["session_id"], final["status"], final["partial"]) == ("by-event", "completed", False)
    assert (final["results"]["answer"]["words"], final["results"]["answer"]["attempt"]) == (3, 1)
    assert final["results"] == org.api.get("/api/v1/sessions/by-event/results").json["results"]
