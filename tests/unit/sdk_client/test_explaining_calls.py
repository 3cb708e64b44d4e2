"""Explain, simulate and configuration from both clients and from jobctl."""

from __future__ import annotations

import asyncio
import json

import pytest

from jobplatform_sdk import AsyncClient, Client
from tests.unit.sdk_client.cli_kit import EVIL, FINE, NOT_COMPLETED, USAGE
from tests.unit.sdk_client.conftest import KEY
from tests.unit.sdk_client.wire_server import Reply

EXPLANATION = {
    "task_id": "t1", "status": "queued", "summary": "Waits for an agent.", "cut": [],
    "steps": [
        {"step": 1, "kind": "policy", "at": "2026-11-22T10:00:00.000Z", "summary": f"a@1 approved it: {EVIL}"},
        {"step": 2, "kind": "auction", "at": "2026-11-22T10:00:01.000Z", "summary": "An auction went to ada.", "bids": [
            {"agent": "ada", "outcome": "accepted", "place": 1, "price": 2.0, "score": 1.5, "parts": {"price": 1.5}, "why": ""},
            {"agent": "di", "outcome": "accepted", "place": 2, "price": 3.0, "score": 3.0, "parts": {}, "why": "no room left"},
            {"agent": "eve", "outcome": "refused", "price": 9.0, "why": "over the reserve price"},
            {"agent": "bo", "outcome": "ignored", "why": "it came late"}], "details": {"not_called": {"agents": {"flo": "lacks gpu"}}}},
        {"step": 3, "kind": "assignment", "at": "2026-11-22T10:00:01.000Z", "summary": "Attempt 1: ada.",
         "decision": {"barred": {"cy": "away"}, "refusals": [{"strategy": "static", "why": "nobody"}], "tie_break": "by lot"}},
    ],
    "waiting": {"for": "an agent", "held_by": ["no room: all 2 candidates are busy"], "position": 3, "estimate_s": None,
                "estimate_why": "all are busy"},
}  # fmt: skip
SIMULATION = {
    "outcome": "rejected", "summary": "It would be rejected: no.",
    "candidates": {"size": 2, "eligible": {"ada": {}}, "barred": {"bo": "away"}},
    "policies": [{"hook": "approval", "script_id": "a", "script_version": 3, "error": "", "output": {"accepted": False}}],
}  # fmt: skip
CONFIG = {"org_id": "acme", "version": 4, "parameters": [
    {"key": "max_attempts", "value": 3, "default": 5, "is_set": True, "meaning": "how often"},
    {"key": "lease_seconds", "value": 20, "default": 20, "is_set": False, "meaning": "how long"},
]}  # fmt: skip


def test_both_clients_ask_the_same(server):
    def steps():
        set_ = Reply(200, {"success": True, "version": 5})
        return [Reply(200, EXPLANATION), Reply(200, SIMULATION), Reply(200, CONFIG), set_, Reply(204, b"")]

    async def awaiting():
        async with AsyncClient(server.url, KEY) as client:
            return [
                await client.explain("a/b"),
                await client.simulate({"goal": "g", "intent": "i", "task_id": "x"}, scripts={"approval": "a"}, ask_bids=True),
                await client.config(), await client.set_config("acme", "max_attempts", 3, version=4),
                await client.unset_config("max_attempts", version=5),
            ]  # fmt: skip

    server.will(*steps())
    with Client(server.url, KEY) as client:
        found = [
            client.explain("a/b"), client.simulate({"goal": "g", "intent": "i", "task_id": "x"}, scripts={"approval": "a"}, ask_bids=True),
            client.config(), client.set_config("acme", "max_attempts", 3, version=4), client.unset_config("max_attempts", version=5),
        ]  # fmt: skip
    first = [(seen.method, seen.path, seen.body) for seen in server.seen]
    server.seen.clear()
    server.will(*steps())
    assert asyncio.run(awaiting()) == found
    assert [(seen.method, seen.path, seen.body) for seen in server.seen] == first
    assert [line[:2] for line in first] == [
        ("GET", "/api/v1/tasks/a%2Fb/explain"), ("POST", "/api/v1/tasks/simulate"), ("GET", "/api/v1/org-config"),
        ("POST", "/org-config/acme/max_attempts"), ("DELETE", "/api/v1/org-config/max_attempts"),
    ]  # fmt: skip
    assert json.loads(first[1][2]) == {
        "type": "task", "options": {"scripts": {"approval": "a"}, "ask_bids": True},
        "data": {"task_id": "x", "task_goal": "g", "task_intent": "i", "task_priority_value": 0},
    }  # fmt: skip
    assert json.loads(first[3][2]) == {"value": 3, "version": 4}


def test_jobctl_explains_in_lines_that_hold_no_surprises(jobctl, server):
    server.will(Reply(200, EXPLANATION))
    status, out, _ = jobctl("explain", "t1")
    assert status == FINE and "\x1b" not in out and "\x9b" not in out
    for line in ("1. ada: price 2, score 1.5 (price 1.5)", "bo: ignored, it came late", "cy: away",
                 "2. di: price 3, score 3; passed over: no room left", "eve: price 9, refused, over the reserve price",
                 "flo: not called, lacks gpu", "static: nobody", "by lot",
                 "held by  no room: all 2 candidates are busy", "3 before it", "nobody can say: all are busy"):  # fmt: skip
        assert line in out, out
    server.will(Reply(200, EXPLANATION))
    assert json.loads(jobctl("explain", "t1", "--json")[1])["steps"][0]["step"] == 1


def test_jobctl_simulates_a_file_and_says_by_its_status_whether_it_would_be_accepted(jobctl, server, tmp_path):
    file = tmp_path / "task.json"
    file.write_text('{"goal": "g", "intent": "i"}')
    server.will(Reply(200, SIMULATION))
    status, out, _ = jobctl("simulate", str(file), "--script", "approval=a/b@3", "--set", "max_attempts=1", "--set", "x=auction")
    assert status == NOT_COMPLETED and "It would be rejected: no." in out and "bo: away" in out and "a@3" in out
    sent = json.loads(server.seen[-1].body)
    assert sent["options"] == {"scripts": {"approval": {"script_id": "a/b", "version": 3}}, "config": {"max_attempts": 1, "x": "auction"}}
    server.will(Reply(200, {**SIMULATION, "outcome": "assigned"}))
    assert jobctl("simulate", str(file), "--json")[0] == FINE


@pytest.mark.parametrize("text", ["not json", "[]", '"x"'])
def test_jobctl_takes_only_an_entry(jobctl, server, tmp_path, text):
    file = tmp_path / "task.json"
    file.write_text(text)
    assert jobctl("simulate", str(file))[0] == USAGE and not server.seen
    assert jobctl("simulate", str(tmp_path / "none"))[0] == USAGE


def test_jobctl_lists_the_configuration(jobctl, server):
    server.will(Reply(200, CONFIG), Reply(200, CONFIG))
    status, out, _ = jobctl("config")
    assert status == FINE and "max_attempts" in out and "lease_seconds" in out
    assert "lease_seconds" not in jobctl("config", "--changed")[1]


def test_jobctl_changes_the_configuration(jobctl, server):
    server.will(Reply(200, CONFIG), Reply(200, {"success": True, "version": 5}), Reply(204, b""))
    assert jobctl("config", "set", "max_attempts", "4", "--over", "3")[:2] == (FINE, "max_attempts  is  4\n")
    assert jobctl("config", "unset", "max_attempts")[:2] == (FINE, "max_attempts  has its default again\n")
    assert [(seen.method, seen.path) for seen in server.seen] == [
        ("GET", "/api/v1/org-config"), ("POST", "/org-config/acme/max_attempts"), ("DELETE", "/api/v1/org-config/max_attempts"),
    ]  # fmt: skip
    assert json.loads(server.seen[1].body) == {"value": 4, "version": 3}
