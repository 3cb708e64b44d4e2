"""Policies and backtests from the client and jobctl."""

from __future__ import annotations

import json

import pytest

from jobplatform_sdk.cli import policies
from jobplatform_sdk.cli.screen import Exit
from tests.unit.sdk_client.wire_server import Reply

VERSION = {"script_id": "approval/small", "version": 2, "status": "draft", "hook": "approval", "tests_count": 1}
RESULT = {
    "runs": 3, "flipped": 2, "changes": {"accept -> reject": 2}, "took_s": 0.5,
    "errors": {"draft": 1, "messages": [{"message": "line 2: no", "count": 1}]}, "queue": {"kendall_tau": 0.9, "moved": 2},
}  # fmt: skip
BACKTEST = {"id": "b1", "script_id": "approval/small", "version": 2, "status": "done", "runs_seen": 3, "runs_total": 3, "error": ""}
SIDE = {"decision": "accept", "reason": "fine\x1b[31m", "error": ""}
FLIP = {"task_id": "t1", "change": "accept -> reject", "old": SIDE, "new": {**SIDE, "decision": "reject"}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(policies, "LOOK_SECONDS", 0)


def test_a_backtest_is_started_waited_for_and_shown(jobctl, server):
    server.will(
        Reply(202, {**BACKTEST, "status": "queued", "result": None}),
        Reply(200, {**BACKTEST, "summary": "2 of 3 recorded decisions would be another.", "result": RESULT}),
        Reply(200, {"items": [FLIP]}),
    )
    status, out, err = jobctl("backtest", "approval/small", "--version", "2", "--since", "2026-11-22T12:00:00Z", "--task", "t1")
    assert status == Exit.FINE and "2 flip" in out and "accept -> reject" in out and "tau 0.9" in out and "\x1b" not in out
    assert "2 of 3 recorded decisions would be another." in out
    sent = server.seen[0]
    assert sent.path == "/api/v1/policies/approval/small/backtest"
    assert sent.json == {"version": 2, "since": "2026-11-22T12:00:00+00:00", "task_ids": ["t1"]}
    assert "the first 1 of 2" in err


def test_a_backtest_that_could_not_be_finished_is_told_by_the_exit_status(jobctl, server):
    server.will(Reply(200, {**BACKTEST, "status": "failed", "error": "it broke its limits", "result": None, "flips": []}))
    status, _, err = jobctl("backtest", "approval/small")
    assert status == Exit.NOT_COMPLETED and "it broke its limits" in err


def test_a_script_is_registered_with_the_tests_beside_it(jobctl, server, tmp_path):
    file = tmp_path / "small.star"
    file.write_text("def approve(task): return {}")
    tests = [{"name": "x", "input": {}, "expect": {"accepted": True}}]
    file.with_suffix(".tests.json").write_text(json.dumps(tests))
    server.will(Reply(201, VERSION))
    status, out, _ = jobctl("policies", "register", "approval/small", str(file), "--hook", "approval")
    assert status == Exit.FINE and "approval/small@2" in out
    assert server.seen[0].json == {"script_id": "approval/small", "hook": "approval", "source": file.read_text(), "tests": tests}


def test_tests_that_fail_are_shown_and_told_by_the_exit_status(jobctl, server):
    bad = {"name": "large", "passed": False, "expected": {"accepted": True}, "actual": {"accepted": False}, "error": "", "duration_us": 9,
           "note": "no terms of our auctions: reserve"}  # fmt: skip
    server.will(Reply(200, {**VERSION, "passed": 0, "failed": 1, "tests": [bad]}))
    status, out, _ = jobctl("policies", "test", "approval/small")
    assert status == Exit.NOT_COMPLETED and 'expected {"accepted": true}, got {"accepted": false}' in out and "reserve" in out


def test_versions_are_listed_compared_and_activated(jobctl, server):
    line = {"script_id": "approval/small", "hook": "approval", "built_in": False, "active_version": None, "latest_version": 2}
    server.will(
        Reply(200, {"items": [line], "next_cursor": None}),
        Reply(200, {"diff": "--- a\n+++ b\n+x\n"}),
        Reply(200, {**VERSION, "status": "active"}),
    )
    assert "approval/small" in jobctl("policies")[1]
    assert "+x" in jobctl("policies", "diff", "approval/small")[1]
    assert "active" in jobctl("policies", "activate", "approval/small", "2")[1]
    assert [one.path.removeprefix("/api/v1/policies") for one in server.seen] == ["", "/approval/small/diff", "/approval/small/activate"]
    server.will(
        Reply(200, {**VERSION, "status": "active", "active_version": 2, "named_by": []}),
        Reply(200, {**VERSION, "status": "retired", "active_version": None, "named_by": ["approval_dsl_id"]}),
    )
    assert "no configuration key names it" in jobctl("policies", "activate", "approval/small", "2")[2]
    assert "approval_dsl_id names it, and no version of it is active" in jobctl("policies", "retire", "approval/small", "2")[2]


@pytest.mark.parametrize("wrong", [["show"], ["activate", "a"], ["activate", "a", "x"], ["register", "a"], ["register", "a", "f.star"]])
def test_what_is_missing_is_a_wrong_usage(jobctl, wrong):
    assert jobctl("policies", *wrong)[0] == Exit.USAGE
