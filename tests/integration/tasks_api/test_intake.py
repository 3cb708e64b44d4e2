"""The one road by which tasks enter: policies, idempotency, one write, one push."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core.auth import Principal
from apps.core.errors import Invalid, Refused
from apps.dsl.models import PolicyRun
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks.intake import OtherBody, TaskIntake, UnknownOrg
from apps.tasks.models import Task, Transition
from apps.tasks.parser import InitialJobParser
from apps.tasks.queue import PriorityQueue, item_of
from apps.tasks.states import TaskStatus
from tests.factories import NOON, make_entry, make_org

pytestmark = pytest.mark.store
S = TaskStatus


def entry(wish: str = "yes", **fields):
    payload = {"wish": wish, **fields.pop("payload", {})}
    return InitialJobParser().parse(make_entry(task_job_submission_data=payload, **fields))


def submit(sam: Principal, *entries, now=NOON):
    return TaskIntake().submit_many(entries, sam, now=now)


def row(task_id: str) -> Task:
    return Task.objects.get(pk=f"acme/{task_id}")


def test_a_task_that_is_approved_is_stored_queued_and_explained(sam):
    (verdict,) = submit(sam, entry(task_id="t1"))
    assert (verdict.status, verdict.reason, verdict.error, verdict.repeated) == (S.QUEUED, "fine", None, False)
    task = row("t1")
    assert (task.status, task.reason, task.created_at, task.queued_at) == ("queued", "fine", NOON, NOON)
    assert task.entry["task_goal"] == "count the words"
    assert PriorityQueue().position("acme", item_of(task)) == 0
    (move,) = Transition.objects.filter(task_key="acme/t1")
    assert (move.old, move.new, move.actor) == ("", "queued", sam.actor)
    (run,) = PolicyRun.objects.filter(task_key="acme/t1")
    assert (run.hook, run.script_id, run.script_version, run.output["accepted"]) == ("approval", "approval/test", 1, True)
    assert run.config_version == OrgConfigProvider().of("acme").version


def test_a_task_that_is_refused_is_kept_with_its_reason_and_never_queued(sam):
    (verdict,) = submit(sam, entry("no", task_id="t1"))
    assert (verdict.status, verdict.reason) == (S.REJECTED, "not this one")
    assert isinstance(verdict.error, Refused)
    assert (row("t1").status, row("t1").finished_at) == ("rejected", NOON)
    assert PriorityQueue().size("acme") == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"wish": "ask"}, "let a person see it"),
        ({"wish": "crash"}, "boom"),
        ({"task_op_convertor_dsl_id": "approval/nowhere"}, "there is no such policy script"),
        ({"task_op_convertor_dsl_id": "priority/rank"}, "not approval"),
        ({"task_execution_mode": "manual"}, "manual"),
    ],
)
def test_what_is_not_plainly_accepted_waits_for_a_person(sam, fields, reason):
    (verdict,) = submit(sam, entry(task_id="t1", **fields))
    assert verdict.status == S.AWAITING_APPROVAL
    assert reason in verdict.reason
    assert verdict.error is None
    assert PriorityQueue().size("acme") == 0


def test_without_any_approval_policy_tasks_wait_for_a_person(sam):
    make_org("acme", approval_dsl_id=None)
    (verdict,) = submit(sam, entry())
    assert (verdict.status, verdict.reason) == (S.AWAITING_APPROVAL, "no approval policy is configured")


def test_a_manual_task_may_still_be_refused_at_once(sam):
    assert submit(sam, entry("no", task_execution_mode="manual"))[0].status == S.REJECTED


def test_the_priority_policy_orders_the_queue(sam):
    make_org("acme", priority_assigner_dsl_id="priority/rank")
    submit(sam, *(entry(task_id=f"t{rank}", task_priority_value=9, payload={"rank": rank}) for rank in (1, 5, 3)))
    assert {task.task_id: (task.submitter_priority, task.priority) for task in Task.objects.all()} == {
        "t1": (9, 1), "t5": (9, 5), "t3": (9, 3),
    }  # fmt: skip
    claimed = PriorityQueue().claim("acme", {"": 10}, limit=10, now=NOON)
    assert [claim.key for claim in claimed] == ["acme/t5", "acme/t3", "acme/t1"]


def test_a_priority_policy_that_fails_leaves_the_submitters_own(sam):
    submit(sam, entry(task_id="t1", task_priority_value=7, task_behavior_dsl_map={"priority_assigner_dsl_id": "priority/rank"}))
    assert row("t1").priority == 7
    run = PolicyRun.objects.get(task_key="acme/t1", hook="priority")
    assert run.error


def test_a_held_task_has_its_priority_already(sam):
    make_org("acme", priority_assigner_dsl_id="priority/rank")
    submit(sam, entry("ask", task_id="t1", payload={"rank": 42}))
    assert row("t1").priority == 42


def test_equal_priorities_keep_the_order_of_the_batch(sam):
    submit(sam, *(entry(task_id=f"t{index:02}") for index in range(30)))
    claimed = PriorityQueue().claim("acme", {"": 100}, limit=100, now=NOON)
    assert [claim.key for claim in claimed] == [f"acme/t{index:02}" for index in range(30)]


def test_the_same_task_again_gets_the_present_truth_and_makes_nothing(sam):
    first = entry(task_id="t1")
    submit(sam, first)
    Task.objects.filter(pk="acme/t1").update(status="dispatched", head_agent_subject_id="ada")
    (again,) = submit(sam, first, now=NOON + timedelta(hours=1))
    assert (again.status, again.agent, again.repeated) == (S.DISPATCHED, "ada", True)
    assert (Task.objects.count(), Transition.objects.count(), PolicyRun.objects.count(), PriorityQueue().size("acme")) == (1, 1, 1, 1)


def test_a_refused_task_again_is_refused_again(sam):
    first = entry("no", task_id="t1")
    submit(sam, first)
    (again,) = submit(sam, first)
    assert (again.status, again.reason, again.repeated) == (S.REJECTED, "not this one", True)
    assert isinstance(again.error, Refused)


def test_another_body_under_the_same_id_is_a_conflict(sam):
    submit(sam, entry(task_id="t1"))
    (other,) = submit(sam, entry(task_id="t1", task_goal="something else"))
    assert (other.status, type(other.error)) == (None, OtherBody)
    assert row("t1").goal == "count the words"


def test_repeats_and_conflicts_inside_one_batch(sam):
    first = entry(task_id="t1")
    verdicts = submit(sam, first, entry(task_id="t2"), first, entry(task_id="t1", task_goal="other"))
    assert [(verdict.status, verdict.repeated, type(verdict.error)) for verdict in verdicts] == [
        (S.QUEUED, False, type(None)),
        (S.QUEUED, False, type(None)),
        (S.QUEUED, True, type(None)),
        (None, False, OtherBody),
    ]
    assert Task.objects.count() == 2


def test_one_bad_entry_stops_no_other(sam):
    late = entry(task_id="late", task_completion_timeline={"due": "2026-11-22T11:59:59Z"})
    foreign = entry(task_id="foreign", submitter_subject_id="umbrella:sam")
    good, late_verdict, foreign_verdict, refused = submit(sam, entry(task_id="good"), late, foreign, entry("no", task_id="no"))
    assert (good.status, refused.status) == (S.QUEUED, S.REJECTED)
    assert isinstance(late_verdict.error, Invalid)
    assert [problem.code for problem in late_verdict.error.problems] == ["past"]
    assert isinstance(foreign_verdict.error, UnknownOrg)
    assert set(Task.objects.values_list("task_id", flat=True)) == {"good", "no"}


def test_the_repeat_of_a_task_that_was_in_time_is_not_late(sam):
    due = entry(task_id="t1", task_completion_timeline={"due": "2026-11-22T13:00:00Z"})
    submit(sam, due)
    assert row("t1").deadline == NOON + timedelta(hours=1)
    (again,) = submit(sam, due, now=NOON + timedelta(hours=2))
    assert (again.status, again.repeated, again.error) == (S.QUEUED, True, None)


def test_the_orgs_settings_reach_the_task(sam):
    make_org("acme", max_attempts=2, task_timeline_default_s=60)
    submit(sam, entry(task_id="t1"), entry(task_id="t2", task_completion_timeline={"not_before": "2026-11-22T13:00:00Z"}))
    assert (row("t1").max_attempts, row("t1").deadline) == (2, NOON + timedelta(seconds=60))
    assert row("t2").not_before == NOON + timedelta(hours=1)
    assert [claim.key for claim in PriorityQueue().claim("acme", {"": 10}, limit=10, now=NOON)] == ["acme/t1"]


def test_with_redis_away_a_task_is_accepted_all_the_same(sam, redis, valkey):
    OrgConfigProvider().of("acme")
    valkey.kill()
    try:
        (verdict,) = submit(sam, entry(task_id="t1"))
    finally:
        valkey.start()
    assert (verdict.status, row("t1").status) == (S.QUEUED, "queued")
    assert PriorityQueue().size("acme") == 0


def test_two_orgs_may_use_the_same_task_id(sam):
    make_org("umbrella")
    other = Principal(org_id="umbrella", role="submitter", subject_id="", key_id="k2", name="")
    submit(sam, entry(task_id="t1"))
    submit(other, entry(task_id="t1", submitter_subject_id="umbrella:eve", task_goal="theirs"))
    assert dict(Task.objects.values_list("key", "goal")) == {"acme/t1": "count the words", "umbrella/t1": "theirs"}


def test_an_empty_batch_is_nothing(sam):
    assert submit(sam) == []
