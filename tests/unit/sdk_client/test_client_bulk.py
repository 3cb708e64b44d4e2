"""Bulk submission: bounded requests, a verdict for every line, none lost to a broken connection and none given twice."""

from __future__ import annotations

import itertools

import pytest

from jobplatform_sdk import client_bulk
from jobplatform_sdk.client_bulk import Cutter
from jobplatform_sdk.client_errors import BadAnswer, Forbidden, Unavailable, Unreachable
from tests.unit.sdk_client.wire_server import Stream, ndjson, problem

SUMMARY = {"summary": {"lines": 0}}


def entries(count):
    return ({"task_id": f"t{number}", "goal": "g", "intent": "i"} for number in range(1, count + 1))


def accept(handler, seen):
    """What the platform does when all is well."""
    lines = [{"line": at, "task_id": one["task_id"], "status": "queued"} for at, one in enumerate(seen.lines, 1)]
    ndjson(*lines, SUMMARY)(handler, seen)


def test_every_entry_gets_its_verdict(client, server):
    wrong = {"field": "task_goal", "code": "missing", "message": "is required"}
    server.will(
        ndjson(
            {"line": 1, "task_id": "t1", "status": "queued", "reason": "approved"},
            {"line": 2, "task_id": "t2", "status": "rejected", "reason": "too large", "code": "refused"},
            {"line": 3, "task_id": None, "status": "invalid", "code": "invalid", "message": "Not valid.", "errors": [wrong]},
            {"line": 4, "task_id": "t4", "status": "completed", "repeated": True},
            SUMMARY,
        )
    )
    found = list(client.submit_many(entries(4)))
    assert [(one.line, one.task_id, one.status, one.stored, one.accepted) for one in found] == [
        (1, "t1", "queued", True, True), (2, "t2", "rejected", True, False),
        (3, "t3", "invalid", False, False), (4, "t4", "completed", True, True),
    ]  # fmt: skip
    assert found[1].why == "too large" and found[2].why == "task_goal: is required" and found[3].repeated
    [seen] = server.seen
    assert seen.headers["content-type"] == "application/x-ndjson"
    assert seen.lines[0] == {"task_id": "t1", "task_goal": "g", "task_intent": "i", "task_priority_value": 0}


def test_many_entries_go_in_many_requests_and_are_read_only_as_they_go(client, server, monkeypatch):
    monkeypatch.setattr(client_bulk, "LINES_MAX", 3)
    server.will(*[accept] * 3)
    read = []
    source = (read.append(one["task_id"]) or one for one in entries(8))
    found = client.submit_many(source)
    assert next(found).line == 1
    assert read == ["t1", "t2", "t3"]
    assert [(one.line, one.task_id) for one in found] == [(number, f"t{number}") for number in range(2, 9)]
    assert [len(seen.lines) for seen in server.seen] == [3, 3, 2]


def test_no_entries_no_request(client, server):
    assert list(client.submit_many([])) == []
    assert server.seen == []


def test_after_a_break_only_the_lines_without_a_verdict_are_sent_again(client, server):
    server.will(ndjson({"line": 1, "status": "queued"}, {"line": 2, "status": "queued"}, breaks=True), problem(503, "unavailable"), accept)
    assert [(one.line, one.task_id) for one in client.submit_many(entries(4))] == [(1, "t1"), (2, "t2"), (3, "t3"), (4, "t4")]
    assert [[one["task_id"] for one in seen.lines] for seen in server.seen] == [["t1", "t2", "t3", "t4"], ["t3", "t4"], ["t3", "t4"]]


def test_a_store_that_fails_midway_is_given_time(client, server):
    away = {"error": "The platform cannot answer right now.", "code": "unavailable", "lines_done": 1}
    server.will(ndjson({"line": 1, "status": "queued"}, away), accept)
    assert [one.line for one in client.submit_many(entries(3))] == [1, 2, 3]
    assert len(client.naps) == 1


def test_a_single_line_that_the_platform_could_not_take_is_sent_again(client, server):
    later = {"line": 2, "task_id": "t2", "status": "invalid", "code": "unavailable", "message": "Not now."}
    server.will(ndjson({"line": 1, "status": "queued"}, later, {"line": 3, "status": "queued"}, SUMMARY), accept)
    assert sorted(one.task_id for one in client.submit_many(entries(3))) == ["t1", "t2", "t3"]
    assert [one["task_id"] for one in server.seen[1].lines] == ["t2"]


def test_a_platform_that_stays_away_is_an_error_after_the_verdicts_it_gave(client, server):
    server.will(ndjson({"line": 1, "status": "queued"}, breaks=True), *[problem(503, "unavailable")] * 9)
    found = client.submit_many(entries(2))
    assert next(found).task_id == "t1"
    with pytest.raises(Unavailable):
        next(found)


def test_an_answer_that_forgets_lines_is_a_broken_one(client, server):
    server.will(*[ndjson(SUMMARY)] * 9)
    with pytest.raises(Unreachable, match="in the middle of its verdicts"):
        list(client.submit_many(entries(2)))
    assert len(server.seen) == 5


def test_a_key_that_may_not_submit_hears_it_at_once(client, server):
    server.will(problem(403, "forbidden", "This key's role does not allow that."))
    with pytest.raises(Forbidden):
        list(client.submit_many(entries(2)))


@pytest.mark.parametrize("bad", [b"<html>\n", b"[]\n", b'{"line": 9, "status": "queued"}\n', b'{"line": true}\n', b'{"line": 1}\n'])
def test_a_verdict_that_cannot_be_understood_is_an_error_of_its_own(client, server, bad):
    server.will(Stream([bad], content_type="application/x-ndjson"))
    with pytest.raises(BadAnswer):
        list(client.submit_many(entries(2)))


def test_a_verdict_given_twice_counts_once(client, server):
    server.will(ndjson({"line": 1, "status": "queued"}, {"line": 1, "status": "queued"}, {"line": 2, "status": "queued"}))
    assert [one.line for one in client.submit_many(entries(2))] == [1, 2]


def test_verdicts_may_come_in_any_pieces(client, server):
    raw = b'{"line": 1, "status": "queued"}\n\n{"line": 2, "status": "queued"}'
    server.will(Stream([raw[at : at + 5] for at in range(0, len(raw), 5)], content_type="application/x-ndjson"))
    assert [one.line for one in client.submit_many(entries(2))] == [1, 2]


@pytest.mark.parametrize("bad", [["a"], "text", None, {"payload": {1, 2}}])
def test_what_is_no_entry_is_the_callers_mistake(client, bad):
    with pytest.raises((TypeError, ValueError), match="Entry 2"):
        list(client.submit_many([{"task_id": "t1"}, bad]))


def test_a_slow_source_is_not_made_to_wait_for_a_full_request(monkeypatch):
    monkeypatch.setattr(client_bulk, "SLOW_SECONDS", 0.5)
    cutter = Cutter()
    assert cutter.add({"task_id": "a"}, 0.0) is None
    assert len(cutter.add({"task_id": "b"}, 1.0).call().body.splitlines()) == 2
    assert cutter.rest() is None


def test_a_request_stays_small_in_bytes_too():
    cutter = Cutter()
    big = ({"task_id": str(number), "payload": {"text": "x" * 400_000}} for number in itertools.count())
    batches = [cutter.add(next(big), 0.0) for _ in range(6)]
    assert [batch is not None for batch in batches] == [False, False, True] * 2


def test_lines_that_come_too_fast_are_sent_again_when_the_platform_said(client, server):
    late = {"line": 2, "task_id": "t2", "status": "invalid", "code": "rate_limited", "message": "Too many.", "retry_after_seconds": 7}
    server.will(ndjson({"line": 1, "task_id": "t1", "status": "queued"}, late, SUMMARY), accept)
    found = list(client.submit_many(entries(2)))
    assert [(one.line, one.task_id, one.status) for one in found] == [(1, "t1", "queued"), (2, "t2", "queued")]
    assert client.naps == [7.0]
