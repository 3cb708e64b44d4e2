"""Server-sent events: parsed by the standard, taken up again after a break."""

from __future__ import annotations

import itertools

import pytest

from jobplatform_sdk.client_errors import BadAnswer, NotFound, Unavailable, Unreachable
from jobplatform_sdk.client_streams import EventParser
from tests.unit.sdk_client.wire_server import Reply, Stream, event, hang_up, problem


def snapshot(status="queued", event_id=""):
    return event("task", {"task_id": "t1", "status": status}, event_id)


def moved(old, new, event_id, **more):
    return event("status", {"task_id": "t1", "old": old, "status": new, **more}, event_id)


TEXT = (
    b'\xef\xbb\xbf: hello\r\n\r\nid: 1\r\nevent: status\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
    b"event:x\rdata:\xc3\xa9\r\rdata\n\nid: 2\ndata: z\n\n"
)
EVENTS = [("status", "1", b'{"a":\n1}'), ("x", "1", "é".encode()), ("message", "1", b""), ("message", "2", b"z")]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_events_are_the_same_however_the_bytes_are_cut(size):
    parser = EventParser()
    found = [one for at in range(0, len(TEXT), size) for one in parser.take(TEXT[at : at + size])]
    assert found == EVENTS


def test_half_an_event_is_no_event():
    assert EventParser().take(b"data: 1\n") == []


def test_following_ends_with_the_task(client, server):
    progress = event("progress", {"task_id": "t1", "percent": 40, "message": "reading"})
    running, completed = moved("queued", "running", "1", agent="ada"), moved("running", "completed", "2", result=7)
    server.will(Stream([snapshot(), b": beat\n\n", running, progress, completed]))
    found = list(client.follow("t1"))
    assert [(one.kind, one.status, one.percent) for one in found] == [
        ("task", "queued", 0), ("status", "running", 0), ("progress", "", 40), ("status", "completed", 0),
    ]  # fmt: skip
    assert found[-1].result == 7 and found[-1].ended and not found[0].ended
    assert server.seen[0].path == "/api/v1/tasks/t1/stream" and "last-event-id" not in server.seen[0].headers


def test_a_task_that_has_ended_is_followed_to_where_it_is(client, server):
    server.will(Stream([snapshot("failed")]))
    assert [one.status for one in client.follow("t1")] == ["failed"]


def test_a_broken_stream_is_taken_up_where_it_broke(client, server):
    server.will(
        Stream([snapshot(), moved("queued", "assigned", "1"), moved("assigned", "dispatched", "2")], breaks=True),
        problem(503, "unavailable", headers={"Retry-After": "1"}),
        hang_up,
        Stream([moved("assigned", "dispatched", "2"), moved("dispatched", "running", "3")]),
        Stream([moved("running", "completed", "4")]),
    )
    assert [one.status for one in client.follow("t1")] == ["queued", "assigned", "dispatched", "running", "completed"]
    assert [seen.headers.get("last-event-id") for seen in server.seen] == [None, "2", "2", "2", "3"]


def test_what_the_snapshot_told_is_not_told_again(client, server):
    server.will(Stream([snapshot("queued", "1"), moved("", "queued", "1")], breaks=True), Stream([moved("queued", "failed", "2")]))
    assert [one.status for one in client.follow("t1")] == ["queued", "failed"]
    assert server.seen[1].headers["last-event-id"] == "1"


def test_nothing_more_to_tell_is_an_end(client, server):
    server.will(Stream([snapshot("queued", "1")], breaks=True), Reply(204, b""))
    assert [one.status for one in client.follow("t1")] == ["queued"]


def test_a_page_instead_of_a_stream_is_not_the_platform(client, server):
    server.will(Reply(302, b"<html>", {"Content-Type": "text/html"}))
    with pytest.raises(BadAnswer):
        list(client.follow("t1"))


def test_an_event_cut_in_half_by_a_break_is_not_glued_to_the_next(client, server):
    half = moved("queued", "running", "1")[:30]
    server.will(Stream([snapshot(), half], breaks=True), Stream([snapshot(), moved("queued", "failed", "2")]))
    assert [one.status for one in client.follow("t1")] == ["queued", "queued", "failed"]


def test_a_stream_that_never_comes_back_is_an_error(client, server):
    server.will(Stream([snapshot()], breaks=True), *[hang_up] * 9)
    with pytest.raises(Unreachable):
        list(client.follow("t1"))
    server.script.clear()
    server.will(*[problem(503, "unavailable")] * 9)
    with pytest.raises(Unavailable):
        list(client.follow("t1"))


def test_an_unknown_task_is_not_followed(client, server):
    server.will(problem(404, "not_found", "Not found."))
    with pytest.raises(NotFound):
        list(client.follow("t1"))


@pytest.mark.parametrize("bad", [b"data: {\nevent: task\n\n", b'event: task\ndata: {"task_id": 5}\n\n', b"event: status\ndata: []\n\n"])
def test_an_event_that_cannot_be_understood_is_an_error_of_its_own(client, server, bad):
    server.will(Stream([bad]))
    with pytest.raises(BadAnswer):
        list(client.follow("t1"))


def test_an_event_of_a_newer_platform_is_left_alone(client, server):
    server.will(Stream([b"event: weather\ndata: 5\n\n", snapshot("completed")]))
    assert [one.kind for one in client.follow("t1")] == ["task"]


def test_the_news_of_all_tasks_goes_on_after_tasks_end_and_after_breaks(client, server):
    summary = event("summary", {"counts": {"queued": 1, "completed": 0}})
    server.will(
        Stream([summary, moved("running", "completed", "1"), event("lagged", {"dropped": 3})], breaks=True),
        Stream([summary, moved("running", "failed", "2")]),
    )
    found = list(itertools.islice(client.follow_all(), 5))
    assert [one.kind for one in found] == ["summary", "status", "lagged", "summary", "status"]
    assert found[0].counts == {"queued": 1, "completed": 0} and found[2].dropped == 3
    assert [seen.path for seen in server.seen] == ["/api/v1/tasks/stream"] * 2
    assert all("last-event-id" not in seen.headers for seen in server.seen)
