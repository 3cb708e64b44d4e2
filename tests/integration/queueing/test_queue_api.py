"""The queue over HTTP: what operators see and do, and what everybody is told of it."""

from __future__ import annotations

import threading

import pytest

from apps.core import background, clock
from apps.dsl.scripts import register
from apps.orgs.models import Change
from apps.tasks import executor, pausing
from apps.tasks.models import Task
from apps.tasks.standing import standing
from tests.factories import make_entry
from tests.threads import at_once

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]


APPROVAL = """
def approve(task):
    return {"accepted": True, "reason": "fine"}
"""


@pytest.fixture
def operator(yard, caller):
    register(org_id="acme", script_id="approval/yes", hook="approval", source=APPROVAL, by="tests", now=clock.now(), activate=True)
    yard.org(approval_dsl_id="approval/yes")
    return caller("operator")


def submit(caller, **fields):
    response = caller.post("/api/v1/tasks?wait=0", make_entry(**fields))
    assert response.status_code == 201, response.content
    return response.json()


def test_an_operator_sees_what_waits_where(yard, operator):
    yard.org(concurrency_key="payload.customer", aging_points_per_minute=2)
    submit(operator, task_id="t1", task_priority_value=3)
    submit(operator, task_id="t2", job_space_id="lab")
    submit(operator, task_id="t3", task_completion_timeline={"not_before": "2099-01-01T00:00:00Z"})
    for name in ("c1", "c2"):
        submit(operator, task_id=name, task_job_submission_data={"customer": 7})
    yard.dispatch(clock.now())
    submit(operator, task_id="c3", task_job_submission_data={"customer": 7})
    found = operator.get("/api/v1/queue").json()
    assert (found["waiting"], found["delayed"], found["parked"], found["in_flight"]) == (0, 1, 2, 3)
    assert found["keys"] == [{"key": "payload.customer=7", "parked": 2}] and found["paused"] is None
    assert found["aging_points_per_minute"] == 2 and found["per_minute"] >= 2 and found["oldest_wait_s"] >= 0


def test_a_paused_queue_gives_nothing_to_agents_and_says_so(yard, operator, redis):
    answer = operator.post("/api/v1/queue/pause", {"reason": "the vault moves"})
    assert answer.status_code == 200 and answer.json()["paused"]["reason"] == "the vault moves"
    told = submit(operator, task_id="t1")
    assert told["held_by"] == ["paused: the vault moves"]
    redis.flushall()  # it is the configuration's, not Redis'
    assert yard.dispatch(clock.now()) == 0 and yard.status("t1") == "queued"
    found = standing(Task.objects.get(pk="acme/t1"), now=clock.now())
    assert found.held_by[0] == "paused: the vault moves"
    assert operator.post("/api/v1/queue/resume", {"reason": "it has moved"}).json()["paused"] is None
    assert operator.post("/api/v1/queue/resume").status_code == 200
    yard.org()
    from apps.tasks.loader import TaskLoader

    TaskLoader().reconcile(now=clock.from_ms(clock.to_ms(clock.now()) + 10_000))
    assert yard.dispatch(clock.now()) == 1
    facts = [change.new for change in Change.objects.filter(org_id="acme", kind="queue").order_by("id")]
    assert [(fact["queue"], fact["reason"]) for fact in facts] == [("paused", "the vault moves"), ("resumed", "it has moved")]


@pytest.mark.parametrize("wish", [{}, {"job_space_id": "lab"}])
def test_resuming_calls_a_dispatcher_at_once(yard, operator, monkeypatch, wish):
    operator.post("/api/v1/queue/pause", wish)
    submit(operator, task_id="t1", job_space_id="lab")
    sent = []
    monkeypatch.setattr(background, "send", lambda name, **_more: sent.append(name))
    assert operator.post("/api/v1/queue/resume", wish).status_code == 200
    assert sent == ["dispatch.drain"]


def test_dispatchers_that_are_at_it_while_it_is_paused_give_nothing_more_afterwards(yard, operator, monkeypatch):
    monkeypatch.setattr(executor, "BATCH", 2)
    yard.org(agents=4, default_agent_slots=20)
    yard.put(*(f"t{n}" for n in range(40)))
    begun = threading.Event()

    def go(number: int) -> None:
        if number == 0:
            assert begun.wait(60)
            assert operator.post("/api/v1/queue/pause", {}).status_code == 200
        else:
            while yard.dispatch():
                begun.set()

    at_once(3, go)
    before = yard.with_agents()
    assert before and yard.dispatch() == 0 and yard.with_agents() == before
    operator.post("/api/v1/queue/resume", {})
    while yard.dispatch():
        pass
    assert len(yard.with_agents()) == 40


def test_one_job_space_can_be_paused_alone(yard, operator):
    from tests.factories import make_agent

    make_agent("acme", "zoe", job_space_id="lab")
    operator.post("/api/v1/queue/pause", {"job_space_id": "lab"})
    submit(operator, task_id="t1", job_space_id="lab")
    submit(operator, task_id="t2")
    assert yard.dispatch(clock.now()) == 1 and yard.with_agents() == ["t2"]
    lanes = {lane["job_space_id"]: lane for lane in operator.get("/api/v1/queue").json()["lanes"]}
    assert lanes["lab"]["paused"] and lanes["lab"]["next_task_id"] == "t1" and not lanes[""]["paused"]
    operator.post("/api/v1/queue/resume", {"job_space_id": "lab"})
    assert yard.dispatch(clock.now()) == 1


def test_no_more_job_spaces_are_paused_one_by_one_than_a_value_may_hold(yard, operator, monkeypatch):
    monkeypatch.setattr(pausing, "SPACES_MAX", 2)
    answers = [operator.post("/api/v1/queue/pause", {"job_space_id": space}) for space in ("a", "b", "a", "c")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 409] and answers[-1].json()["code"] == "too_many_paused"
    assert [lane["job_space_id"] for lane in operator.get("/api/v1/queue").json()["lanes"] if lane["paused"]] == ["a", "b"]


def test_another_priority_over_http(operator):
    submit(operator, task_id="t1")
    submit(operator, task_id="t2")
    answer = operator.post("/api/v1/tasks/t2/priority", {"priority": 5, "reason": "urgent"})
    assert answer.status_code == 200 and (answer.json()["priority"], answer.json()["queue_position"]) == (5, 0)
    assert operator.get("/api/v1/tasks/t1").json()["queue_position"] == 1
    assert operator.post("/api/v1/tasks/t2/priority", {"priority": 5}).status_code == 200
    operator.post("/api/v1/tasks/t1/cancel")
    assert operator.post("/api/v1/tasks/t1/priority", {"priority": 5}).json()["code"] == "already_ended"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("tasks/t1/priority", {}, "priority"),
        ("tasks/t1/priority", {"priority": 1001}, "priority"),
        ("tasks/t1/priority", {"priority": True}, "priority"),
        ("tasks/t1/priority", {"priority": 1, "reason": 7}, "reason"),
        ("tasks/t1/priority", {"priority": 1, "x": 7}, "x"),
        ("queue/pause", {"reason": "a\nb"}, "reason"),
        ("queue/pause", {"job_space_id": ""}, "job_space_id"),
        ("queue/resume", {"job_space_id": ["x"]}, "job_space_id"),
        ("queue/resume", {"why": "x"}, "why"),
    ],
)
def test_a_bad_wish_is_refused_and_the_field_is_named(operator, path, body, field):
    submit(operator, task_id="t1")
    answer = operator.post(f"/api/v1/{path}", body)
    assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == field
    assert not Change.objects.filter(kind="queue").exists() and Task.objects.get().priority == 0


def test_the_queue_is_the_operators(operator, caller):
    submit(operator, task_id="t1")
    submitter = caller("submitter")
    assert submitter.get("/api/v1/queue").status_code == 403
    for path in ("queue/pause", "queue/resume", "tasks/t1/priority"):
        assert submitter.post(f"/api/v1/{path}", {"priority": 1}).status_code == 403


def test_another_orgs_queue_and_tasks_are_out_of_reach(yard, operator, caller):
    submit(operator, task_id="t1")
    yard.org("bolt")
    other = caller("operator", org_id="bolt")
    missing = other.post("/api/v1/tasks/t9/priority", {"priority": 9})
    foreign = other.post("/api/v1/tasks/t1/priority", {"priority": 9})
    assert foreign.status_code == missing.status_code == 404 and foreign.json()["detail"] == missing.json()["detail"]
    assert other.get("/api/v1/queue").json()["waiting"] == 0
    other.post("/api/v1/queue/pause", {"reason": "bolt only"})
    assert operator.get("/api/v1/queue").json()["paused"] is None and yard.dispatch(clock.now()) == 1


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({}, "key"), ({"key": ""}, "key"), ({"key": 7}, "key"), ({"key": "x" * 201}, "key"), ({"key": "a", "limit": 0}, "limit"),
        ({"key": "a", "limit": True}, "limit"), ({"key": "a", "mode": "drop"}, "mode"), ({"key": "a", "x": 1}, "x"),
    ],
)  # fmt: skip
def test_a_concurrency_that_is_none_is_refused(operator, wish, field):
    answer = operator.post("/api/v1/tasks", make_entry(task_steerability_data={"concurrency": wish}))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == f"task_steerability_data.concurrency.{field}"


def test_a_tasks_own_key_goes_before_the_orgs(yard, operator):
    yard.org(concurrency_key="payload.customer", concurrency_limit=3)
    own = {"key": "mine", "limit": 2, "mode": "cancel_newest"}
    found = submit(operator, task_steerability_data={"concurrency": own}, task_job_submission_data={"customer": 7})
    assert found["concurrency"] == own
    found = submit(operator, task_job_submission_data={"customer": 7})
    assert found["concurrency"] == {"key": "payload.customer=7", "limit": 3, "mode": "queue"}
    for without in ({}, {"customer": None}, {"customer": {"id": 7}}, {"customer": [7]}):
        assert submit(operator, task_job_submission_data=without)["concurrency"] is None


def test_a_parked_task_says_who_is_in_its_way(yard, operator):
    own = {"concurrency": {"key": "k"}}
    submit(operator, task_id="t1", task_steerability_data=own)
    yard.dispatch(clock.now())
    assert submit(operator, task_id="t2", task_steerability_data=own)["held_by"] == ['concurrency key "k" is taken by t1']


def test_assign_by_is_kept_and_shown(operator):
    found = submit(operator, task_completion_timeline={"assign_by": "2099-01-01T00:00:00Z"})
    assert found["times"]["assign_by"] == "2099-01-01T00:00:00.000Z"
    late = operator.post("/api/v1/tasks", make_entry(task_completion_timeline={"assign_by": "2001-01-01T00:00:00Z"}))
    assert late.json()["errors"][0]["field"] == "task_completion_timeline.assign_by"
    both = {"assign_by": "2098-01-01T00:00:00Z", "not_before": "2099-01-01T00:00:00Z"}
    assert operator.post("/api/v1/tasks", make_entry(task_completion_timeline=both)).status_code == 422


def test_not_before_holds_in_bulk_and_is_told(operator):
    when = {"not_before": "2099-01-01T00:00:00Z"}
    line = make_entry(task_id="later", task_completion_timeline=when)
    operator.bulk(line)
    found = operator.get("/api/v1/tasks/later").json()
    assert found["times"]["not_before"] == "2099-01-01T00:00:00.000Z" and found["held_by"] == ["not before 2099-01-01T00:00:00.000Z"]
