"""Dead letters: what failed or expired, done again as a new task or left; the old one stays as it ended."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core import clock
from apps.core.auth import Principal
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks.intake import TaskIntake
from apps.tasks.models import DeadLetter, Decision, Task
from apps.tasks.operating import dead_letters
from apps.tasks.operating.dead_letters import Retry, merged, retry_id
from apps.tasks.states import TaskStatus
from apps.tasks.store import Move, TaskStore
from tests.factories import NOON, make_entry, task_row
from tests.integration.tasks_api.conftest import configure
from tests.threads import at_once

pytestmark = pytest.mark.store
PATH = "/api/v1/dead-letters"
OLGA = Principal(org_id="acme", role="operator", subject_id="olga", key_id="k9", name="")


def ended(task_id: str, end: TaskStatus = TaskStatus.FAILED, *, start: str = "running", **fields) -> Task:
    """A task that ends by a move, as all do."""
    letter = fields.pop("dead_letter", "")
    entry = make_entry(task_id=task_id, submitter_subject_id=f"{fields.get('org_id', 'acme')}:sam", **fields.pop("entry", {}))
    values = {"head_agent_subject_id": "ada", "attempt": 1, "max_attempts": 3, "entry": entry, "reason": "", **fields}
    task = task_row(task_id, status=start, **values)
    task.save(force_insert=True)
    move = Move(task=task, end=end, reason="it broke", actor="tests", dead_letter=letter)
    assert TaskStore().move_many([move], now=NOON + timedelta(seconds=len(task_id)))
    return task


def listed(caller, query: str = "") -> list[str]:
    response = caller.get(f"{PATH}?{query}")
    assert response.status_code == 200, response.content
    return [letter["task_id"] for letter in response.json()["items"]]


# ---- how they come there ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "fields", "kind"),
    [
        ("failed", {"attempt": 3}, "max_attempts"),
        ("failed", {"attempt": 1}, "agent_failed"),
        ("failed", {"start": "queued", "head_agent_subject_id": ""}, "no_agent"),
        ("failed", {"start": "awaiting_verification"}, "not_verified"),
        ("failed", {"dead_letter": "poison"}, "poison"),
        ("expired", {"start": "queued"}, "expired"),
        ("cancelled", {}, None),
        ("completed", {}, None),
    ],
)
def test_what_fails_or_expires_is_there_with_its_kind(acme, end, fields, kind):
    ended("t1", TaskStatus(end), **fields)
    assert list(DeadLetter.objects.values_list("kind", flat=True)) == ([kind] if kind else [])


def test_a_move_that_loses_its_race_leaves_none(acme):
    task = task_row("t1", status="running", attempt=1)
    task.save(force_insert=True)
    Task.objects.filter(pk=task.key).update(attempt=2)
    assert not TaskStore().move_many([Move(task=task, end=TaskStatus.FAILED, reason="", actor="tests")], now=NOON)
    assert not DeadLetter.objects.exists()


# ---- the list ---------------------------------------------------------------------------------------------


@pytest.fixture
def five(acme):
    ended("a", attempt=3)
    ended("b", TaskStatus.EXPIRED, start="queued", head_agent_subject_id="")
    ended("c", head_agent_subject_id="bo", job_space_id="lab")
    ended("cc", attempt=3)
    ended("ddd", dead_letter="poison")
    ended("theirs", org_id="umbrella")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "ddd cc c b a"),
        ("kind=max_attempts", "cc a"),
        ("kind=poison&kind=expired", "ddd b"),
        ("kind=poison,expired", "ddd b"),
        ("agent=bo", "c"),
        ("job_space=lab", "c"),
        ("q=c", "cc c"),
        ("from=2026-11-22T12:00:02Z", "ddd cc"),
        ("to=2026-11-22T12:00:02Z", "c b a"),
        ("state=discarded", ""),
    ],
)
def test_filters(five, submitter, query, expected):
    assert listed(submitter, query) == expected.split()


def test_pages(five, submitter):
    first = submitter.get(f"{PATH}?limit=2").json()
    second = submitter.get(f"{PATH}?limit=2&cursor={first['next_cursor']}").json()
    assert [letter["task_id"] for page in (first, second) for letter in page["items"]] == ["ddd", "cc", "c", "b"]


def test_a_letter_says_what_its_task_says_in_two_queries(five, submitter, django_assert_max_num_queries):
    submitter.get(PATH)
    with django_assert_max_num_queries(2):
        letter = submitter.get(PATH).json()["items"][0]
    assert (letter["status"], letter["reason"], letter["agent"], letter["kind"]) == ("failed", "it broke", "ada", "poison")
    assert letter["meaning"] == "several agents died of it" and letter["goal"] == "count the words"


@pytest.mark.parametrize("query", ["kind=sad", "state=", "limit=0", "colour=red", "from=yesterday", "agent=a&agent=b"])
def test_a_bad_query_is_400(five, submitter, query):
    response = submitter.get(f"{PATH}?{query}")
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, query.split("=")[0])


# ---- doing it again ---------------------------------------------------------------------------------------


def test_requeueing_makes_a_new_task_and_the_old_one_stays(acme, operator, submitter):
    configure(max_attempts=5)
    ended("t1", attempt=3, excluded_agents={"ada": "failed"})
    response = operator.post(f"{PATH}/t1/requeue", {"reason": "the disk is larger now"})
    task = response.json()
    assert (response.status_code, task["task_id"], task["status"], task["retry_of"]) == (201, "t1~2", "queued", "t1")
    assert (task["attempt"], task["max_attempts"]) == (0, 5)
    new, old = Task.objects.get(pk="acme/t1~2"), Task.objects.get(pk="acme/t1")
    assert (old.status, old.reason, new.excluded_agents) == ("failed", "it broke", {})
    assert listed(submitter) == [] and listed(submitter, "state=requeued") == ["t1"]
    decision = Decision.objects.get(task_key="acme/t1")
    assert (decision.kind, decision.outcome, decision.because) == ("dead_letter", "requeued", "the disk is larger now")
    assert decision.config_version == OrgConfigProvider().of("acme").version > 0
    assert decision.details == {"reason_kind": "max_attempts", "retried_as": "t1~2"} and "key" in decision.actor
    again = operator.post(f"{PATH}/t1/requeue", {})
    assert (again.status_code, again.json()["code"], again.json()["retried_as"]) == (409, "already_settled", "t1~2")
    assert submitter.get("/api/v1/tasks?retry_of=t1").json()["items"][0]["task_id"] == "t1~2"


def test_the_retry_of_a_retry_counts_on():
    assert [retry_id(name) for name in ("t", "t~2", "t~9", "a~b", "~~3")] == ["t~2", "t~3", "t~10", "a~b~2", "~~4"]
    long = retry_id("x" * 180)
    assert len(long) <= 180 and long.endswith("~2") and long != retry_id("x" * 179 + "y")


def test_it_may_be_changed_on_the_way(acme, operator):
    ended("t1", entry={"task_job_submission_data": {"a": 1, "b": 2}})
    patch = {"goal": "count them better", "task_job_submission_data": {"b": None, "c": [3]}}
    task = operator.post(f"{PATH}/t1/requeue", {"patch": patch, "exclude": ["ada"]}).json()
    assert (task["goal"], task["entry"]["task_job_submission_data"]) == ("count them better", {"a": 1, "c": [3]})
    assert Task.objects.get(pk="acme/t1~2").excluded_agents == {"ada": "excluded"}


def test_a_change_that_makes_no_entry_names_the_field_and_stores_nothing(acme, operator, submitter):
    ended("t1")
    for patch, field in (
        ({"task_priority_value": "high"}, "patch.task_priority_value"),
        ({"task_id": "t2"}, "patch.task_id"),
        ({"colour": "red"}, "patch.colour"),
        ({"task_goal": None}, "patch.task_goal"),
    ):
        response = operator.post(f"{PATH}/t1/requeue", {"patch": patch})
        assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)
    assert operator.post(f"{PATH}/t1/requeue", {"patch": {"submitter_subject_id": "umbrella:eve"}}).status_code == 404
    assert Task.objects.count() == 1 and listed(submitter) == ["t1"]


@pytest.mark.parametrize(
    ("body", "field"), [({"patch": []}, "patch"), ({"exclude": "ada"}, "exclude"), ({"keep_excluded": 1}, "keep_excluded"), ({"x": 1}, "x")]
)
def test_a_wrong_body_is_refused(acme, operator, body, field):
    ended("t1")
    response = operator.post(f"{PATH}/t1/requeue", body)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)


def test_a_deadline_that_has_passed_does_not_end_the_retry(acme, operator):
    ended("t1", TaskStatus.EXPIRED, entry={"task_completion_timeline": {"due": "2026-11-22T12:00:01Z", "mode": "soon"}})
    task = operator.post(f"{PATH}/t1/requeue", {}).json()
    assert (task["times"]["deadline"], task["entry"]["task_completion_timeline"]) == (None, {"mode": "soon"})


def test_two_people_make_one_task(shared_acme):
    ended("t1")
    answers = at_once(6, lambda _: dead_letters.requeue_many([dead_letters.find("acme", "t1")], Retry(), OLGA, now=NOON)[0])
    assert {answer.retried_as for answer in answers} == {"t1~2"}
    assert Task.objects.exclude(task_id="t1").count() == 1 and Decision.objects.filter(kind="dead_letter").count() == 1


def test_a_retry_that_was_discarded_at_the_same_moment_is_not_done(acme, nats, operator, monkeypatch):
    ended("t1")
    really = TaskIntake.submit_many

    def and_somebody_discards(*arguments, **more):
        made = really(*arguments, **more)
        dead_letters.discard(dead_letters.find("acme", "t1"), reason="nobody wants it", actor="olga", now=clock.now())
        return made

    monkeypatch.setattr(TaskIntake, "submit_many", and_somebody_discards)
    lost = operator.post(f"{PATH}/t1/requeue", {})
    assert (lost.status_code, lost.json()["code"], lost.json()["state"]) == (409, "already_settled", "discarded")
    stray = Task.objects.get(task_id="t1~2")
    assert (stray.status, stray.reason) == ("cancelled", "t1 was discarded at the same moment")


def test_an_id_that_is_taken_by_another_task_is_passed_over(acme, operator, submitter):
    submitter.post("/api/v1/tasks", make_entry(task_id="t1~2", task_goal="something else"))
    ended("t1")
    assert operator.post(f"{PATH}/t1/requeue", {}).json()["task_id"] == "t1~3"


def test_a_retry_that_a_policy_turns_away_leaves_the_letter_and_may_be_tried_again(acme, operator, submitter):
    ended("t1", entry={"task_job_submission_data": {"wish": "no"}})
    response = operator.post(f"{PATH}/t1/requeue", {})
    assert (response.status_code, response.json()["reason"]) == (422, "not this one")
    assert listed(submitter) == ["t1"]
    again = operator.post(f"{PATH}/t1/requeue", {"patch": {"task_job_submission_data": {"wish": "yes"}}})
    assert (again.status_code, again.json()["task_id"]) == (201, "t1~3")


def test_a_sub_task_is_done_again_below_the_same_parent(acme, operator, submitter):
    submitter.post("/api/v1/tasks", make_entry(task_id="whole"))
    part = {
        "sub_task_id": "part", "task_id": "whole", "sub_task_goal": "g", "sub_task_intent": "i", "sub_task_priority_value": 1,
        "parent_subject_ids": ["ada"],
    }  # fmt: skip
    assert submitter.post("/internal/process-task?wait=0", {"type": "sub_task", "data": part}).status_code == 202
    task = Task.objects.get(pk="acme/part")
    assert TaskStore().move_many([Move(task=task, end=TaskStatus.FAILED, reason="nobody", actor="tests")], now=NOON)
    response = operator.post(f"{PATH}/part/requeue", {"patch": {"goal": "better"}})
    assert (response.status_code, response.json()["goal"]) == (201, "better"), response.content
    again = Task.objects.get(pk="acme/part~2")
    assert (again.kind, again.parent_key, again.retry_of) == ("sub_task", "acme/whole", "part")


def test_a_merge_patch_is_as_the_rfc_says():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": None}, "d": [1]}) == {"a": {"c": 2}, "d": [1]}
    assert merged({"a": [1]}, {"a": {"b": None, "c": 1}}) == {"a": {"c": 1}}


# ---- leaving it -------------------------------------------------------------------------------------------


def test_discarding_takes_it_off_the_list(acme, operator, submitter):
    ended("t1")
    assert operator.post(f"{PATH}/t1/discard", {}).json()["errors"][0] == {
        "field": "reason", "code": "missing", "message": "is required",
    }  # fmt: skip
    letter = operator.post(f"{PATH}/t1/discard", {"reason": "nobody wants it"}).json()
    assert (letter["state"], letter["because"], letter["retried_as"]) == ("discarded", "nobody wants it", None)
    assert listed(submitter) == [] and Decision.objects.get().outcome == "discarded"
    assert operator.post(f"{PATH}/t1/discard", {"reason": "again"}).status_code == 409
    assert operator.post(f"{PATH}/t1/requeue", {}).status_code == 409 and Task.objects.count() == 1


def test_only_operators_settle_and_another_orgs_is_missing(acme, operator, submitter):
    ended("t1")
    ended("theirs", org_id="umbrella")
    for verb in ("requeue", "discard"):
        assert submitter.post(f"{PATH}/t1/{verb}", {"reason": "x"}).status_code == 403
        foreign, missing = (operator.post(f"{PATH}/{name}/{verb}", {"reason": "x"}) for name in ("theirs", "nothing"))
        assert (foreign.status_code, missing.status_code) == (404, 404)
        assert {**foreign.json(), "request_id": ""} == {**missing.json(), "request_id": ""}


def test_the_history_of_the_new_task_says_whose_doing_it_is(acme):
    ended("t1")
    task = dead_letters.requeue(dead_letters.find("acme", "t1"), Retry(), OLGA, now=clock.now())
    from apps.tasks.models import Transition

    assert Transition.objects.get(task_key=task.key).actor == "olga (key k9)"
