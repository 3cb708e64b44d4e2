"""Sessions over HTTP: who may do what, what answers look like, and the stream that a live tree is drawn from."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest

from apps.workflows.following import Follower
from apps.workflows.models import Session
from tests.factories import bearer, make_key, make_org

pytestmark = pytest.mark.store
ROOT = "/api/v1/sessions"


def fan(count: int = 3, **more: Any) -> dict[str, Any]:
    return {
        "session_id": "s1",
        "name": "Fan",
        "context": {"numbers": list(range(count))},
        "tasks": [
            {"key": "fan", "agent_class": "Echo", "expansion_config": {"type": "array", "array_mapping": {"n": "numbers"}}},
            {"key": "sum", "agent_class": "Echo", "dependencies": ["fan"], "message_template": "all of {fan.summary}"},
        ],
        **more,
    }


class Door:
    """The test client as one role of one org."""

    def __init__(self, client: Any, org: str, role: str) -> None:
        self._client, self._headers = client, bearer(make_key(org, role))

    def __call__(self, method: str, path: str = "", body: Any = None, **headers: str) -> Any:
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._client.generic(method, ROOT + path, raw, "application/json", headers={**self._headers, **headers})

    def get(self, path: str = "", **headers: str) -> Any:
        return self("GET", path, **headers)

    def post(self, path: str = "", body: Any = None) -> Any:
        return self("POST", path, body)


@pytest.fixture
def door(hand, client):
    return lambda role="submitter", org="acme": Door(client, org, role)


def test_a_session_is_handed_in_runs_and_gives_its_result(door, hand):
    sam = door()
    made = sam.post(body=fan())
    assert (made.status_code, made["Location"]) == (201, f"{ROOT}/s1")
    assert made.json()["status"] == "running"
    assert sam.get("/s1/results").status_code == 409
    assert sam.get("/s1/results?partial=true").json()["final"] is False
    hand.settle()
    session = sam.get("/s1").json()
    assert (session["status"], session["progress"], session["items"]["completed"]) == ("completed", 100, 4)
    result = sam.get("/s1/results").json()
    assert (result["final"], result["partial"], result["missing"]) == (True, False, [])
    assert list(result["results"]["fan"]["results"]) == [{"n": 0}, {"n": 1}, {"n": 2}]
    steps = sam.get("/s1/steps").json()["items"]
    assert [step["path"] for step in steps] == ["main", "main.fan", "main.sum"]
    assert steps[1]["counts"]["completed"] == 3
    assert steps[2]["dependencies"] == ["main.fan"]
    assert sam.get("/s1/steps/main.fan").json() == steps[1]
    assert sam.get("/s1/document").json()["tasks"][0]["key"] == "fan"


def test_the_same_document_again_is_the_same_session_and_another_one_a_conflict(door):
    sam = door()
    assert sam.post(body=fan()).status_code == 201
    assert sam.post(body=fan()).status_code == 200
    again = sam.post(body=fan(name="Other"))
    assert again.status_code == 409
    assert Session.objects.count() == 1


def test_every_problem_of_a_document_is_told_with_its_json_path_and_nothing_is_stored(door):
    document = fan()
    document["tasks"][0]["dependencies"] = ["sum"]
    document["tasks"][1] |= {"join": {"rule": "most"}, "message_template": "{nobody}", "max_retries": -1}
    answer = door().post(body=document)
    assert answer.status_code == 422
    fields = {problem["field"] for problem in answer.json()["errors"]}
    assert {"tasks[1].max_retries", "tasks[1].join.rule"} <= fields or any(field.startswith("tasks[1]") for field in fields)
    assert Session.objects.count() == 0


def test_a_dry_run_gives_the_plan_and_stores_nothing(door):
    plan = door().post("?dry_run=true", fan(40))
    assert plan.status_code == 200
    assert {step["path"]: step["items"] for step in plan.json()["steps"]} == {"main.fan": 40, "main.sum": 1}
    assert Session.objects.count() == 0
    assert door().post("?dry_run=maybe", fan()).status_code == 400


def test_lists_go_page_by_page(door, hand):
    sam = door()
    for number in range(3):
        sam.post(body=fan(session_id=f"s{number}"))
    first = sam.get("?limit=2").json()
    assert [one["session_id"] for one in first["items"]] == ["s2", "s1"]
    assert [one["session_id"] for one in sam.get(f"?limit=2&cursor={first['next_cursor']}").json()["items"]] == ["s0"]
    assert [one["session_id"] for one in sam.get("?q=s1&status=running").json()["items"]] == ["s1"]
    assert sam.get("?status=completed").json()["items"] == []
    hand.settle()
    one = sam.get("/s0/steps/main.fan/items?limit=2").json()
    two = sam.get(f"/s0/steps/main.fan/items?limit=2&cursor={one['next_cursor']}").json()
    assert [item["index"] for item in one["items"] + two["items"]] == [0, 1, 2]
    assert "result" not in one["items"][0]
    assert sam.get("/s0/steps/main.fan/items?status=failed").json()["items"] == []
    assert sam.get("/s0/steps/main.fan/items?whole=true").json()["items"][1]["result"] == {"n": 1}
    assert sam.get("/s0/steps/main.fan/items/2").json()["result"] == {"n": 2}
    events = sam.get("/s0/events?limit=2").json()
    rest = sam.get(f"/s0/events?after={events['next']}").json()
    assert rest["next"] is None
    moves = [(event["path"], event["new"]) for event in events["items"] + rest["items"]]
    assert moves[-1] == ("", "completed")
    assert ("main.fan", "completed") in moves


@pytest.mark.parametrize(
    "path",
    ["?status=done", "?limit=0", "?limit=x", "?cursor=nonsense", "?sort=name", "?q=", "/s1/steps/main.fan/items?status=done",
     "/s1/steps/main.fan/items?cursor=e30", "/s1/events?after=x", "/s1/results?partial=1"],
)  # fmt: skip
def test_a_query_that_cannot_be_meant_is_refused(door, path):
    sam = door()
    sam.post(body=fan())
    assert sam.get(path).status_code == 400


def test_a_look_that_brings_nothing_new_costs_no_body(door, hand):
    sam = door()
    sam.post(body=fan())
    first = sam.get("/s1")
    again = sam("GET", "/s1", **{"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    hand.settle()
    assert sam("GET", "/s1", **{"If-None-Match": first["ETag"]}).status_code == 200


def test_another_orgs_session_is_as_missing_as_one_that_never_was(door, hand):
    make_org("umbra")
    door().post(body=fan())
    hand.settle()
    eve = door("org_admin", "umbra")
    paths = [
        "",
        "/document",
        "/steps",
        "/steps/main.fan",
        "/steps/main.fan/items",
        "/steps/main.fan/items/0",
        "/events",
        "/stream",
        "/results",
    ]
    for path in paths:
        foreign, missing = eve.get(f"/s1{path}"), eve.get(f"/nosuch{path}")
        assert (foreign.status_code, missing.status_code) == (404, 404), path
        assert _without_id(foreign) == _without_id(missing)
    for verb in ("cancel", "pause", "resume", "retry", "compensate"):
        foreign, missing = eve.post(f"/s1/{verb}"), eve.post(f"/nosuch/{verb}")
        assert (foreign.status_code, _without_id(foreign)) == (404, _without_id(missing)), verb
    assert eve.post("/s1/rerun", {"step": "main.fan"}).status_code == 404
    assert eve("DELETE", "/s1").status_code == 404
    assert eve.get().json()["items"] == []
    assert eve.post(body=fan()).status_code == 201  # ids are an org's own


def _without_id(response: Any) -> dict[str, Any]:
    return {name: value for name, value in response.json().items() if name not in ("request_id", "instance")}


def test_roles_submitters_hand_in_and_cancel_operators_steer_admins_delete(door, hand):
    door().post(body=fan())
    for verb in ("pause", "resume", "retry", "compensate", "rerun"):
        assert door().post(f"/s1/{verb}", {"step": "main.fan"} if verb == "rerun" else None).status_code == 403, verb
    assert door("operator").post("/s1/pause", {"reason": "wait"}).json()["status"] == "paused"
    assert door("operator").post("/s1/resume").json()["status"] == "running"
    assert door().post("/s1/cancel", {"reason": "enough"}).json()["status"] == "cancelled"
    hand.settle()
    assert door("operator")("DELETE", "/s1").status_code == 403
    assert door("org_admin")("DELETE", "/s1").status_code == 204
    assert door().get("/s1").status_code == 404


def test_what_ended_is_taken_up_again_from_a_step_with_changed_input(door, hand):
    ops = door("operator")
    ops.post(
        body=fan(
            tasks=[{"key": "one", "agent_class": "Echo", "input": {"x": 1}}, {"key": "two", "agent_class": "Echo", "dependencies": ["one"]}]
        )
    )
    assert ops.post("/s1/rerun", {"step": "main.one"}).status_code == 409
    hand.settle()
    assert ops.post("/s1/rerun", {"step": "main.one", "input": {"x": 2}, "reason": "again"}).json()["run"] == 2
    hand.settle()
    assert ops.get("/s1/results").json()["results"]["one"] == {"x": 2}
    assert ops.post("/s1/rerun", {"step": "main.nosuch"}).status_code == 404
    for body in ({}, {"step": 7}, {"step": "main.one", "input": []}, {"step": "main.one", "more": 1}):
        assert ops.post("/s1/rerun", body).status_code == 422


def test_a_stream_tells_all_as_it_is_then_each_change_then_the_end(door, hand):
    door().post(body=fan())
    told = []
    for number, one in enumerate(Follower("acme", "s1").follow(beat_seconds=0.01)):
        if one is None and number < 200:
            hand.settle()
        elif one is not None:
            told.append(one)
    assert [one.name for one in told[:4]] == ["session", "step", "step", "step"]
    assert told[-1].name == "end"
    assert told[-1].data["status"] == "completed"
    latest = {one.data["path"]: one.data["status"] for one in told if one.name == "step"}
    assert latest == {"main": "completed", "main.fan": "completed", "main.sum": "completed"}
    moves = [one for one in told if one.name == "move"]
    assert len({move.id for move in moves}) == len(moves)
    assert [move.id for move in moves] == sorted(move.id for move in moves)
    # Who comes back after a move hears what came after it, once.
    back = [one for one in Follower("acme", "s1", after=moves[1].id).follow() if one and one.name == "move"]
    assert [one.id for one in back] == [move.id for move in moves[2:]]


def test_a_stream_over_http_ends_with_the_session_and_has_nothing_for_who_knows_the_end(door, hand):
    sam = door()
    sam.post(body=fan())
    hand.settle()
    response = sam.get("/s1/stream")
    assert (response.status_code, response["Content-Type"]) == (200, "text/event-stream")
    chunks = b"".join(response.streaming_content)
    names = [line.removeprefix(b"event: ") for line in chunks.splitlines() if line.startswith(b"event: ")]
    assert names == [b"session", b"step", b"step", b"step", b"end"]
    last = sam.get("/s1").json()["last_event"]
    assert sam("GET", "/s1/stream", **{"Last-Event-ID": last}).status_code == 204


def test_a_document_of_some_megabytes_is_taken_and_one_beyond_the_limit_is_not(door):
    big = fan(session_id="big", context={"numbers": [0], "text": ["x" * 100_000] * 30})
    assert len(orjson.dumps(big)) > 3_000_000
    assert door().post(body=big).status_code == 201
    huge = fan(context={"numbers": [0], "text": ["x" * 100_000] * 90})
    assert door().post(body=huge).status_code == 413


def test_a_hundred_thousand_tasks_are_refused_before_they_are_read_strictly(door):
    body = orjson.dumps({"tasks": [{"key": f"t{n}", "message_template": "x"} for n in range(100_000)]})
    began = time.process_time()
    answer = door().post(body=body)
    assert time.process_time() - began < 1.0
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "too_many_tasks")
