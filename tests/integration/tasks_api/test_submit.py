"""POST /internal/process-task and POST /api/v1/tasks: answers, waiting, and every class of bad input."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from apps.core import clock
from apps.tasks.models import Task, Transition
from apps.tasks.queue import PriorityQueue
from apps.tasks.states import TaskStatus
from apps.tasks.store import Move, TaskStore
from tests.factories import make_entry
from tests.integration.tasks_api.conftest import Caller
from tests.threads import at_once

pytestmark = pytest.mark.store
PATH = "/internal/process-task"


def envelope(**fields):
    return {"type": "task", "data": make_entry(**fields)}


def process(caller: Caller, *, wait: float = 0, **fields):
    return caller.post(f"{PATH}?wait={wait}", envelope(**fields))


def move(key: str, *ends: TaskStatus, **fields):
    for end in ends:
        task = Task.objects.get(pk=key)
        assert TaskStore().move_many([Move(task=task, end=end, reason="moved by the test", actor="tests", fields=fields)], now=clock.now())


# ---- answers ----------------------------------------------------------------------------------------------


def test_a_task_nobody_has_taken_yet_is_202(submitter):
    response = process(submitter, task_id="t1")
    assert (response.status_code, response.json()) == (202, {"status": "queued", "task_id": "t1", "reason": "fine"})


def test_a_task_that_waits_for_a_person_is_202(submitter):
    response = process(submitter, task_id="t1", task_job_submission_data={"wish": "ask"})
    assert response.status_code == 202
    assert response.json() == {"status": "awaiting_approval", "task_id": "t1", "reason": "let a person see it"}


def test_a_refused_task_is_422_with_the_reason(submitter):
    for _ in range(2):
        response = process(submitter, task_id="t1", task_job_submission_data={"wish": "no"})
        assert response.status_code == 422
        body = response.json()
        assert (body["error"], body["reason"], body["code"]) == ("The task was refused.", "not this one", "refused")


def test_a_repeat_is_answered_with_the_present_truth(submitter):
    def post():
        return process(submitter, task_id="t1")

    assert post().json()["status"] == "queued"
    move("acme/t1", TaskStatus.ASSIGNED, head_agent_subject_id="ada", attempt=1)
    expected = {"status": "assigned", "subject_id": "ada", "task_id": "t1", "task_status": "assigned"}
    assert (post().status_code, post().json()) == (200, expected)
    move("acme/t1", TaskStatus.DISPATCHED, TaskStatus.COMPLETED)
    assert post().json() == {**expected, "task_status": "completed"}


def test_no_agent_is_409_in_the_specs_words(submitter):
    process(submitter, task_id="t1")
    move("acme/t1", TaskStatus.FAILED)
    response = process(submitter, task_id="t1")
    assert response.status_code == 409
    assert (response.json()["error"], response.json()["reason"]) == ("No agent could be assigned", "moved by the test")


def test_a_task_cancelled_before_it_had_an_agent_is_409(submitter):
    process(submitter, task_id="t1")
    move("acme/t1", TaskStatus.CANCELLED)
    assert (process(submitter, task_id="t1").status_code, process(submitter, task_id="t1").json()["code"]) == (409, "ended")


def test_another_body_under_the_same_id_is_409(submitter):
    process(submitter, task_id="t1")
    response = process(submitter, task_id="t1", task_goal="other")
    assert (response.status_code, response.json()["code"]) == (409, "other_body")


def test_another_orgs_submitter_is_404_and_the_same_for_an_org_that_does_not_exist(submitter, caller):
    caller(org_id="umbrella")
    answers = [process(submitter, submitter_subject_id=f"{org}:eve") for org in ("umbrella", "nowhere")]
    assert [response.status_code for response in answers] == [404, 404]
    assert len({response.json()["error"] for response in answers}) == 1
    assert answers[0].json()["error"] == "organization not found"
    assert Task.objects.count() == 0


def test_on_the_v1_path_the_answer_is_the_task(submitter):
    entry = make_entry(task_id="t1")
    first, again = submitter.post("/api/v1/tasks", entry), submitter.post("/api/v1/tasks", entry)
    assert (first.status_code, again.status_code, first["Location"]) == (201, 200, "/api/v1/tasks/t1")
    assert first.json() == again.json() == submitter.get("/api/v1/tasks/t1").json()
    assert submitter.post("/api/v1/tasks", {"type": "task", "data": entry}).status_code == 200
    refused = submitter.post("/api/v1/tasks", make_entry(task_job_submission_data={"wish": "no"}))
    assert (refused.status_code, refused["Content-Type"], refused.json()["reason"]) == (422, "application/problem+json", "not this one")


# ---- waiting ----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_waiting_request_is_answered_as_soon_as_an_agent_is_chosen(shared_acme, nats_wire, caller):
    submitter = caller()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(process, submitter, wait=30, task_id="t1")
        nats_wire.listening("events.acme.t1")
        assert not waiting.done()
        move("acme/t1", TaskStatus.ASSIGNED, head_agent_subject_id="ada", attempt=1)
        response = waiting.result(20)
    assert (response.status_code, response.json()["subject_id"]) == (200, "ada")


@pytest.mark.django_db(transaction=True)
def test_when_all_seats_are_taken_nobody_waits(shared_acme, nats_wire, caller, monkeypatch):
    from apps.core import streaming

    seats = streaming.Seats(1)
    monkeypatch.setattr(streaming, "seats", lambda: seats)
    with seats.take():
        assert process(caller(), wait=30, task_id="t1").status_code == 202


@pytest.mark.parametrize("wait", ["-1", "31", "nan", "inf", "x", "", "1e1000", "0" * 20])
def test_the_wait_is_bounded(submitter, wait):
    response = submitter.post(f"{PATH}?wait={wait}", envelope())
    assert response.status_code == 400
    assert Task.objects.count() == 0


# ---- at once ----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", [PATH + "?wait=0", "/api/v1/tasks"])
def test_fifty_posts_of_one_task_at_once_make_one_task(shared_acme, caller, path):
    submitter = caller()
    body = envelope(task_id="t1")
    statuses = at_once(50, lambda _: submitter.post(path, body).status_code)
    assert set(statuses) <= {200, 201, 202}
    assert statuses.count(201) == (1 if "v1" in path else 0)
    assert (Task.objects.count(), Transition.objects.count(), PriorityQueue().size("acme")) == (1, 1, 1)


@pytest.mark.django_db(transaction=True)
def test_of_many_bodies_under_one_id_one_wins(shared_acme, caller):
    submitter = caller()
    statuses = at_once(20, lambda index: process(submitter, task_id="t1", task_goal=f"goal {index}").status_code)
    assert sorted(statuses) == [202] + [409] * 19
    assert Task.objects.count() == 1


# ---- bad input --------------------------------------------------------------------------------------------

GOOD = orjson.dumps(envelope(task_id="good"))
DEEP = b'{"a":' * 40 + b"1" + b"}" * 40


def with_data(text: bytes) -> bytes:
    return GOOD[:-2] + b',"task_job_submission_data":' + text + b"}}"


BODIES = [
    (b"", 400), (b"{", 400), (b"nonsense", 400), (GOOD[:-5], 400), (b"\xef\xbb\xbf" + GOOD, 400), (b"\xff\xfe", 400),
    (with_data(b'{"a":NaN}'), 400), (with_data(b'{"a":Infinity}'), 400), (with_data(b'{"a":1,"a":2}'), 400),
    (with_data(b'"\\ud800"'), 400), (GOOD + GOOD, 400),
    (b"[]", 422), (b"null", 422), (b"1", 422), (b'"x"', 422), (b"{}", 422),
    (b'{"type":"task"}', 422), (b'{"data":{}}', 422), (b'{"type":"task","data":null}', 422), (b'{"type":"task","data":[]}', 422),
    (b'{"type":null,"data":{}}', 422), (b'{"type":"Task","data":{}}', 422), (b'{"type":["task"],"data":{}}', 422),
    (b'{"type":"sub_task","data":{}}', 422), (GOOD[:-1] + b',"extra":1}', 422),
    (with_data(DEEP), 422), (with_data(b"{%s}" % b",".join(b'"k%d":1' % index for index in range(1001))), 422),
    (with_data(b'{"a":[%s]}' % b",".join([b"1"] * 10_001)), 422), (with_data(b'{"a":"%s"}' % (b"x" * 70_000)), 422),
    (with_data(b'{"a":1e400}'), 422), (with_data(b'{"a":9223372036854775808}'), 422), (with_data(b'{"a":"\\u0000"}'), 422),
    (b'{"type":"task","data":{"x":"%s"}}' % (b"x" * 1_100_000), 413),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "status"), BODIES, ids=lambda value: repr(value)[:40])
def test_a_bad_body_is_refused_and_nothing_is_stored(submitter, raw, status):
    response = submitter.post(PATH, raw)
    assert response.status_code == status, response.content
    body = response.json()
    assert body["error"]
    assert body["code"]
    assert body["request_id"]
    if status == 422:
        assert all({"field", "code", "message"} == problem.keys() for problem in body["errors"]), body
    assert (Task.objects.count(), PriorityQueue().size("acme")) == (0, 0)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""])
def test_only_json_is_read(submitter, content_type):
    assert submitter.post(PATH, GOOD, content_type=content_type).status_code == 415


def test_fields_are_named_by_their_path_in_the_body(submitter):
    response = submitter.post(PATH, {"type": "task", "data": {**make_entry(task_priority_value="1"), "status": "completed"}})
    assert {problem["field"]: problem["code"] for problem in response.json()["errors"]} == {
        "data.task_priority_value": "wrong_type",
        "data.status": "server_owned",
    }


def test_a_past_deadline_is_refused(submitter):
    response = process(submitter, task_completion_timeline={"due": "2020-01-01T00:00:00Z"})
    assert response.status_code == 422
    assert [(p["field"], p["code"]) for p in response.json()["errors"]] == [("data.task_completion_timeline.due", "past")]
    assert Task.objects.count() == 0


@pytest.mark.parametrize(("role", "status"), [("submitter", 202), ("operator", 202), ("org_admin", 202)])
def test_who_may_submit(acme, caller, role, status):
    assert process(caller(role)).status_code == status


def test_agents_do_not_submit_and_nobody_does_without_a_key(acme, client, caller):
    assert client.post(PATH, GOOD, content_type="application/json").status_code == 401
    assert Caller("jp_nobody_nothing").post(PATH, GOOD).status_code == 401
    agent = caller()
    from apps.orgs.models import ApiKey

    ApiKey.objects.update(role="agent", subject_id="ada")
    assert agent.post(PATH, GOOD).status_code == 403
    assert Task.objects.count() == 0


def test_wrong_methods_and_paths(submitter):
    assert submitter.get(PATH).status_code == 405
    assert submitter.post(PATH + "/", GOOD).status_code == 404
    assert submitter.post("/Internal/process-task", GOOD).status_code == 404
    assert Task.objects.count() == 0
