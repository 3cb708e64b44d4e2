"""Policies on a whole platform: what a script says is what happens, and what it cannot say waits for a person."""

from __future__ import annotations

import json
import threading

import pytest

from apps.core import clock, signatures
from tests.checker import read_histories
from tests.integration.remote_policies.service import SECRET, http
from tests.lying_server import LyingServer, saying

pytestmark = pytest.mark.acceptance

APPROVAL = """
def approve(task):
    if "forbidden" in task["goal"]:
        return {"accepted": False, "reason": "we do not do " + task["goal"]}
    if "doubtful" in task["goal"]:
        return {"accepted": None, "reason": "a person should look at it"}
    if "broken" in task["goal"]:
        return {"accepted": 1 // 0}
    return {"accepted": True, "reason": "fine"}
"""
PRIORITY = """
def prioritize(task):
    return {"priority": len(task["goal"])}
"""


@pytest.fixture
def house(make_org):
    """An org whose own approval and priority scripts were registered and chosen over HTTP."""
    org = make_org(agents={"ada": {}}, agent_prefetch=0)
    ann = org.as_("ann")
    for script_id, hook, source, key in (
        ("house/approval", "approval", APPROVAL, "approval_dsl_id"),
        ("house/priority", "priority", PRIORITY, "priority_assigner_dsl_id"),
    ):
        made = ann.post("/api/v1/policies", {"script_id": script_id, "hook": hook, "source": source, "activate": True})
        assert made.status == 201, made.body
        chosen = ann.post(f"/org-config/{org.org_id}/{key}", {"value": script_id})
        assert chosen.status == 200, chosen.body
    return org


def test_a_refused_task_is_kept_with_its_reason_and_never_queued(house):
    entry = house.entry(task_goal="forbidden things")
    answer = house.api.submit(entry)
    assert answer.status == 422
    assert answer.json["error"]
    assert answer.json["reason"] == "we do not do forbidden things"
    task = house.api.task(entry["task_id"])
    assert (task["status"], task["reason"]) == ("rejected", "we do not do forbidden things")
    assert house.path(entry["task_id"]) == ["rejected"]
    (run,) = house.stack.rows.policy_runs(house.org_id)
    assert (run["script_id"], run["script_version"], run["output"]["accepted"]) == ("house/approval", 1, False)
    assert house.api.submit(entry).status == 422


@pytest.mark.parametrize("goal", ["doubtful things", "broken things"])
def test_a_held_task_waits_for_a_person_and_goes_on_when_he_says_yes(house, goal):
    house.start("ada")
    entry = house.entry(task_goal=goal)
    answer = house.api.submit(entry)
    assert (answer.status, answer.json["status"]) == (202, "awaiting_approval")
    approve = f"/api/v1/tasks/{entry['task_id']}/approve"
    assert house.api.post(approve).status == 403
    assert house.as_("olga").post(approve, {"reason": "looked at it"}).status == 200
    assert house.api.ended(entry["task_id"])["status"] == "completed"
    assert house.path(entry["task_id"])[:2] == ["awaiting_approval", "queued"]
    assert house.as_("olga").post(approve).status == 409
    assert house.violations([entry["task_id"]]) == []


def test_a_held_task_ends_when_the_person_says_no(house):
    entry = house.entry(task_goal="good things", task_execution_mode="manual")
    assert house.api.submit(entry).json["status"] == "awaiting_approval"
    assert house.as_("olga").post(f"/api/v1/tasks/{entry['task_id']}/reject", {"reason": "not now"}).status == 200
    task = house.api.task(entry["task_id"])
    assert (task["status"], task["reason"]) == ("rejected", "not now")


def test_the_priority_script_orders_the_queue(house):
    gate = house.gate()
    first = house.entry(task_goal="x", do=gate.do())
    entries = [house.entry(task_goal="g" * length) for length in (3, 9, 1, 5)]
    house.start("ada", slots=1)
    house.api.submit(first)
    house.api.submit_bulk(entries)
    gate.open()
    house.all_ended(5)
    lines = sorted(read_histories(house.history), key=lambda line: line["at"])
    assert [line["task_id"] for line in lines if line["event"] == "start"] == [
        entry["task_id"] for entry in (first, entries[1], entries[3], entries[0], entries[2])
    ]
    assert house.api.task(entries[1]["task_id"])["priority"] == 9


def test_why_is_told(house):
    house.start("ada")
    entry = house.entry(task_goal="good things")
    house.api.submit(entry)
    house.api.ended(entry["task_id"])
    events = house.api.get(f"/api/v1/tasks/{entry['task_id']}/events").json["items"]
    assert {(event["hook"], event["script_id"]) for event in events if event["kind"] == "policy"} == {
        ("approval", "house/approval"),
        ("priority", "house/priority"),
    }
    (assignment,) = [event for event in events if event["kind"] == "assignment"]
    assert assignment["agent"] == "ada"
    assert "least loaded" in assignment["because"]
    assert [event["status"] for event in events if event["kind"] == "transition"][0] == "queued"


def answers(output):
    """A service that checks the signature and answers every question the same."""

    def speak(connection, request):
        head, _, body = request.partition(b"\r\n\r\n")
        given = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.decode().split("\r\n")[1:])}
        signatures.verify(SECRET, given, message_id=given["webhook-id"], body=body, now=clock.now())
        connection.sendall(http(200, json.dumps({"output": output}).encode()))
        return True

    return speak


YES = {"accepted": True, "reason": "the service likes it"}
SERVICES = {
    "good": (answers(YES), "queued"),
    "refused": (saying(b""), "awaiting_approval"),
    "slow": (lambda *_: threading.Event().wait(3), "awaiting_approval"),
    "wrong": (answers({"accepted": "yes"}), "awaiting_approval"),
    "huge": (saying(http(200, json.dumps({"output": {**YES, "x": "x" * 70_000}}).encode())), "awaiting_approval"),
    "redirected": (saying(http(307, b"", {"Location": "http://127.0.0.1:1/"})), "awaiting_approval"),
}


def test_a_remote_policy_decides_and_a_bad_one_never_lets_a_task_in(make_org):
    org = make_org(dsl_remote_secret=SECRET, outbound_allow=["127.0.0.1"])
    ann = org.as_("ann")
    for name, (speak, first) in SERVICES.items():
        server = LyingServer(speak)
        limit = 400 if name == "slow" else 10_000
        assert ann.post(f"/org-config/{org.org_id}/dsl_remote_timeout_ms", {"value": limit}).status == 200
        assert ann.post(f"/org-config/{org.org_id}/dsl_remote_url", {"value": server.url}).status == 200
        assert ann.post(f"/org-config/{org.org_id}/approval_dsl_id", {"value": "remote:gate"}).status == 200
        entry = org.entry()
        org.api.submit(entry)
        assert org.path(entry["task_id"])[0] == first, name
        assert server.requests, name
        server.close()
    runs = org.stack.rows.policy_runs(org.org_id)
    assert len(runs) == len(SERVICES) and {run["script_id"] for run in runs} == {"remote:gate"}
    assert [run["output"] for run in runs if not run["error"]] == [YES]


def test_a_backtest_tells_what_a_draft_would_have_decided(house):
    for goal in ("good things", "forbidden things", "doubtful things"):
        house.api.submit(house.entry(task_goal=goal))
    ann = house.as_("ann")
    draft = "def approve(task):\n    return {'accepted': 'doubtful' not in task['goal'], 'reason': 'draft'}\n"
    made = ann.post("/api/v1/policies", {"script_id": "house/approval", "hook": "approval", "source": draft})
    assert (made.status, made.json["version"], made.json["status"]) == (201, 2, "draft")
    done = ann.post("/api/v1/policies/house/approval/backtest", {})
    assert done.status == 200, done.body
    assert done.json["result"]["changes"] == {"reject -> accept": 1, "hold -> reject": 1}
    assert {flip["old"]["reason"] for flip in done.json["flips"]} == {"we do not do forbidden things", "a person should look at it"}
