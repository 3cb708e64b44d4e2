"""jobctl watch, tasks, show, and the verbs that steer."""

from __future__ import annotations

import re
import threading

import pytest

from tests.unit.sdk_client.cli_kit import (
    FINE,
    HISTORY,
    NOT_COMPLETED,
    REFUSED,
    SUMMARY,
    documents,
    moved,
    present,
    task,
)
from tests.unit.sdk_client.wire_server import Reply, Stream, event, problem


@pytest.mark.parametrize(("end", "status"), [("completed", FINE), ("failed", NOT_COMPLETED), ("cancelled", NOT_COMPLETED)])
def test_watching_one_task_ends_with_it(jobctl, server, end, status):
    server.will(Stream([event("task", task()), moved("t1", end, event_id="1")]))
    found, out, _ = jobctl("watch", "t1", "--json")
    assert found == status
    assert [(one["event"], one["status"]) for one in documents(out)] == [("task", "queued"), ("status", end)]


def test_watching_several_ends_with_the_last(jobctl, server):
    news = [SUMMARY, moved("t2", "completed"), moved("other", "failed"), moved("t1", "completed")]
    server.will(Stream(news), *[present()] * 2)
    status, out, _ = jobctl("watch", "t1", "t2", "t1")
    assert status == FINE
    assert [line.split("  ")[1:3] for line in out.splitlines()[2:]] == [["t2", "completed"], ["t1", "completed"]]


def test_an_unknown_one_among_several_is_told_at_the_end(jobctl, server):
    server.will(Stream([SUMMARY]), *[present({"t1": "completed", "nope": None})] * 2)
    status, _, err = jobctl("watch", "t1", "nope")
    assert (status, err) == (REFUSED, "jobctl: nope: Not found.\n")


def test_watching_goes_on_by_looking_when_too_many_are_streaming(jobctl, server, monkeypatch):
    monkeypatch.setattr("jobplatform_sdk.client_calls.Patience.pause", lambda self, failures: 0.0)
    server.will(*[problem(503, "unavailable")] * 10, *[present({"t1": "completed", "t2": "completed"})] * 2)
    assert jobctl("watch", "t1", "t2")[0] == FINE


def test_watching_stops_when_its_time_is_over(jobctl, server):
    never = threading.Event()
    server.will(Stream([event("task", task())], until=never))
    status, _, err = jobctl("watch", "t1", "--timeout", "0.2")
    never.set()
    assert (status, err) == (NOT_COMPLETED, "jobctl: t1 had not ended after 0.2 s\n")


def test_watching_everybody_shows_who_is_at_work_and_who_moves(jobctl, server):
    never = threading.Event()
    server.will(
        Stream([SUMMARY, moved("t2", "assigned", agent="bo")], until=never), Reply(200, {"items": [task("t1", "running", agent="ada")]})
    )
    status, out, _ = jobctl("watch", "--timeout", "1")
    never.set()
    assert status == FINE
    counts, *lines = out.splitlines()
    assert counts == "2 queued, 7 completed"
    assert [line.split("  ", 1)[1] for line in lines] == ["t1  running  agent ada", "t2  assigned  agent bo"]


def test_tasks_are_a_table_that_a_pipe_gets_whole(jobctl, server):
    rows = [task("t1", "running", progress=40, agent="ada", goal="g" * 300), task("a-longer-id", "failed")]
    server.will(Reply(200, {"items": rows, "next_cursor": None}))
    status, out, err = jobctl(
        "tasks", "--status", "failed", "--status", "running", "--agent", "ada", "--prefix", "t", "--since", "2026-11-22T10:00Z"
    )
    assert (status, err) == (FINE, "")
    title, one, two = out.splitlines()
    assert title.split() == ["TASK", "STATUS", "PRIORITY", "AGENT", "AGE", "TOOK", "GOAL"]
    assert one.startswith("t1           running 40%  5         ada ") and one.endswith("g" * 300)
    assert two.index("failed") == one.index("running")
    assert server.seen[0].query == [
        ("status", "failed"), ("status", "running"), ("agent", "ada"),
        ("created_from", "2026-11-22T10:00:00+00:00"), ("q", "t"), ("limit", "51"),
    ]  # fmt: skip


def test_tasks_for_programs_are_a_line_each(jobctl, server):
    server.will(Reply(200, {"items": [task("t2"), task("t1")], "next_cursor": "c"}), Reply(200, {"items": [task("t0")]}))
    status, out, _ = jobctl("tasks", "--json", "--limit", "0", "--open")
    assert status == FINE
    assert [one["task_id"] for one in documents(out)] == ["t2", "t1", "t0"]
    assert ("status", "awaiting_approval") in server.seen[0].query and ("status", "failed") not in server.seen[0].query


def test_tasks_says_when_there_are_more_and_when_there_are_none(jobctl, server):
    server.will(Reply(200, {"items": [task("t2"), task("t1")]}), Reply(200, {"items": []}))
    _, out, err = jobctl("tasks", "--limit", "1")
    assert len(out.splitlines()) == 2 and "--limit" in err
    assert jobctl("tasks") == (FINE, "", "jobctl: no tasks\n")


def test_show_tells_the_whole_story(jobctl, server):
    assignment = {"attempt": 1, "agent": "ada", "strategy": "static", "because": "she is the one", "at": None}
    whole = task(
        "t1", "completed", agent="ada", attempt=1, max_attempts=5, submitter_priority=1, result={"words": 6}, assignment=assignment
    )
    server.will(Reply(200, whole), Reply(200, HISTORY), Reply(200, whole), Reply(200, HISTORY))
    status, out, _ = jobctl("show", "t1")
    assert status == FINE
    for words in (
        "t1  completed", "priority   5 (submitted with 1)", "why        static: she is the one", "attempt    1 of 5", '"words": 6',
        "approval  approval/x version 2  {\"accepted\":true}", "queued  fine  by sam", "attempt 1  ada  static: she is the one",
        "ada  progress  40% hm", "bo  completed  stale", "a newer platform",
    ):  # fmt: skip
        assert words in out
    status, out, _ = jobctl("show", "t1", "--json")
    [document] = documents(out)
    assert document["events"] == HISTORY["items"] and document["result"] == {"words": 6}


def test_people_decide_and_look_into_their_inbox(jobctl, server):
    server.will(Reply(200, task("t1", "dispatched")), Reply(409, {"code": "not_yours", "detail": "This is for somebody else to decide."}))
    assert jobctl("assign", "t1", "--to", "ann", "--reason", "free")[0] == FINE
    assert jobctl("verify", "send_back", "t2", "--reason", "why?")[0] == REFUSED
    assert [(seen.path, seen.json) for seen in server.seen] == [
        ("/api/v1/tasks/t1/assign", {"subject_id": "ann", "reason": "free"}),
        ("/api/v1/tasks/t2/verify", {"verdict": "send_back", "reason": "why?"}),
    ]
    server.will(Reply(200, {"subject_id": "ann", "to_do": [task("t3", "dispatched")], "approvals": [task("t4", "awaiting_approval")]}))
    status, out, _ = jobctl("inbox")
    assert status == FINE and re.search(r"to do\s+t3", out) and re.search(r"to approve\s+t4", out)
    server.will(Reply(200, {"subject_id": "ann"}))
    assert jobctl("inbox")[2] == "jobctl: nothing to do\n"


@pytest.mark.parametrize("verb", ["cancel", "approve", "reject"])
def test_steering_goes_on_after_a_no(jobctl, server, verb):
    server.will(problem(409, "already_ended", "The task has already ended."), Reply(200, task("t2", "cancelled")))
    status, out, err = jobctl(verb, "t1", "t2", "--reason", "enough")
    assert (status, out, err) == (REFUSED, "t2  cancelled\n", "jobctl: t1: The task has already ended.\n")
    assert [(seen.path, seen.json) for seen in server.seen] == [
        (f"/api/v1/tasks/{one}/{verb}", {"reason": "enough"}) for one in ("t1", "t2")
    ]
