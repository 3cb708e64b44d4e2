"""One request, one answer: what is sent, how answers are read, and when it is tried again."""

from __future__ import annotations

import threading

import pytest

from jobplatform_sdk import client_calls
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_errors import (
    BadAnswer,
    Conflict,
    Forbidden,
    Invalid,
    NotEnded,
    NotFound,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from tests.unit.sdk_client.conftest import KEY
from tests.unit.sdk_client.wire_server import Reply, Stream, event, hang_up, problem

QUEUED = {"task_id": "t1", "status": "queued", "reason": "approved", "agent": None, "times": {"created": "2026-11-22T10:00:00.123Z"}}
DONE = QUEUED | {"status": "completed", "result": {"words": 6}, "agent": "ada", "attempt": 1}


def test_a_submission_says_what_became_of_the_task(client, server):
    server.will(Reply(201, QUEUED | {"status": "dispatched", "agent": "ada"}))
    more = {"payload": {"a": 1}, "job_space_id": "lab", "execution_mode": "hybrid"}
    found = client.submit(goal="count", intent="to know", task_id="t1", priority=3, **more)
    assert (found.task_id, found.status, found.subject_id, found.accepted, found.repeated) == ("t1", "dispatched", "ada", True, False)
    [seen] = server.seen
    assert (seen.method, seen.path, seen.query) == ("POST", "/api/v1/tasks", [("wait", "5")])
    assert seen.json == {
        "task_goal": "count", "task_intent": "to know", "task_priority_value": 3, "task_id": "t1", "task_job_submission_data": {"a": 1},
        "job_space_id": "lab", "task_execution_mode": "hybrid",
    }  # fmt: skip
    assert seen.headers["authorization"] == f"Bearer {KEY}"


def test_a_task_without_an_id_gets_one_and_keeps_it_when_sent_again(client, server):
    server.will(problem(503, "unavailable"), hang_up, Reply(201, QUEUED))
    client.submit(goal="g", intent="i")
    ids = [seen.json["task_id"] for seen in server.seen]
    assert len(ids) == 3 and len(set(ids)) == 1 and len(ids[0]) == 32
    assert len({seen.headers["x-request-id"] for seen in server.seen}) == 1


@pytest.mark.parametrize(("status", "code", "becomes"), [(422, "refused", "rejected"), (409, "unassignable", "failed")])
def test_a_policys_no_and_an_empty_pool_are_answers_and_no_errors(client, server, status, code, becomes):
    server.will(problem(status, code, "The task was refused.", task_id="t1", reason="too large"))
    found = client.submit(goal="g", intent="i", task_id="t1")
    assert (found.status, found.reason, found.accepted) == (becomes, "too large", False)


def test_a_repeat_says_so(client, server):
    server.will(Reply(200, DONE))
    assert client.submit(goal="g", intent="i", task_id="t1").repeated


FAMILIES = {400: Invalid, 413: Invalid, 415: Invalid, 422: Invalid, 401: Unauthenticated, 403: Forbidden, 404: NotFound, 409: Conflict}


@pytest.mark.parametrize(("status", "family"), FAMILIES.items())
def test_a_no_is_raised_at_once_with_everything_it_says(client, server, status, family):
    wrong = {"field": "task_goal", "code": "missing", "message": "is required"}
    server.will(problem(status, "some_code", "Not like this.", errors=[wrong]))
    with pytest.raises(family) as caught:
        client.submit(goal="", intent="i")
    error = caught.value
    assert (error.status, error.code, error.sentence, error.request_id) == (status, "some_code", "Not like this.", "r-1")
    assert [(e.field, e.code, e.message) for e in error.errors] == [("task_goal", "missing", "is required")]
    assert len(server.seen) == 1
    assert "task_goal: is required" in str(error)


def test_the_specs_error_shape_is_read_too(client, server):
    server.will(Reply(404, {"success": False, "error": "organization not found", "code": "not_found", "request_id": "r-2"}))
    with pytest.raises(NotFound, match="organization not found"):
        client.get("t1")


def test_outages_are_tried_again_with_growing_pauses(client, server):
    server.will(problem(500, "error"), problem(502, "bad_gateway"), hang_up, Reply(200, DONE))
    assert client.get("t1").result == {"words": 6}
    assert len(client.naps) == 3
    assert all(longest / 2 <= nap <= longest for nap, longest in zip(client.naps, (0.001, 0.002, 0.004), strict=True))


def test_the_time_that_the_platform_asks_for_is_given(client, server):
    server.will(problem(429, "too_many_requests", headers={"Retry-After": "3"}), Reply(200, DONE))
    assert client.get("t1").completed
    assert client.naps == [3.0]


def test_a_date_to_come_back_at_is_understood(client, server):
    server.will(problem(503, "unavailable", headers={"Retry-After": "Sun, 22 Nov 2020 10:00:00 GMT"}), Reply(200, DONE))
    assert client.get("t1").completed
    assert 0 < client.naps[0] < 1


def test_who_is_asked_to_wait_very_long_hears_of_it_instead(client, server):
    server.will(problem(503, "unavailable", headers={"Retry-After": "3600"}))
    with pytest.raises(Unavailable) as caught:
        client.get("t1")
    assert caught.value.retry_after == 3600 and client.naps == []


def test_patience_ends(client, server):
    server.will(*[problem(503, "unavailable", "The platform cannot answer right now.")] * 9)
    with pytest.raises(Unavailable, match="cannot answer right now"):
        client.get("t1")
    assert len(server.seen) == 5


def test_parts_are_submitted_and_listed_under_their_task(client, server):
    made = QUEUED | {"task_id": "s1", "kind": "sub_task", "parent_task_id": "t1"}
    server.will(Reply(201, made), Reply(200, {"items": [made], "next_cursor": None}))
    part = client.sub_task(
        "t1", goal="g", intent="i", parent_subject_ids=["ada"], assigned_subject_ids=["ann"], payload={"n": 1}, priority=3, sub_task_id="s1"
    )
    assert (part.kind, part.parent_task_id, part.sub_tasks) == ("sub_task", "t1", {})
    assert server.seen[0].path == "/api/v1/tasks/t1/sub-tasks"
    assert server.seen[0].json == {
        "sub_task_goal": "g", "sub_task_intent": "i", "parent_subject_ids": ["ada"], "assigned_subject_ids": ["ann"],
        "sub_task_job_submission_data": {"n": 1}, "sub_task_priority_value": 3, "sub_task_id": "s1",
    }  # fmt: skip
    assert [each.task_id for each in client.sub_tasks("t1", status="queued")] == ["s1"]
    assert server.seen[1].path.startswith("/api/v1/tasks/t1/sub-tasks")


def test_an_inbox_is_read(client, server):
    server.will(Reply(200, {"subject_id": "ann", "verifications": [QUEUED], "more": True}))
    inbox = client.inbox()
    assert (inbox.subject_id, inbox.more, [each.task_id for each in inbox.verifications], inbox.to_do) == ("ann", True, ["t1"], ())


def test_an_approval_is_not_sent_again_when_it_may_have_worked(client, server):
    server.will(hang_up, Reply(200, QUEUED))
    with pytest.raises(Unreachable):
        client.approve("t1", "looks fine")
    assert [seen.path for seen in server.seen] == ["/api/v1/tasks/t1/approve"]
    assert server.seen[0].json == {"reason": "looks fine"}


def test_an_approval_is_sent_again_when_it_cannot_have_worked(client, server):
    server.will(problem(503, "unavailable"), Reply(200, QUEUED))
    assert client.approve("t1").status == "queued"


def test_a_cancellation_is_safe_to_send_again(client, server):
    server.will(hang_up, Reply(200, QUEUED | {"status": "cancelled"}))
    assert client.cancel("t1").status == "cancelled"


@pytest.mark.parametrize("key", ["jp_1_s", "jp_1_s.header.claims.signature"])
def test_only_the_part_of_a_key_that_http_needs_leaves_the_machine(server, key):
    server.will(Reply(200, DONE))
    with Client(server.url, key) as client:
        client.get("t1")
    assert server.seen[0].headers["authorization"] == "Bearer jp_1_s"


def test_connections_are_kept(client, server):
    server.will(*[Reply(200, DONE)] * 5)
    for _ in range(5):
        client.get("t1")
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, b"<html>"), Reply(200, b""), Reply(200, []), Reply(200, {}), Reply(200, {"task_id": "t1", "status": 7}),
        Reply(200, DONE | {"times": 5}), Reply(200, DONE | {"times": {"created": "yesterday"}}), Reply(200, DONE | {"attempt": True}),
        Reply(302, b"", {"Location": "http://127.0.0.1:1/"}), Reply(404, b"<h1>Not here</h1>", {"Content-Type": "text/html"}),
        Reply(200, b"not gzip", {"Content-Encoding": "gzip"}),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_understood_is_an_error_of_its_own(client, server, answer):
    server.will(answer)
    with pytest.raises(BadAnswer):
        client.get("t1")
    assert len(server.seen) == 1


def test_half_an_answer_is_no_answer(client, server):
    def half(handler, seen):
        handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"task_id"')
        handler.close_connection = True

    server.will(half, Reply(200, DONE))
    assert client.get("t1").completed


def test_nobody_there_is_said_plainly(server):
    server.stop()
    with Client(server.url, KEY) as client, pytest.raises(Unreachable, match="Cannot connect to http://127.0.0.1:") as caught:
        client._sleep = lambda seconds: None
        client.get("t1")
    assert caught.value.status == 0 and caught.value.request_id


@pytest.mark.parametrize("task_id", ["", ".", "..", "bulk", "stream", "summary"])
def test_an_id_that_no_task_can_have_is_not_asked_for(client, server, task_id):
    with pytest.raises(NotFound):
        client.get(task_id)
    assert server.seen == []


def test_an_id_cannot_leave_its_place_in_the_path(client, server):
    server.will(problem(404, "not_found", "Not found."))
    with pytest.raises(NotFound):
        client.get("../org/x?y#z")
    assert server.seen[0].path == "/api/v1/tasks/..%2Forg%2Fx%3Fy%23z"


def test_lists_are_followed_page_after_page(client, server):
    def page(*ids, cursor=None):
        return Reply(200, {"items": [{"task_id": one, "status": "queued"} for one in ids], "next_cursor": cursor})

    server.will(page("t5", "t4", cursor="c1"), page("t3", "t2", cursor="c2"), page("t1"))
    found = client.tasks(status=["queued", "running"], agent="ada", submitter=None, page_size=2)
    assert [task.task_id for task in found] == ["t5", "t4", "t3", "t2", "t1"]
    assert server.seen[0].query == [("status", "queued"), ("status", "running"), ("agent", "ada"), ("limit", "2")]
    assert [dict(seen.query).get("cursor") for seen in server.seen] == [None, "c1", "c2"]


def test_a_list_is_not_read_further_than_asked(client, server):
    server.will(Reply(200, {"items": [{"task_id": "t1", "status": "queued"}], "next_cursor": "c1"}))
    assert len(list(client.tasks(limit=1))) == 1
    assert len(server.seen) == 1


def test_the_summary_and_the_history_are_read(client, server):
    server.will(Reply(200, {"counts": {"queued": 2, "completed": 5}, "open": 2, "total": 7}))
    assert client.summary() == {"queued": 2, "completed": 5}
    server.will(Reply(200, {"items": [{"kind": "transition", "at": "2026-11-22T10:00:00.123Z", "new": "queued"}]}))
    [item] = client.events("t1")
    assert (item.kind, item.at.year, item.data["new"]) == ("transition", 2026, "queued")


@pytest.mark.parametrize("wait", [-1, 31, float("nan")])
def test_a_wait_out_of_range_is_the_callers_mistake(client, wait):
    with pytest.raises(ValueError, match="wait is from 0 to 30"):
        client.submit(goal="g", intent="i", wait=wait)


@pytest.mark.parametrize("url", ["", "ftp://x", "127.0.0.1:8000", "http://", "http://u:p@host", "http://host/?a=b", "http://host:99999"])
def test_a_bad_url_is_said_before_anything_is_sent(url, monkeypatch):
    monkeypatch.delenv("JOBPLATFORM_URL", raising=False)
    with pytest.raises(ValueError, match="platform"):
        Client(url, KEY)


def test_settings_come_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("JOBPLATFORM_URL", server.url + "/")
    monkeypatch.setenv("JOBPLATFORM_API_KEY", KEY)
    server.will(Reply(200, DONE))
    with Client() as client:
        assert client.get("t1").completed
    monkeypatch.delenv("JOBPLATFORM_API_KEY")
    with pytest.raises(ValueError, match="JOBPLATFORM_API_KEY"):
        Client()


def test_waiting_ends_with_the_finished_task(client, server):
    moved = event("status", {"task_id": "t1", "old": "running", "status": "completed"}, "9")
    server.will(Reply(200, QUEUED), Stream([event("task", QUEUED), moved]), Reply(200, DONE))
    task = client.wait("t1", timeout=20)
    assert (task.status, task.result) == ("completed", {"words": 6})


def test_waiting_goes_on_by_looking_when_too_many_are_streaming(client, server):
    busy = problem(503, "unavailable", headers={"Retry-After": "2"})
    server.will(Reply(200, QUEUED), busy, Reply(200, QUEUED), busy, Reply(200, DONE))
    assert client.wait("t1", timeout=20).completed
    assert client.naps == [2.0, 2.0]


def test_waiting_looks_again_now_and_then_should_news_be_lost(client, server, monkeypatch):
    monkeypatch.setattr(client_calls, "LOOK_AGAIN_SECONDS", 0.05)
    never = threading.Event()
    server.will(Reply(200, QUEUED), Stream([event("task", QUEUED)], until=never), Reply(200, DONE))
    assert client.wait("t1", timeout=20).completed
    never.set()


def test_waiting_gives_up_in_time_although_the_stream_lives(client, server):
    never = threading.Event()
    server.will(Reply(200, QUEUED), Stream([event("task", QUEUED)], until=never), Reply(200, QUEUED))
    with pytest.raises(TimeoutError, match="still queued after 0.05 s") as caught:
        client.wait("t1", timeout=0.05)
    never.set()
    assert isinstance(caught.value, NotEnded) and caught.value.facts["task"].task_id == "t1"
