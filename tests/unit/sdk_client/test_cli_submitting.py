"""jobctl submit and bulk: what is sent, what is said, how it ends."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.unit.sdk_client.cli_kit import (
    FINE,
    LINES,
    NOT_COMPLETED,
    REFUSED,
    SUMMARY,
    USAGE,
    command,
    documents,
    environment,
    moved,
    present,
    task,
)
from tests.unit.sdk_client.test_client_bulk import accept
from tests.unit.sdk_client.wire_server import Reply, Stream, event, ndjson, problem


def test_submit_says_where_the_task_is(jobctl, server):
    server.will(Reply(201, task(status="dispatched", agent="ada", reason="delivered to ada")))
    status, out, err = jobctl(
        "submit", "--goal", "count", "--intent", "to know", "--priority", "7", "--space", "lab", "--payload", '{"a": 1}'
    )
    assert (status, err) == (FINE, "")
    assert out == "t1  dispatched  agent ada  delivered to ada\n"
    sent = server.seen[0].json
    assert sent.pop("task_id")
    assert sent == {
        "task_goal": "count", "task_intent": "to know", "task_priority_value": 7, "job_space_id": "lab",
        "task_job_submission_data": {"a": 1},
    }  # fmt: skip


def test_submit_takes_a_whole_entry_from_a_file_and_flags_override_it(jobctl, server, tmp_path):
    (tmp_path / "payload.json").write_text('{"from": "file"}')
    entry = tmp_path / "entry.json"
    entry.write_text(json.dumps({"type": "task", "data": {"task_id": "t1", "goal": "old", "task_intent": "why", "priority": 3}}))
    server.will(Reply(201, task()))
    extra = ("--set", "execution_mode=manual", "--set", "task_contracts_map={}", "--payload", f"@{tmp_path}/payload.json")
    status, out, _ = jobctl("submit", "--file", str(entry), "--goal", "new", *extra, "--json")
    assert status == FINE
    assert documents(out) == [{"task_id": "t1", "status": "queued", "subject_id": None, "reason": "", "repeated": False}]
    assert server.seen[0].json == {
        "task_id": "t1", "task_goal": "new", "task_intent": "why", "task_priority_value": 3, "task_execution_mode": "manual",
        "task_contracts_map": {}, "task_job_submission_data": {"from": "file"},
    }  # fmt: skip


def test_submit_that_a_policy_rejects_did_not_complete(jobctl, server):
    server.will(problem(422, "refused", "The task was refused.", task_id="t1", reason="too large"))
    status, out, _ = jobctl("submit", "--goal", "g", "--intent", "i", "--task-id", "t1")
    assert (status, out) == (NOT_COMPLETED, "t1  rejected  too large\n")


def test_submit_with_wait_shows_the_way_and_the_result(jobctl, server):
    progress = event("progress", {"task_id": "t1", "percent": 40, "message": "reading", "at": "2026-11-22T10:00:01.000Z"})
    end = moved("t1", "completed", "running", "2", reason="the agent completed it", agent="ada")
    server.will(
        Reply(201, task()), Stream([event("task", task()), moved("t1", "running", event_id="1", agent="ada"), progress, end]),
        Reply(200, task(status="completed", result={"words": 6})),
    )  # fmt: skip
    status, out, _ = jobctl("submit", "--goal", "g", "--intent", "i", "--task-id", "t1", "--wait")
    assert status == FINE
    assert [line.split("  ")[1:] for line in out.splitlines()[:4]] == [
        ["t1", "queued"], ["t1", "running", "agent ada"], ["t1", "40%", "reading"],
        ["t1", "completed", "agent ada", "the agent completed it"],
    ]  # fmt: skip
    assert '"words": 6' in out
    assert server.seen[0].query == [("wait", "0")]


def test_submit_with_wait_and_json_is_one_document(jobctl, server):
    server.will(Reply(201, task()), Reply(200, task()), Stream([event("task", task(status="failed"))]), Reply(200, task(status="failed")))
    status, out, _ = jobctl("submit", "--goal", "g", "--intent", "i", "--task-id", "t1", "--wait", "60", "--json")
    assert status == NOT_COMPLETED
    assert [one["status"] for one in documents(out)] == ["failed"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--goal", "g"), "--intent is needed"),
        ((), "--goal and --intent are needed"),
        (("--payload", "[1]"), "--payload is not a JSON object"),
        (("--payload", "{"), "--payload is not JSON"),
        (("--set", "x"), "--set takes NAME=VALUE"),
        (("--file", "/nowhere/x"), "/nowhere/x: No such"),
        (("--goal", "g", "--intent", "\udc9b"), "cannot be written as JSON"),
        (("--wait", "-1"), "invalid seconds value"),
        (("--nonsense",), "unrecognized"),
    ],
)  # fmt: skip
def test_a_wrong_use_is_explained_and_sends_nothing(jobctl, server, arguments, words):
    status, out, err = jobctl("submit", *arguments)
    assert (status, out) == (USAGE, "")
    assert words in err
    assert server.seen == []


def test_bulk_keeps_the_lines_of_the_file(jobctl, server, tmp_path):
    (tmp_path / "b").write_bytes(LINES)
    refused = {"line": 2, "task_id": "t2", "status": "rejected", "code": "refused", "reason": "too large"}
    invalid = {
        "line": 3,
        "status": "invalid",
        "code": "invalid",
        "errors": [{"field": "task_goal", "code": "missing", "message": "is required"}],
    }
    server.will(
        ndjson({"line": 1, "task_id": "t1", "status": "queued"}, refused, invalid),
        ndjson({"line": 1, "status": "queued"}, refused, invalid),
    )
    status, out, _ = jobctl("bulk", str(tmp_path / "b"), "--json")
    assert status == REFUSED
    *verdicts, last = documents(out)
    assert {one["line"]: (one["task_id"], one["status"]) for one in verdicts} == {
        1: ("t1", "queued"), 3: (None, "invalid"), 4: ("t2", "rejected"), 5: (None, "invalid"), 6: ("t3", "invalid"),
    }  # fmt: skip
    seconds = last["summary"].pop("seconds")
    assert seconds > 0
    assert last == {"summary": {"lines": 5, "accepted": 1, "rejected": 1, "invalid": 3, "repeated": 0}}
    status, out, _ = jobctl("bulk", str(tmp_path / "b"))
    first, *listed = out.splitlines()
    assert first.startswith("5 lines in ") and first.endswith(": 1 accepted, 1 rejected, 3 invalid")
    assert [line.split("  ")[1] for line in listed] == ["line 3", "line 4", "line 5", "line 6"]
    assert listed[1] == "  line 4  t2  rejected  too large"


@pytest.mark.parametrize(("become", "status"), [("queued", FINE), ("rejected", NOT_COMPLETED)])
def test_bulk_from_standard_input(server, become, status):
    server.will(ndjson({"line": 1, "task_id": "t1", "status": become}))
    line = LINES.splitlines(keepends=True)[0]
    run = subprocess.run(command("bulk", "-", "--json"), input=line, env=environment(server), capture_output=True, timeout=60)
    assert (run.returncode, run.stderr) == (status, b"")
    assert [one.get("status") for one in documents(run.stdout.decode())] == [become, None]


def test_bulk_with_watch_goes_on_to_the_end(jobctl, server, tmp_path):
    (tmp_path / "b").write_text("".join(json.dumps({"task_id": f"t{number}", "goal": "g", "intent": "i"}) + "\n" for number in (1, 2, 3)))
    news = [SUMMARY, moved("t2", "running"), moved("t9", "failed"), moved("t3", "completed"), moved("t2", "failed", reason="broken")]
    server.will(accept, Stream(news), *[present({"t1": "completed"})] * 3)
    status, out, err = jobctl("bulk", str(tmp_path / "b"), "--watch")
    assert status == NOT_COMPLETED, err
    lines = out.splitlines()
    assert lines[0].endswith(": 3 accepted")
    assert sorted(line.split("  ", 1)[1] for line in lines[1:-1]) == ["t1  completed", "t2  failed  broken", "t3  completed"]
    assert lines[-1] == "3 tasks:  2 completed, 1 failed"


def test_a_bulk_that_is_cut_off_says_how_far_it_came(jobctl, server, tmp_path):
    (tmp_path / "b").write_text("".join(json.dumps({"task_id": f"t{number}", "goal": "g", "intent": "i"}) + "\n" for number in (1, 2, 3)))

    server.will(ndjson({"line": 1, "status": "queued"}, {"line": 2, "status": "queued"}, breaks=True), problem(403, "forbidden", "No."))
    status, out, _ = jobctl("bulk", str(tmp_path / "b"))
    assert status == REFUSED
    assert out.startswith("2 lines in ")
