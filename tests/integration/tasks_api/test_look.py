"""Lists, one task, its history, counts; and what people may do to a task."""

from __future__ import annotations

import base64
from datetime import timedelta
from urllib.parse import quote

import orjson
import pytest

from apps.core import clock
from apps.tasks.models import Assignment, Report, Task
from apps.tasks.states import TaskStatus
from apps.tasks.store import Move, TaskStore
from tests.factories import NOON, make_entry, task_row

pytestmark = pytest.mark.store
PATH = "/api/v1/tasks"


def make_task(task_id: str, **fields) -> Task:
    """A row in whatever status, however it came there."""
    task = task_row(task_id, **fields)
    task.save(force_insert=True)
    return task


def ids_of(response) -> list[str]:
    assert response.status_code == 200, response.content
    return [task["task_id"] for task in response.json()["items"]]


# ---- lists ------------------------------------------------------------------------------------------------


@pytest.fixture
def seven(acme):
    for index in range(7):
        make_task(
            f"t{index}",
            created_at=NOON + timedelta(minutes=index),
            updated_at=NOON + timedelta(minutes=index),
            sequence=1000 + index,
            status="queued" if index % 2 else "completed",
            priority=index * 10,
            job_space_id="red" if index < 3 else "blue",
            head_agent_subject_id="ada" if index == 4 else "",
            submitter_subject_id="acme:zoe" if index == 5 else "acme:sam",
        )
    make_task("t3", org_id="umbrella", sequence=1003)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "6543210"),
        ("status=queued", "531"),
        ("status=queued&status=completed&limit=3", "654"),
        ("status=queued,completed", "6543210"),
        ("status=running", ""),
        ("agent=ada", "4"),
        ("job_space=red", "210"),
        ("submitter=acme:zoe", "5"),
        ("priority_min=20&priority_max=40", "432"),
        ("created_from=2026-11-22T12:02:00Z&created_to=2026-11-22T12:05:00Z", "432"),
        ("updated_from=2026-11-22T12:06:00Z", "6"),
        ("q=t", "6543210"),
        ("q=t5", "5"),
        ("q=nothing", ""),
        ("q=%25", ""),
        ("job_space=red&status=queued", "1"),
        ('where={"agent":"ada"}', "4"),
        ('where={"$or":[{"agent":"ada"},{"task_id":{"$in":["t0","t9"]}}]}', "40"),
        ('where={"priority":{"$gte":20,"$lte":40}}&status=queued', "3"),
        ('where={"created_at":{"$lt":"2026-11-22T12:01:00Z"},"deadline":null}', "0"),
        ('where={"job_space":{"$not":{"$regex":"^re"}}}', "6543"),
        ("where={}", "6543210"),
    ],
)
def test_filters(seven, submitter, query, expected):
    assert ids_of(submitter.get(f"{PATH}?{query}")) == [f"t{digit}" for digit in expected]


def test_pages_neither_skip_nor_repeat_while_tasks_come_in(seven, submitter):
    first = submitter.get(f"{PATH}?limit=3").json()
    make_task("late", sequence=2000)
    second = submitter.get(f"{PATH}?limit=3&cursor={first['next_cursor']}").json()
    third = submitter.get(f"{PATH}?limit=3&cursor={second['next_cursor']}").json()
    assert [task["task_id"] for page in (first, second, third) for task in page["items"]] == ["t6", "t5", "t4", "t3", "t2", "t1", "t0"]
    assert third["next_cursor"] is None


def test_tasks_of_one_microsecond_are_paged_too(acme, submitter):
    for name in "abcd":
        make_task(name, sequence=7)
    first = submitter.get(f"{PATH}?limit=2").json()
    second = submitter.get(f"{PATH}?limit=2&cursor={first['next_cursor']}").json()
    assert [task["task_id"] for page in (first, second) for task in page["items"]] == ["d", "c", "b", "a"]


@pytest.mark.parametrize(
    "query",
    ["status=", "status=Queued", "status=queued,", "limit=0", "limit=201", "limit=x", "limit=1.0", "limit=", "priority_min=1e3",
     "priority_max=٣",
     "created_from=yesterday", "created_from=2026-11-22T12:00:00", "order=asc", "org_id=umbrella", "entry__goal=x", "q=", "agent=a&agent=b",
     "limit=5&limit=6", "where=", "where=[]", "where={", 'where={"a":1,"a":2}', "where=" + " " * 4000 + "{}"],
)  # fmt: skip
def test_a_bad_query_is_400_and_names_the_parameter(seven, submitter, query):
    response = submitter.get(f"{PATH}?{query}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == query.split("=")[0]


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ('{"entry.goal":"x"}', "where.entry.goal"),
        ('{"org_id":"umbrella"}', "where.org_id"),
        ('{"$where":"1"}', "where.$where"),
        ('{"priority":{"$gt":"high"}}', "where.priority.$gt"),
        ('{"goal":{"$regex":"(a+)+$"}}', "where.goal.$regex"),
    ],
)
def test_a_filter_that_asks_too_much_is_400_and_names_where(seven, submitter, where, field):
    response = submitter.get(f"{PATH}?where={quote(where)}")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, field)


def cursor(value) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


BAD_CURSORS = [
    "", "x", "🙂", "A" * 5000, cursor([]), cursor({"a": 1}), cursor([1]), cursor(["1", "t"]), cursor([True, "t"]),
    cursor([1.5, "t"]),
    cursor([-1, "t"]), cursor([2**63, "t"]), cursor([1, 2]), cursor([1, "t", 3]), cursor(5), cursor(None),
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_CURSORS, ids=lambda text: ascii(text)[:30])
def test_a_bad_cursor_is_400(seven, submitter, text):
    response = submitter.get(f"{PATH}?cursor={text}")
    assert (response.status_code, response.json()["code"]) == (400, "bad_cursor")


def test_a_list_leaves_the_heavy_fields_out_and_costs_two_queries(seven, submitter, django_assert_max_num_queries):
    submitter.get(PATH)
    with django_assert_max_num_queries(2):  # the page, and what the sub-tasks on it come to
        (first, *_) = submitter.get(PATH).json()["items"]
    assert not {"entry", "result", "assignment"} & first.keys()


def test_counts_are_the_orgs_own(seven, submitter):
    body = submitter.get(f"{PATH}/summary").json()
    assert (body["counts"]["queued"], body["counts"]["completed"], body["counts"]["failed"]) == (3, 4, 0)
    assert (body["open"], body["total"]) == (3, 7)


# ---- one task ---------------------------------------------------------------------------------------------


def moved(task: Task, end: TaskStatus, reason: str = "", at=NOON, **fields) -> Task:
    assert TaskStore().move_many([Move(task=task, end=end, reason=reason, actor="tests", fields=fields)], now=at)
    return task


def test_a_task_tells_where_it_is_and_why(submitter):
    submitter.post(PATH, make_entry(task_id="first"))
    submitter.post(PATH, make_entry(task_id="t1", task_job_submission_data={"job_space_id": "", "n": 5}))
    waiting = submitter.get(f"{PATH}/t1").json()
    assert (waiting["status"], waiting["terminal"], waiting["reason"], waiting["queue_position"]) == ("queued", False, "fine", 1)
    assert (waiting["agent"], waiting["assignment"], waiting["attempt"], waiting["result"]) == (None, None, 0, None)
    assert waiting["entry"]["task_job_submission_data"]["n"] == 5

    task = Task.objects.get(pk="acme/t1")
    at = task.created_at + timedelta(seconds=2)
    Assignment.objects.create(
        id="acme/t1#1", task_key=task.key, org_id="acme", attempt=1, head_agent_subject_id="ada", strategy="least_loaded",
        because="the only one", decision={"pool": ["ada"]}, at=at,
    )  # fmt: skip
    moved(task, TaskStatus.ASSIGNED, at=at, attempt=1, head_agent_subject_id="ada")
    moved(task, TaskStatus.DISPATCHED, at=at)
    moved(task, TaskStatus.COMPLETED, "done", at=at + timedelta(seconds=3), result={"words": 7})
    done = submitter.get(f"{PATH}/t1").json()
    assert (done["status"], done["terminal"], done["result"], done["agent"]) == ("completed", True, {"words": 7}, "ada")
    assert done["assignment"] == {
        "attempt": 1, "agent": "ada", "strategy": "least_loaded", "because": "the only one", "at": clock.iso(at),
    }  # fmt: skip
    assert (done["times"]["assigned"], done["times"]["finished"]) == (clock.iso(at), clock.iso(at + timedelta(seconds=3)))
    assert done["queue_position"] is None


def test_with_redis_away_a_task_can_still_be_looked_at(submitter, valkey):
    submitter.post(PATH, make_entry(task_id="t1"))
    valkey.kill()
    try:
        response = submitter.get(f"{PATH}/t1")
    finally:
        valkey.start()
    assert (response.status_code, response.json()["queue_position"]) == (200, None)


def test_the_history_tells_causes_before_moves(submitter):
    submitter.post(PATH, make_entry(task_id="t1"))
    task = Task.objects.get(pk="acme/t1")
    at = task.created_at + timedelta(seconds=1)
    Assignment.objects.create(
        id="acme/t1#1", task_key=task.key, org_id="acme", attempt=1, head_agent_subject_id="ada", strategy="static", because="named",
        decision={"pool": ["ada"]}, at=at,
    )  # fmt: skip
    moved(task, TaskStatus.ASSIGNED, at=at, attempt=1)
    moved(task, TaskStatus.DISPATCHED, at=at)
    late = at + timedelta(seconds=1)
    for seq, kind, outcome, when in ((2, "completed", "applied", late), (1, "log", "applied", at + timedelta(milliseconds=500))):
        Report.objects.create(
            id=f"acme/t1#1:{seq}", task_key=task.key, org_id="acme", attempt=1, agent="ada", kind=kind, body={}, outcome=outcome, at=when
        )
    moved(task, TaskStatus.COMPLETED, at=late)
    items = submitter.get(f"{PATH}/t1/events").json()["items"]
    told = [(item["kind"], item.get("status") or item.get("hook") or item.get("type") or item.get("agent")) for item in items]
    assert told == [
        ("policy", "approval"), ("transition", "queued"), ("assignment", "ada"), ("transition", "assigned"), ("transition", "dispatched"),
        ("report", "log"), ("report", "completed"), ("transition", "completed"),
    ]  # fmt: skip
    assert items[0]["output"]["accepted"] is True
    assert items[2]["decision"] == {"pool": ["ada"]}


PLACES = ["", "/events", "/stream"]


@pytest.mark.parametrize("place", PLACES)
def test_a_foreign_task_is_as_missing_as_one_that_never_was(acme, submitter, place):
    make_task("theirs", org_id="umbrella")
    foreign, missing = submitter.get(f"{PATH}/theirs{place}"), submitter.get(f"{PATH}/nothing{place}")
    assert (foreign.status_code, missing.status_code) == (404, 404)
    bodies = [{**response.json(), "request_id": ""} for response in (foreign, missing)]
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("task_id", ["%00", "a%0Ab", "..", "%2e%2e", "x" * 1000, "a%2Fb", "*", "😀"])
def test_an_id_no_task_can_have_is_missing(acme, submitter, task_id):
    assert submitter.get(f"{PATH}/{task_id}").status_code == 404


# ---- steering ---------------------------------------------------------------------------------------------


def test_cancel_ends_a_task_and_may_be_said_twice(submitter):
    submitter.post(PATH, make_entry(task_id="t1"))
    first = submitter.post(f"{PATH}/t1/cancel", {"reason": "changed my mind"})
    assert (first.status_code, first.json()["status"], first.json()["reason"]) == (200, "cancelled", "changed my mind")
    assert submitter.post(f"{PATH}/t1/cancel").status_code == 200


def test_a_task_that_has_ended_otherwise_cannot_be_cancelled(acme, submitter):
    make_task("t1", status="completed")
    response = submitter.post(f"{PATH}/t1/cancel")
    assert (response.status_code, response.json()["code"]) == (409, "already_ended")


@pytest.mark.parametrize(("verb", "status"), [("approve", "queued"), ("reject", "rejected")])
def test_an_operator_decides_on_what_waits_for_a_person(submitter, operator, verb, status):
    submitter.post(PATH, make_entry(task_id="t1", task_job_submission_data={"wish": "ask"}))
    assert submitter.post(f"{PATH}/t1/{verb}").status_code == 403
    decided = operator.post(f"{PATH}/t1/{verb}", {"reason": "seen"})
    assert (decided.status_code, decided.json()["status"], decided.json()["reason"]) == (200, status, "seen")
    assert operator.post(f"{PATH}/t1/{verb}").status_code == 409


@pytest.mark.parametrize("verb", ["cancel", "approve", "reject"])
def test_steering_a_foreign_task_is_404_and_does_nothing(acme, operator, verb):
    make_task("theirs", org_id="umbrella", status="awaiting_approval")
    assert operator.post(f"{PATH}/theirs/{verb}").status_code == 404
    assert Task.objects.get(pk="umbrella/theirs").status == "awaiting_approval"


@pytest.mark.parametrize(
    ("body", "status"), [(b"[]", 422), (b"{", 400), ({"reason": 5}, 422), ({"reason": "x" * 1001}, 422), ({"why": "x"}, 422)]
)
def test_a_bad_steering_body_changes_nothing(acme, operator, body, status):
    make_task("t1")
    assert operator.post(f"{PATH}/t1/cancel", body).status_code == status
    assert Task.objects.get(pk="acme/t1").status == "queued"


@pytest.mark.parametrize("path", [PATH, f"{PATH}/summary", f"{PATH}/stream", f"{PATH}/t1", f"{PATH}/t1/events", f"{PATH}/t1/stream"])
def test_nobody_looks_without_a_key(acme, client, path):
    make_task("t1")
    assert client.get(path).status_code == 401
