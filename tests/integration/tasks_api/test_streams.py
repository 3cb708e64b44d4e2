"""Server-sent events over real NATS: a snapshot, then every change, then the end."""

from __future__ import annotations

import contextlib

import orjson
import pytest

from apps.core import clock, events, streaming
from apps.tasks import arrivals
from apps.tasks.arrivals import Arrivals, Happening
from apps.tasks.events import TaskProgressed, TasksProgressed
from apps.tasks.models import Task, Transition
from apps.tasks.shapes import full
from apps.tasks.states import TaskStatus
from apps.tasks.store import Move, TaskStore
from tests.factories import make_org, make_task

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True)]
PATH = "/api/v1/tasks"
S = TaskStatus


def move(task: Task, *ends: TaskStatus, **fields) -> None:
    for end in ends:
        assert TaskStore().move_many([Move(task=task, end=end, reason=f"to {end}", actor="tests", fields=fields)], now=clock.now())


def progress(task: Task, percent: float) -> None:
    step = TaskProgressed(key=task.key, org_id=task.org_id, task_id=task.task_id, percent=percent, message="going", at=clock.now())
    events.publish(TasksProgressed(steps=(step,)))


class Reader:
    """Reads a response's events as a browser would."""

    def __init__(self, response) -> None:
        assert response.status_code == 200, response.content
        assert response["Content-Type"] == "text/event-stream"
        self.response = response
        self._chunks = iter(response.streaming_content)

    def __next__(self) -> tuple[str, dict, str]:
        """(event, data, id); beats are passed over."""
        while True:
            fields = dict(line.split(": ", 1) for line in next(self._chunks).decode().strip().split("\n"))
            if "event" in fields:
                return fields["event"], orjson.loads(fields["data"]), fields.get("id", "")

    def __iter__(self):
        return self


@contextlib.contextmanager
def reading(caller, path: str, **headers: str):
    response = caller.get(path, **headers)
    try:
        yield Reader(response)
    finally:
        response.close()


@pytest.fixture
def submitter(shared_acme, nats_wire, caller):
    return caller()


def test_a_stream_begins_with_the_task_and_ends_with_its_end(submitter):
    task = make_task("t1")
    with reading(submitter, f"{PATH}/t1/stream") as stream:
        name, snapshot, place = next(stream)
        assert (name, snapshot["task_id"], snapshot["status"], place) == ("task", "t1", "queued", task.last_transition_id)
        move(task, S.ASSIGNED, head_agent_subject_id="ada", attempt=1)
        name, data, _ = next(stream)
        assert (name, data["old"], data["status"], data["agent"], data["attempt"]) == ("status", "queued", "assigned", "ada", 1)
        progress(task, 40.0)
        assert [next(stream)[index] for index in (0,)] == ["progress"]
        move(task, S.DISPATCHED, S.RUNNING)
        move(task, S.COMPLETED, result={"words": 7})
        rest = list(stream)
    assert [data["status"] for _, data, _ in rest] == ["dispatched", "running", "completed"]
    assert (rest[-1][1]["result"], rest[-1][1]["reason"], "result" in rest[0][1]) == ({"words": 7}, "to completed", False)


def test_progress_tells_how_far_it_is(submitter):
    task = make_task("t1")
    with reading(submitter, f"{PATH}/t1/stream") as stream:
        next(stream)
        progress(task, 62.5)
        _, data, place = next(stream)
    assert (data["task_id"], data["percent"], data["message"], place) == ("t1", 62.5, "going", "")


def test_the_stream_of_a_task_that_has_ended_is_the_task(submitter):
    task = make_task("t1")
    move(task, S.CANCELLED)
    with reading(submitter, f"{PATH}/t1/stream") as stream:
        assert [(name, data["status"]) for name, data, _ in stream] == [("task", "cancelled")]


def test_who_comes_back_gets_what_he_missed(submitter):
    task = make_task("t1")
    move(task, S.ASSIGNED)
    known = task.last_transition_id
    move(task, S.DISPATCHED, S.COMPLETED)
    with reading(submitter, f"{PATH}/t1/stream", **{"Last-Event-ID": known}) as stream:
        assert [(name, data["status"]) for name, data, _ in stream] == [("status", "dispatched"), ("status", "completed")]


def test_who_comes_back_after_the_end_is_told_to_stay_away(submitter):
    task = make_task("t1")
    move(task, S.CANCELLED)
    assert submitter.get(f"{PATH}/t1/stream", **{"Last-Event-ID": task.last_transition_id}).status_code == 204


def test_a_place_we_never_gave_is_no_place(submitter):
    move(make_task("t1"), S.CANCELLED)
    for place in ("nonsense", "../../etc", "Z" * 32, "0" * 5000):
        with reading(submitter, f"{PATH}/t1/stream", **{"Last-Event-ID": place}) as stream:
            assert next(stream)[0] == "task"


def test_a_change_that_nobody_announced_is_found_at_the_next_beat(submitter):
    """News may be lost; the truth is not."""
    task = make_task("t1")
    happenings = Arrivals().follow(task, snapshot=full, beat_seconds=0.05)
    assert next(happenings).name == "task"
    Transition.objects.create(
        id="f" * 32, task_key=task.key, org_id="acme", old="queued", new="cancelled", reason="quietly", actor="tests", at=clock.now()
    )
    found = [happening for happening in happenings if happening is not None]
    assert [(happening.name, happening.data["reason"]) for happening in found] == [("status", "quietly")]


def test_a_silent_stream_shows_that_it_lives(submitter):
    happenings = Arrivals().follow(make_task("t1"), snapshot=full, beat_seconds=0.01)
    next(happenings)
    assert next(happenings) is None
    happenings.close()
    assert list(streaming.encoded(iter([None]))) == [b": beat\n\n"]


def test_an_events_data_is_one_line_whatever_the_text():
    (chunk,) = streaming.encoded(iter([Happening(name="status", id="1", data={"reason": "a\nevent: forged\r\n\ndata: {}"})]))
    assert chunk.decode().split("\n") == ["id: 1", "event: status", r'data: {"reason":"a\nevent: forged\r\n\ndata: {}"}', "", ""]


def test_the_orgs_stream_begins_with_counts_and_tells_of_all_its_tasks_and_no_others(submitter):
    make_org("umbrella")
    theirs = make_task("theirs", org_id="umbrella")
    with reading(submitter, f"{PATH}/stream") as stream:
        name, counts, _ = next(stream)
        assert (name, counts["total"]) == ("summary", 0)
        move(theirs, S.CANCELLED)
        one, two = make_task("one"), make_task("two")
        move(one, S.CANCELLED)
        progress(two, 5.0)
        told = [next(stream)[:2] for _ in range(4)]
    assert [(name, data["task_id"], data.get("status")) for name, data in told] == [
        ("status", "one", "queued"), ("status", "two", "queued"), ("status", "one", "cancelled"), ("progress", "two", None),
    ]  # fmt: skip


def test_a_reader_that_is_too_slow_is_told_what_it_lost(submitter, monkeypatch):
    monkeypatch.setattr(arrivals, "INBOX_LENGTH", 3)
    inbox = arrivals._Inbox("events.acme.>")
    for index in range(10):
        inbox._hear("", b"%d" % index)
    assert (inbox.wait(0), inbox.dropped) == ([7, 8, 9], 7)


def test_streams_are_bounded_and_a_seat_comes_back_when_the_reader_goes(submitter, monkeypatch):
    seats = streaming.Seats(1)
    monkeypatch.setattr(streaming, "seats", lambda: seats)
    make_task("t1")
    with reading(submitter, f"{PATH}/t1/stream"):
        for path in (f"{PATH}/t1/stream", f"{PATH}/stream"):
            crowded = submitter.get(path)
            assert (crowded.status_code, crowded.json()["code"], crowded["Retry-After"]) == (503, "too_many_waiting", "2")
    with reading(submitter, f"{PATH}/t1/stream") as stream:
        assert next(stream)[0] == "task"


def test_only_get_streams(submitter):
    make_task("t1")
    for path in (f"{PATH}/t1/stream", f"{PATH}/stream"):
        assert submitter.post(path, {}).status_code == 405
        assert submitter.client.head(path, headers={"Authorization": f"Bearer {submitter.key}"}).status_code == 405
