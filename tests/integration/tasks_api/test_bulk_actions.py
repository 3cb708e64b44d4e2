"""One verb on many: counted first, never more than was shown, a batch at a time, and again after whoever did it died."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from apps.core import clock
from apps.tasks.models import BulkAction, DeadLetter, Decision, Task, Transition
from apps.tasks.operating import bulk_actions, bulk_verbs
from apps.tasks.operating.bulk_actions import BulkRunner
from apps.tasks.queue import PriorityQueue, item_of
from apps.tasks.states import TaskStatus
from apps.tasks.store import Move, TaskStore
from tests.factories import NOON, make_task, task_row
from tests.threads import at_once

pytestmark = pytest.mark.store
TASKS, LETTERS = "/api/v1/tasks/actions", "/api/v1/dead-letters/actions"


@pytest.fixture
def crowd(acme, nats):
    """Six queued, two with an agent, one that has ended, one of another org."""
    for n in range(6):
        task = make_task(f"q{n}", priority=n, job_space_id="lab" if n < 3 else "")
        PriorityQueue().push("acme", [item_of(task)], now=NOON)
    for n in range(2):
        task_row(f"r{n}", status="running", attempt=1, head_agent_subject_id="ada").save(force_insert=True)
    task_row("done", status="completed").save(force_insert=True)
    make_task("theirs", org_id="umbrella")


def previewed(caller: Any, path: str = TASKS, **body: Any) -> dict[str, Any]:
    response = caller.post(path, {"dry_run": True, "filter": {}, **body})
    assert response.status_code == 200, response.content
    return response.json()


def run(caller: Any, path: str = TASKS, *, batch: int = 500, **body: Any) -> dict[str, Any]:
    """Preview, carry out, and how it ended."""
    going = caller.post(path, {"token": previewed(caller, path, **body)["token"]})
    assert going.status_code == 202, going.content
    BulkRunner(batch=batch).run(seconds=30)
    return caller.get(going["Location"]).json()


def statuses(**where: Any) -> dict[str, str]:
    return dict(Task.objects.filter(org_id="acme", **where).order_by("task_id").values_list("task_id", "status"))


# ---- the preview ------------------------------------------------------------------------------------------


def test_a_preview_counts_shows_some_and_changes_nothing(crowd, operator):
    before = statuses()
    found = previewed(operator, action="cancel", filter={"job_space": "lab"})
    assert (found["count"], [task["task_id"] for task in found["sample"]]) == (3, ["q2", "q1", "q0"])
    assert statuses() == before and not BulkAction.objects.exists()


@pytest.mark.parametrize(
    ("action", "given", "count"),
    [
        ("cancel", {}, 8), ("requeue", {}, 2), ("reprioritize", {}, 8), ("cancel", {"status": "completed"}, 0),
        ("cancel", {"status": ["queued", "running"], "priority_min": 4}, 2), ("cancel", {"task_ids": ["q0", "done", "theirs"]}, 1),
        ("cancel", {"q": "q"}, 6), ("requeue", {"agent": "bo"}, 0),
        ("cancel", {"where": {"$or": [{"agent": "ada"}, {"priority": {"$gt": 4}}]}}, 3), ("cancel", {"where": '{"kind": "sub_task"}'}, 0),
    ],
)  # fmt: skip
def test_only_what_the_verb_is_for_is_counted(crowd, operator, action, given, count):
    assert previewed(operator, action=action, filter=given, **({"priority": 5} if action == "reprioritize" else {}))["count"] == count


# ---- carrying out -----------------------------------------------------------------------------------------


def test_cancel_by_filter_leaves_the_others(crowd, operator, redis):
    ended = run(operator, action="cancel", filter={"status": ["queued", "running"], "q": "q"}, reason="a mistake", batch=4)
    assert (ended["status"], ended["total"], ended["changed"], ended["skipped"]) == ("done", 6, 6, 0)
    assert set(statuses(task_id__startswith="q").values()) == {"cancelled"}
    assert set(statuses(task_id__startswith="r").values()) == {"running"}
    told = Transition.objects.filter(new="cancelled")
    assert told.count() == 6 and {row.reason for row in told} == {"a mistake"} and "key" in told[0].actor
    assert PriorityQueue().size("acme") == 0 and Task.objects.get(pk="umbrella/theirs").status == "queued"


def test_requeue_takes_from_agents_and_puts_in_order(crowd, operator):
    assert run(operator, action="requeue", filter={"agent": "ada"})["changed"] == 2
    assert set(statuses(task_id__startswith="r").values()) == {"queued"} and PriorityQueue().size("acme") == 8
    assert set(Task.objects.filter(task_id__startswith="r").values_list("head_agent_subject_id", "max_attempts")) == {("", 6)}


def test_reprioritize_reorders_the_queue(crowd, operator):
    assert run(operator, action="reprioritize", filter={"task_ids": ["q0", "q1"]}, priority=900, reason="the board asks")["changed"] == 2
    assert PriorityQueue().position("acme", item_of(Task.objects.get(pk="acme/q0"))) == 0
    assert Decision.objects.filter(kind="priority_change").count() == 2


def test_what_comes_after_the_preview_is_left_alone(crowd, operator):
    token = previewed(operator, action="cancel", filter={"status": "queued"})["token"]
    make_task("late")
    operator.post(TASKS, {"token": token})
    BulkRunner().run(seconds=30)
    assert statuses(status="queued") == {"late": "queued"}


def test_what_comes_to_fit_while_it_runs_makes_it_no_more_than_was_counted(crowd, operator):
    going = operator.post(TASKS, {"token": previewed(operator, action="cancel", filter={"status": "queued"})["token"]})
    BulkRunner(batch=4).step(BulkAction.objects.get(), now=clock.now())
    for n in range(2):  # behind the cursor: their turn is still to come
        Task.objects.filter(task_id=f"r{n}").update(status="queued", sequence=10 + n)
    late = task_row("r2", sequence=9)
    late.save(force_insert=True)
    BulkRunner(batch=4).run(seconds=30)
    ended = operator.get(going["Location"]).json()
    assert (ended["status"], ended["total"], ended["done"], ended["changed"]) == ("done", 6, 6, 6)
    assert list(statuses(status="queued")) == ["r0", "r1", "r2"]


def test_with_a_count_nothing_is_done_when_more_fit(crowd, operator):
    refused = operator.post(TASKS, {"action": "cancel", "filter": {"status": "queued"}, "expected_count": 5})
    assert (refused.status_code, refused.json()["code"], refused.json()["count"]) == (409, "more_than_shown", 6)
    assert operator.post(TASKS, {"action": "cancel", "filter": {"status": "queued"}, "expected_count": 6}).status_code == 202


def test_one_token_is_one_action(crowd, operator):
    token = previewed(operator, action="cancel")["token"]
    first, second = (operator.post(TASKS, {"token": token}).json()["id"] for _ in range(2))
    assert first == second and BulkAction.objects.count() == 1


def test_a_token_is_the_orgs_own_and_not_to_be_made_up(crowd, operator, caller):
    token = previewed(operator, action="cancel")["token"]
    for bad in (caller("operator", "umbrella").post(TASKS, {"token": token}), operator.post(TASKS, {"token": token[:-2] + "xx"})):
        assert (bad.status_code, bad.json()["code"]) == (400, "bad_token")
    assert not BulkAction.objects.exists()


def test_a_token_is_good_for_a_while(crowd, operator, monkeypatch):
    token = previewed(operator, action="cancel")["token"]
    monkeypatch.setattr(bulk_actions, "TOKEN_SECONDS", -1)
    late = operator.post(TASKS, {"token": token})
    assert (late.status_code, late.json()["code"]) == (400, "bad_token") and not BulkAction.objects.exists()


def test_of_two_workers_who_see_the_same_batch_one_takes_it(crowd, operator):
    operator.post(TASKS, {"token": previewed(operator, action="cancel", filter={"status": "queued"})["token"]})
    first, second = BulkAction.objects.get(), BulkAction.objects.get()
    assert [BulkRunner(batch=2).step(seen, now=clock.now()) for seen in (first, second)] == [True, False]
    assert len(statuses(status="queued")) == 4


def test_a_worker_that_died_in_a_batch_is_followed_by_another(crowd, operator, monkeypatch):
    action = bulk_actions.start_token(
        "acme", previewed(operator, action="cancel", filter={"status": "queued"})["token"], actor="tests", now=clock.now()
    )
    with monkeypatch.context() as dying:
        dying.setattr(BulkRunner, "_record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            BulkRunner(batch=2).run(seconds=30)
    now = clock.now()
    assert not BulkRunner().waiting(now=now)  # its lease runs
    late = now + timedelta(seconds=bulk_actions.LEASE_SECONDS + 1)
    assert BulkRunner().waiting(now=late)
    BulkRunner(batch=2).run(now=lambda: late, seconds=30)
    action.refresh_from_db()
    assert (action.status, action.changed, action.total) == ("done", 4, 6) and not statuses(status="queued")


def test_several_workers_do_each_batch_once(shared_acme, nats):
    for n in range(40):
        make_task(f"t{n:02}")
    wanted = bulk_actions.Wanted(source="tasks", action="cancel", filter={}, arguments={})
    action = bulk_actions.start("acme", wanted, expected=40, actor="tests", now=NOON)
    at_once(4, lambda _: BulkRunner(batch=3).run(seconds=20))
    BulkRunner(batch=3).run(seconds=20)
    action.refresh_from_db()
    assert (action.status, action.changed, action.done) == ("done", 40, 40) and Transition.objects.filter(new="cancelled").count() == 40


def test_it_may_be_stopped(crowd, operator, submitter):
    going = operator.post(TASKS, {"action": "cancel", "filter": {}, "expected_count": 99})
    assert submitter.post(f"{going['Location']}/stop").status_code == 403
    assert operator.post(f"{going['Location']}/stop").json()["status"] == "stopped"
    assert not BulkRunner().run(seconds=30) and statuses(status="cancelled") == {}
    assert operator.post(f"{going['Location']}/stop").status_code == 409


def test_a_slice_ends_and_says_that_there_is_more(crowd, operator):
    operator.post(TASKS, {"action": "cancel", "filter": {}, "expected_count": 99})
    assert BulkRunner(batch=2, monotonic=iter(range(100)).__next__).run(seconds=2) is True


def test_hundreds_take_a_handful_of_queries(acme, nats, operator, django_assert_max_num_queries):
    TaskStore().insert_many([_birth(n) for n in range(600)], now=NOON)
    operator.post(TASKS, {"action": "cancel", "filter": {"q": "k"}, "expected_count": 600})
    with django_assert_max_num_queries(40):
        BulkRunner().run(seconds=30)
    assert BulkAction.objects.get().changed == 600


def _birth(n: int) -> Any:
    from apps.tasks.store import Birth

    return Birth(task=task_row(f"k{n:04}"), reason="", actor="tests")


# ---- dead letters -----------------------------------------------------------------------------------------


@pytest.fixture
def letters(acme):
    for n in range(4):
        task = task_row(f"d{n}", status="running", attempt=1, max_attempts=3, head_agent_subject_id="ada" if n < 3 else "bo")
        task.save(force_insert=True)
        assert TaskStore().move_many([Move(task=task, end=TaskStatus.FAILED, reason="no", actor="tests")], now=NOON)


def test_dead_letters_by_filter_are_done_again(letters, operator):
    ended = run(operator, LETTERS, action="requeue", filter={"agent": "ada"}, exclude=["ada"], batch=2)
    assert (ended["status"], ended["changed"], ended["failed"]) == ("done", 3, 0)
    assert statuses(retry_of__gt="") == {"d0~2": "queued", "d1~2": "queued", "d2~2": "queued"}
    assert set(DeadLetter.objects.values_list("task_id", "state")) == {
        ("d0", "requeued"), ("d1", "requeued"), ("d2", "requeued"), ("d3", "waiting"),
    }  # fmt: skip


def test_those_that_cannot_be_are_told_and_stop_nobody(letters, operator):
    ended = run(operator, LETTERS, action="requeue", patch={"task_priority_value": 5000})
    assert (ended["changed"], ended["failed"]) == (0, 4) and "patch.task_priority_value" in ended["problems"][0]["message"]
    assert set(DeadLetter.objects.values_list("state", flat=True)) == {"waiting"}


def test_dead_letters_by_filter_are_left(letters, operator):
    found = previewed(operator, LETTERS, action="discard", filter={"kind": ["agent_failed"]})
    assert found["count"] == 4 and found["sample"][0]["kind"] == "agent_failed"
    assert run(operator, LETTERS, action="discard", filter={"task_ids": ["d0", "d3"]}, reason="old")["changed"] == 2
    assert DeadLetter.objects.filter(state="discarded", because="old").count() == 2


# ---- bad questions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"), ({"action": "explode", "filter": {}}, "action"), ({"action": "cancel"}, "filter"),
        ({"action": "cancel", "filter": []}, "filter"),
        ({"action": "cancel", "filter": {"colour": "red"}}, "filter.colour"),
        ({"action": "cancel", "filter": {"limit": 5}}, "filter.limit"),
        ({"action": "cancel", "filter": {"status": "sad"}}, "filter.status"),
        ({"action": "cancel", "filter": {"agent": ["a", "b"]}}, "filter.agent"),
        ({"action": "cancel", "filter": {"q": {"$ne": 1}}}, "filter.q"),
        ({"action": "cancel", "filter": {"task_ids": "t1"}}, "filter.task_ids"), ({"action": "reprioritize", "filter": {}}, "priority"),
        ({"action": "reprioritize", "filter": {}, "priority": 1001}, "priority"),
        ({"action": "cancel", "filter": {}, "priority": 1}, "priority"),
        ({"action": "cancel", "filter": {}, "reason": 7}, "reason"), ({"action": "cancel", "filter": {"agent": True}}, "filter.agent"),
    ],
)  # fmt: skip
def test_a_bad_question_is_refused_and_the_field_is_named(crowd, operator, body, field):
    response = operator.post(TASKS, {"dry_run": True, **body})
    assert response.status_code == 422 and field in [problem["field"] for problem in response.json()["errors"]], response.content
    assert not BulkAction.objects.exists()


def test_it_takes_an_operator_a_count_and_the_own_org(crowd, operator, submitter, caller):
    assert submitter.post(TASKS, {"action": "cancel", "filter": {}, "dry_run": True}).status_code == 403
    blind = operator.post(TASKS, {"action": "cancel", "filter": {}})
    assert (blind.status_code, blind.json()["errors"][0]["field"]) == (422, "expected_count")
    going = operator.post(TASKS, {"action": "cancel", "filter": {}, "expected_count": 99})
    eve = caller("operator", "umbrella")
    assert eve.get(going["Location"]).status_code == 404 and eve.post(f"{going['Location']}/stop").status_code == 404
    assert eve.get("/api/v1/bulk-actions").json()["items"] == []
    assert [item["id"] for item in operator.get("/api/v1/bulk-actions").json()["items"]] == [going.json()["id"]]


def test_the_verbs_are_those_of_the_table():
    assert set(bulk_verbs.FOR) == {"cancel", "requeue", "reprioritize"}
