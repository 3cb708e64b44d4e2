"""POST /api/v1/tasks/bulk: a verdict a line, in order, whatever the lines are."""

from __future__ import annotations

import io

import orjson
import pytest

from apps.core.errors import Unavailable
from apps.core.http import LIMITS
from apps.tasks.api import bulk as api_bulk
from apps.tasks.api.bulk import BulkRun, read_lines
from apps.tasks.api.courtesy import Courtesy
from apps.tasks.intake import TaskIntake
from apps.tasks.models import Task
from apps.tasks.queue import PriorityQueue
from tests.factories import make_entry
from tests.integration.tasks_api.conftest import Caller

pytestmark = pytest.mark.store
PATH = "/api/v1/tasks/bulk"


def wishing(wish: str, **fields):
    return make_entry(task_job_submission_data={"wish": wish}, **fields)


def test_every_line_gets_its_verdict_in_order(submitter):
    said = submitter.bulk(
        wishing("yes", task_id="a"),
        wishing("no", task_id="b"),
        b"  ",
        b"{nonsense",
        wishing("ask", task_id="c"),
        {**make_entry(task_id="d"), "task_priority_value": "high", "status": "queued"},
        wishing("yes", task_id="a"),
        wishing("yes", task_id="a", task_goal="other"),
        wishing("yes", task_id="e", submitter_subject_id="umbrella:eve"),
        b"[1]",
        make_entry(task_id="f", task_completion_timeline={"due": "2020-01-01T00:00:00Z"}),
    )
    summary = said.pop()
    assert [(line["line"], line["task_id"], line["status"], line.get("code")) for line in said] == [
        (1, "a", "queued", None),
        (2, "b", "rejected", "refused"),
        (4, None, "invalid", "malformed"),
        (5, "c", "awaiting_approval", None),
        (6, "d", "invalid", "invalid"),
        (7, "a", "queued", None),
        (8, "a", "invalid", "other_body"),
        (9, "e", "invalid", "not_found"),
        (10, None, "invalid", "invalid"),
        (11, "f", "invalid", "invalid"),
    ]
    assert [line["reason"] for line in said if "reason" in line] == ["fine", "not this one", "let a person see it", "fine"]
    wrong = {problem["field"]: problem["code"] for problem in said[4]["errors"]}
    assert wrong == {"task_priority_value": "wrong_type", "status": "server_owned"}
    assert said[5]["repeated"] is True
    assert said[9]["errors"][0]["code"] == "past"
    assert summary == {
        "summary": {
            "lines": 10, "accepted": 3, "rejected": 1, "repeated": 1, "invalid": 6,
            "statuses": {"queued": 2, "rejected": 1, "awaiting_approval": 1, "invalid": 6},
        }
    }  # fmt: skip
    assert set(Task.objects.values_list("task_id", flat=True)) == {"a", "b", "c"}
    assert PriorityQueue().size("acme") == 1


def test_no_line_at_all_is_no_request_and_blank_lines_are_an_empty_summary(submitter):
    assert submitter.post(PATH, b"", content_type="application/x-ndjson").status_code == 400
    (summary,) = submitter.bulk(b"", b" ", b"")
    assert summary == {"summary": {"lines": 0, "accepted": 0, "rejected": 0, "repeated": 0, "invalid": 0, "statuses": {}}}


def test_the_last_line_needs_no_newline_and_carriage_returns_do_no_harm(submitter):
    first, second = orjson.dumps(make_entry(task_id="a")), orjson.dumps(make_entry(task_id="b"))
    assert [line["status"] for line in submitter.bulk(first + b"\r", second + b"\n\n")[:-1]] == ["queued", "queued"]


def test_more_than_a_chunk_keeps_its_order(submitter):
    said = submitter.bulk(*(make_entry(task_id=f"t{index:04}") for index in range(1100)))
    assert [line["task_id"] for line in said[:-1]] == [f"t{index:04}" for index in range(1100)]
    assert said[-1]["summary"]["accepted"] == 1100
    claimed = PriorityQueue().claim("acme", {"": 2000}, limit=2000, now=Task.objects.first().created_at)
    assert [claim.key for claim in claimed] == [f"acme/t{index:04}" for index in range(1100)]


def test_the_same_body_again_is_only_repeats(submitter):
    entries = [make_entry() for _ in range(20)]
    submitter.bulk(*entries)
    again = submitter.bulk(*entries)
    assert (again[-1]["summary"]["repeated"], Task.objects.count()) == (20, 20)


def test_who_may_and_what_media(acme, caller, submitter, client):
    line = orjson.dumps(make_entry())
    assert client.post(PATH, line, content_type="application/x-ndjson").status_code == 401
    assert submitter.post(PATH, line).status_code == 415
    assert submitter.post(PATH, line, content_type="application/x-ndjson", **{"Content-Encoding": "gzip"}).status_code == 415
    assert submitter.get(PATH).status_code == 405
    assert Task.objects.count() == 0


@pytest.fixture(autouse=True)
def alone(monkeypatch) -> None:
    """Whatever single task another test has just sent: with company, chunks would be small."""
    monkeypatch.setattr(api_bulk, "courtesy", Courtesy())


# ---- as they arrive ---------------------------------------------------------------------------------------


class Trickle(io.RawIOBase):
    """A body in small pieces, that counts how far it has been read."""

    def __init__(self, raw: bytes, step: int) -> None:
        self.raw, self.step, self.at = raw, step, 0

    def read(self, size: int = -1) -> bytes:
        assert 0 < size <= 1024 * 1024, "a body is never read whole"
        part = self.raw[self.at : self.at + min(size, self.step)]
        self.at += len(part)
        return part


@pytest.mark.parametrize("step", [1, 7, 64 * 1024])
def test_lines_are_found_wherever_the_pieces_break(step):
    raw = b"one\n\n  \ntwo\r\nthree"
    assert [(line.number, line.raw) for line in read_lines(Trickle(raw, step))] == [(1, b"one"), (4, b"two\r"), (5, b"three")]


def test_a_line_that_is_too_long_is_passed_over_without_being_kept():
    huge = b'{"a":"' + b"x" * (LIMITS.body + 200_000) + b'"}'
    lines = list(read_lines(Trickle(b"one\n" + huge + b"\ntwo\n" + huge, 50_000)))
    assert [(line.number, line.raw) for line in lines] == [(1, b"one"), (2, None), (3, b"two"), (4, None)]


def test_a_line_that_is_too_long_is_told(submitter):
    huge = b'{"a":"' + b"x" * (LIMITS.body + 10) + b'"}'
    said = submitter.bulk(make_entry(task_id="a"), huge, make_entry(task_id="b"))
    assert [(line["line"], line["status"], line.get("code")) for line in said[:-1]] == [
        (1, "queued", None), (2, "invalid", "too_large"), (3, "queued", None),
    ]  # fmt: skip


def test_verdicts_leave_while_lines_still_arrive(sam):
    raw = b"\n".join(orjson.dumps(make_entry()) for _ in range(2000))
    body = Trickle(raw, 10_000)
    pieces = BulkRun(sam).verdicts(body)
    assert next(pieces).count(b"\n") == 500
    assert body.at < len(raw) / 2


def test_a_client_that_does_not_read_yet_is_not_made_to(monkeypatch):
    """It could not take more verdicts before it has sent all: what it may not be able to hold is kept until then."""
    monkeypatch.setattr(api_bulk, "FLOWING_BYTES", 1000)
    taken: list[int] = []

    def pieces():
        for index in range(100):
            taken.append(index)
            yield b"%099d\n" % index

    answer = api_bulk._flowing(b"%099d\n" % -1, pieces())
    out = [next(answer) for _ in range(10)]
    assert len(taken) == 9
    out.append(next(answer))
    assert len(taken) == 100
    lines = b"".join([*out, *answer]).splitlines()
    assert [int(line) for line in lines] == list(range(-1, 100))


# ---- when a store fails -----------------------------------------------------------------------------------


class Failing(TaskIntake):
    """The store goes away after so many chunks."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def submit_many(self, *arguments, **options):
        self.left -= 1
        if self.left < 0:
            raise Unavailable()
        return super().submit_many(*arguments, **options)


def body(count: int) -> io.BytesIO:
    return io.BytesIO(b"\n".join(orjson.dumps(make_entry()) for _ in range(count)))


def test_a_store_that_is_away_from_the_start_is_an_error_and_not_a_stream(sam):
    with pytest.raises(Unavailable):
        next(BulkRun(sam, intake=Failing(0)).verdicts(body(3)))


def test_a_store_that_goes_away_midway_is_the_last_line(sam):
    lines = b"".join(BulkRun(sam, intake=Failing(1)).verdicts(body(700))).splitlines()
    assert len(lines) == 501
    assert orjson.loads(lines[-1]) == {"error": Unavailable.sentence, "code": "unavailable", "lines_done": 500}
    assert Task.objects.count() == 500


def test_a_principal_of_another_org_gets_nothing_in(acme, caller):
    eve = caller(org_id="umbrella")
    assert isinstance(eve, Caller)
    said = eve.bulk(make_entry(task_id="a"))
    assert (said[0]["status"], said[0]["message"]) == ("invalid", "organization not found")
    assert Task.objects.count() == 0
