"""Sub-tasks: in by every door, tied to their parent, done like tasks."""

from __future__ import annotations

import orjson
import pytest

from apps.core import clock, events
from apps.messaging import subjects
from apps.messaging.consumer import PullConsumer
from apps.messaging.envelope import AgentReport, ReportKind
from apps.tasks import steering, sub_tasks
from apps.tasks.events import TasksProgressed
from apps.tasks.executor import JobExecutor
from apps.tasks.models import Assignment, Task
from apps.tasks.results import ReportDesk
from apps.tasks.states import TaskStatus
from apps.tasks.store import Move, TaskStore
from tests.factories import NOON, make_agent, make_entry, make_key, make_org, make_task, task_row
from tests.integration.tasks_api.conftest import Caller, register

pytestmark = pytest.mark.store


def part(sub_task_id: str = "s1", parent: str = "t1", **fields):
    return {
        "sub_task_id": sub_task_id,
        "task_id": parent,
        "sub_task_goal": "count one page",
        "sub_task_intent": "a part of it",
        "sub_task_priority_value": 3,
        "parent_subject_ids": ["ada"],
        **fields,
    }


def process(caller: Caller, entry, **more):
    return caller.post("/internal/process-task?wait=0", {"type": "sub_task", "data": entry, **more})


def row(task_id: str) -> Task:
    return Task.objects.get(pk=f"acme/{task_id}")


def move(task_id: str, *ends: TaskStatus, **fields) -> None:
    for end in ends:
        assert TaskStore().move_many([Move(task=row(task_id), end=end, reason="moved", actor="tests", fields=fields)], now=clock.now())


def test_a_sub_task_comes_in_by_the_specs_path_and_is_a_task_with_a_parent(submitter):
    make_task("t1", job_space_id="s")
    response = process(submitter, part(parent_input_data_ptr="s3://page/1", sub_task_steerability_data={"tone": "dry"}))
    assert (response.status_code, response.json()["status"]) == (202, "queued")
    found = submitter.get("/api/v1/tasks/s1").json()
    assert (found["kind"], found["parent_task_id"], found["goal"], found["priority"]) == ("sub_task", "t1", "count one page", 3)
    assert (found["job_space_id"], found["submitter_subject_id"]) == ("s", "acme:acme")
    entry = found["entry"]
    assert (entry["task_id"], entry["sub_task_streeability_data"], entry["parent_subject_ids"]) == ("t1", {"tone": "dry"}, ["ada"])
    assert entry["parent_input_data_ptr"] == "s3://page/1"


def test_the_same_sub_task_again_is_the_same_and_another_body_or_a_task_by_that_name_is_a_conflict(submitter):
    make_task("t1")
    for _ in range(2):
        assert process(submitter, part()).status_code == 202
    assert process(submitter, part(sub_task_goal="other")).status_code == 409
    assert submitter.post("/api/v1/tasks", make_entry(task_id="s1")).status_code == 409
    assert Task.objects.count() == 2


def test_a_foreign_parent_is_as_missing_as_none_and_nothing_is_stored(submitter):
    make_org("other")
    make_task("t1", org_id="other")
    foreign, missing = process(submitter, part()), process(submitter, part(parent="never"))
    assert foreign.status_code == missing.status_code == 404
    assert {**foreign.json(), "request_id": ""} == {**missing.json(), "request_id": ""}
    assert not Task.objects.filter(org_id="acme").exists()


def test_an_ended_parent_takes_no_more_parts_but_repeats_are_answered(submitter):
    make_task("t1")
    assert process(submitter, part()).status_code == 202
    steering.cancel(row("t1"), actor="tests", reason="", now=NOON)
    assert process(submitter, part("s2")).json()["code"] == "parent_ended"
    assert process(submitter, part()).json()["code"] == "ended"


def test_a_sub_task_has_no_parts(submitter):
    make_task("t1")
    process(submitter, part())
    response = process(submitter, part("s2", parent="s1"))
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "data.task_id")


def test_every_problem_of_a_sub_task_is_named(submitter):
    bad = part(
        sub_task_id="a b", sub_task_priority_value="1", parent_subject_ids=[], assigned_subject_ids=["x", "x", 1], status="queued",
        sub_task_behavior_dsl_map={"approval_dsl_id": 1}, task_goal="that of a task",
    )  # fmt: skip
    problems = process(submitter, {name: value for name, value in bad.items() if name != "sub_task_goal"}).json()["errors"]
    assert {problem["field"] for problem in problems} == {
        "data.sub_task_id", "data.sub_task_priority_value", "data.parent_subject_ids", "data.assigned_subject_ids.1",
        "data.assigned_subject_ids.2", "data.status", "data.sub_task_behavior_dsl_map.approval_dsl_id", "data.task_goal",
        "data.sub_task_goal",
    }  # fmt: skip
    assert process(submitter, part("t1", parent="t1")).status_code == 422


def test_a_sub_task_has_its_own_approval_policy(submitter):
    make_task("t1")
    register("approval/never", "approval", 'def approve(task):\n    return {"accepted": False, "reason": "not " + task["parent_task_id"]}')
    response = process(submitter, part(sub_task_behavior_dsl_map={"approval_dsl_id": "approval/never"}))
    assert (response.status_code, response.json()["reason"]) == (422, "not t1")


def test_a_bulk_may_bring_a_task_and_its_parts_in_any_form_and_order(submitter):
    verdicts = submitter.bulk(part(), make_entry(task_id="t1"), {"type": "sub_task", "data": part("s2")}, part("s3", parent="none"))
    assert [(v.get("task_id"), v["status"]) for v in verdicts[:4]] == [
        ("s1", "queued"), ("t1", "queued"), ("s2", "queued"), ("s3", "invalid"),
    ]  # fmt: skip
    assert verdicts[3]["code"] == "not_found"
    assert set(Task.objects.filter(parent_key="acme/t1").values_list("task_id", flat=True)) == {"s1", "s2"}


def test_a_parent_shows_its_parts_and_their_mean_progress(submitter):
    make_task("t1")
    for name in ("s1", "s2", "s3", "s4", "s5"):
        process(submitter, part(name))
    move("s1", TaskStatus.ASSIGNED, TaskStatus.DISPATCHED, TaskStatus.COMPLETED)
    move("s5", TaskStatus.CANCELLED)
    move("s2", TaskStatus.ASSIGNED, TaskStatus.DISPATCHED, TaskStatus.RUNNING, progress=50.0)
    expected = {"total": 5, "by_status": {"completed": 1, "cancelled": 1, "running": 1, "queued": 2}, "progress": 50.0}
    found = submitter.get("/api/v1/tasks/t1").json()
    assert (found["sub_tasks"], found["progress"], found["status"]) == (expected, 50.0, "queued")
    items = {item["task_id"]: item for item in submitter.get("/api/v1/tasks").json()["items"]}
    assert (items["t1"]["sub_tasks"], items["s1"]["sub_tasks"], items["s1"]["parent_task_id"]) == (expected, None, "t1")
    for path in ("/api/v1/tasks?parent=t1&status=queued", "/api/v1/tasks/t1/sub-tasks?status=queued"):
        assert [item["task_id"] for item in submitter.get(path).json()["items"]] == ["s4", "s3"]
    assert submitter.get("/api/v1/tasks/none/sub-tasks").status_code == 404


def test_who_follows_a_parent_hears_how_far_its_parts_are(submitter, monkeypatch):
    told = []
    monkeypatch.setitem(events._handlers, TasksProgressed, [*events._handlers[TasksProgressed], told.append])
    make_task("t1")
    for name in ("s1", "s2"):
        process(submitter, part(name))
    move("s1", TaskStatus.ASSIGNED, TaskStatus.DISPATCHED, TaskStatus.COMPLETED)
    move("s2", TaskStatus.ASSIGNED, TaskStatus.DISPATCHED, head_agent_subject_id="ada", attempt=1)
    half = AgentReport(
        org_id="acme", task_id="s2", agent="ada", kind=ReportKind.PROGRESS, attempt=1, seq=1, at=clock.now(), percent=50.0, message="half",
    )  # fmt: skip
    ReportDesk().apply([half], now=clock.now())
    of_parent = [(step.percent, step.message) for news in told for step in news.steps if step.key == "acme/t1"]
    assert of_parent == [(50.0, "1 of 2 sub-tasks ended"), (75.0, "1 of 2 sub-tasks ended")]


def test_when_a_parent_ends_its_open_parts_are_cancelled_and_the_ended_stay(submitter):
    make_task("t1")
    for name in ("s1", "s2"):
        process(submitter, part(name))
    move("s1", TaskStatus.ASSIGNED, TaskStatus.DISPATCHED, TaskStatus.COMPLETED)
    assert submitter.post("/api/v1/tasks/t1/cancel").status_code == 200
    assert (row("s1").status, row("s2").status, row("s2").reason) == ("completed", "cancelled", "its parent has ended")


def test_an_end_that_nobody_told_of_is_found_by_upkeep_and_an_org_may_keep_the_parts(submitter):
    make_org("keeper", sub_tasks_when_parent_ends="keep")
    for org_id in ("acme", "keeper"):
        task_row("t1", org_id=org_id, status="failed").save()
        task_row("s1", org_id=org_id, kind="sub_task", parent_key=f"{org_id}/t1").save()
    assert [sub_tasks.close_orphans(now=NOON) for _ in range(2)] == [1, 0]
    assert dict(Task.objects.filter(task_id="s1").values_list("org_id", "status")) == {"acme": "cancelled", "keeper": "queued"}


def test_assigned_subjects_narrow_the_pool_and_who_is_outside_is_named(submitter, nats):
    make_agent("acme", "bo")
    make_task("t1", status="awaiting_approval")
    process(submitter, part("s1", assigned_subject_ids=["stranger", "bo"]))
    process(submitter, part("s2", assigned_subject_ids=["stranger"]))
    JobExecutor().run_batch(now=clock.now())
    assert (row("s1").status, row("s1").head_agent_subject_id) == ("dispatched", "bo")
    decision = Assignment.objects.get(task_key="acme/s1").decision
    assert decision["barred"]["stranger"] == "is not in the candidate pool"
    assert decision["assigned_subject_ids"] == ["stranger", "bo"]
    assert row("s2").status == "failed"
    assert row("s2").reason.endswith("None of the assigned subjects is in the candidate pool: stranger")
    (message,) = PullConsumer(subjects.DELIVERIES, subjects.agent_token("acme", "bo")).fetch(10, 0.3)
    envelope = orjson.loads(message.data)
    assert (envelope["event_type"], envelope["event_data"]["sub_task_id"], envelope["event_data"]["task_id"]) == ("sub_task", "s1", "t1")


def test_a_person_gives_a_sub_task_to_one_of_its_assigned_subjects_and_to_nobody_else(submitter, nats):
    make_agent("acme", "bo")
    make_agent("acme", "ada")
    make_task("t1", status="awaiting_approval")
    process(submitter, part("s1", assigned_subject_ids=["stranger", "bo"]))
    operator = Caller(make_key("acme", "operator", "olga"))
    for other in ("ada", "stranger"):
        (problem,) = operator.post("/api/v1/tasks/s1/assign", {"subject_id": other}).json()["errors"]
        assert problem["code"] == "not_a_candidate"
    assert operator.post("/api/v1/tasks/s1/assign", {"subject_id": "bo"}).json()["status"] == "dispatched"


def test_an_agent_makes_sub_tasks_of_the_task_it_holds_and_of_no_other(acme):
    ada = Caller(make_key("acme", "agent", "ada"))
    for name in ("mine", "hers"):
        make_task(name)
    move("mine", TaskStatus.ASSIGNED, head_agent_subject_id="ada", attempt=1)
    move("hers", TaskStatus.ASSIGNED, head_agent_subject_id="bo", attempt=1)
    assert ada.post("/api/v1/tasks/mine/sub-tasks", part(parent="mine")).status_code == 201
    assert process(ada, part("s2", parent="mine")).status_code == 202
    foreign, missing = process(ada, part("s3", parent="hers")), process(ada, part("s3", parent="none"))
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json()["error"] == missing.json()["error"]
    assert ada.post("/internal/process-task", {"type": "task", "data": make_entry()}).status_code == 403
    assert [item["task_id"] for item in ada.get("/api/v1/tasks/mine/sub-tasks").json()["items"]] == ["s2", "s1"]
    assert ada.get("/api/v1/tasks/s1").status_code == 200
    assert ada.get("/api/v1/tasks/hers").status_code == ada.get("/api/v1/tasks/hers/sub-tasks").status_code == 404
    assert ada.get("/api/v1/tasks").status_code == 403
    move("mine", TaskStatus.QUEUED)
    assert process(ada, part("s4", parent="mine")).json()["code"] == "parent_ended"
