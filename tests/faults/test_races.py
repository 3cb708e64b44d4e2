"""Two of everything at once, late voices, and emptied servers: inside one process, against real Redis, NATS and both databases."""

from __future__ import annotations

import random
from collections import Counter
from datetime import datetime, timedelta

import pytest

from apps.agents.presence import PresenceBoard
from apps.core import clock, ids
from apps.messaging.envelope import AgentReport, ReportKind
from apps.tasks import steering
from apps.tasks.executor import JobExecutor
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Assignment, Report, Task, Transition
from apps.tasks.queue import PriorityQueue
from apps.tasks.results import ReportDesk
from apps.tasks.states import TaskStatus
from apps.tasks.store import LostRace, Move, TaskStore
from tests.checker import violations
from tests.faults.parts import fresh, queued, report, seen
from tests.threads import at_once

pytestmark = [pytest.mark.store, pytest.mark.faults]
S = TaskStatus


def check(tasks: list[Task]) -> list[str]:
    return violations(
        accepted=[task.task_id for task in tasks],
        tasks=[{**row, "_id": row["key"]} for row in Task.objects.values()],
        transitions=list(Transition.objects.values()),
        assignments=list(Assignment.objects.values()),
        reports=list(Report.objects.values()),
    )


def test_a_late_report_from_a_replaced_agent_changes_nothing(platform):
    (task,) = queued(1)
    seen("ada")
    JobExecutor().run_batch(now=clock.now())
    assert (fresh(task).head_agent_subject_id, fresh(task).attempt) == ("ada", 1)
    steering.requeue(fresh(task), actor="olga", reason="ada is too slow", now=clock.now())
    PresenceBoard().record("acme", "ada", slots=1, instance="1", leaving=True, now=clock.now())
    seen("bo")
    JobExecutor().run_batch(now=clock.now())
    assert (fresh(task).head_agent_subject_id, fresh(task).attempt) == ("bo", 2)
    before = Task.objects.values().get(pk=task.key)
    late = [
        report(task, ReportKind.ACCEPTED, agent="ada", attempt=1, seq=1),
        report(task, ReportKind.PROGRESS, agent="ada", attempt=1, seq=2, percent=90.0),
        report(task, ReportKind.COMPLETED, agent="ada", attempt=1, seq=3, result={"by": "ada"}),
        report(task, ReportKind.FAILED, agent="ada", attempt=1, seq=4, error="no"),
    ]
    ReportDesk().apply(late, now=clock.now())
    assert Task.objects.values().get(pk=task.key) == before
    assert Counter(Report.objects.values_list("outcome", flat=True)) == {"stale": 4}
    ReportDesk().apply([report(task, ReportKind.COMPLETED, agent="bo", attempt=2, result={"by": "bo"})], now=clock.now())
    ReportDesk().apply(late, now=clock.now())
    assert (fresh(task).status, fresh(task).result) == (S.COMPLETED, {"by": "bo"})
    assert check([task]) == []


def test_nobody_can_report_on_an_attempt_that_is_not_his(platform):
    (task,) = queued(1)
    seen("ada")
    JobExecutor().run_batch(now=clock.now())
    before = Task.objects.values().get(pk=task.key)
    forged = [
        report(task, ReportKind.COMPLETED, agent="bo", attempt=1, result={"by": "bo"}),
        report(task, ReportKind.FAILED, agent="bo", attempt=2, seq=2, error="no"),
        report(task, ReportKind.COMPLETED, agent="ada", attempt=7, seq=3, result={"by": "ada"}),
        AgentReport(org_id="acme", task_id="ghost", agent="ada", kind=ReportKind.COMPLETED, attempt=1, seq=1, at=clock.now()),
    ]
    ReportDesk().apply(forged, now=clock.now())
    assert Task.objects.values().get(pk=task.key) == {**before, "status": "dispatched"}
    assert set(Report.objects.values_list("outcome", flat=True)) == {"refused"}


def test_two_desks_that_apply_the_same_results_at_once_keep_each_once(platform):
    tasks = queued(60)
    seen("ada")
    JobExecutor().run_batch(now=clock.now())
    results = [report(task, ReportKind.COMPLETED, agent="ada", attempt=1, result={"n": n}) for n, task in enumerate(tasks)]
    at_once(4, lambda n: ReportDesk().apply(random.Random(n).sample(results, len(results)), now=clock.now()))
    assert {fresh(task).result["n"] for task in tasks} == set(range(60))
    assert Transition.objects.filter(new=S.COMPLETED).count() == 60
    assert check(tasks) == []


def test_reports_in_every_order_leave_one_true_end(platform):
    tasks = queued(40)
    seen("ada")
    JobExecutor().run_batch(now=clock.now())

    def story(task: Task) -> list[AgentReport]:
        return [
            report(task, ReportKind.ACCEPTED, agent="ada", attempt=1, seq=1),
            report(task, ReportKind.PROGRESS, agent="ada", attempt=1, seq=2, percent=50.0),
            report(task, ReportKind.COMPLETED, agent="ada", attempt=1, seq=3, result={"ok": True}),
        ]

    everything = [one for task in tasks for one in story(task)] * 2
    random.Random(5).shuffle(everything)
    at_once(3, lambda n: ReportDesk().apply(everything[n::3], now=clock.now()))
    assert {fresh(task).status for task in tasks} == {S.COMPLETED}
    assert check(tasks) == []


def test_four_dispatchers_at_once_assign_every_task_once(platform):
    queued(120)
    seen("ada", "bo")

    def dispatch(_: int) -> int:
        total = 0
        while done := JobExecutor().run_batch(now=clock.now()):
            total += done
        return total

    assert sum(at_once(4, dispatch)) == 120
    assert Counter(Task.objects.values_list("status", "attempt")) == {(S.DISPATCHED, 1): 120}
    assert Assignment.objects.count() == 120


def test_two_loaders_at_once_requeue_exactly_the_queued_tasks(platform, redis):
    tasks = queued(90)
    seen("ada")
    store = TaskStore()
    store.move_many([Move(task=task, end=S.CANCELLED, reason="", actor="tests") for task in tasks[60:70]], now=clock.now())
    stored = clock.now()
    redis.flushall()
    later = stored + timedelta(seconds=60)
    at_once(2, lambda _: TaskLoader().reconcile(now=later))
    at_once(2, lambda _: TaskLoader().reconcile(now=later))
    claims = PriorityQueue().claim("acme", {"": 1000}, limit=1000, now=later)
    expected = [task.key for task in tasks[:60] + tasks[70:]]
    assert [claim.key for claim in claims] == expected


def test_a_loader_gives_leases_back_to_tasks_in_flight_and_leaves_their_agents_alone(platform, redis):
    from apps.agents.holds import Holds

    tasks = queued(20)
    seen("ada")
    JobExecutor().run_batch(now=clock.now())
    names = [ids.assignment_id(task.key, 1) for task in tasks]
    assert Holds().missing(names) == []
    redis.flushall()
    assert Holds().missing(names) == names
    TaskLoader().reconcile(now=clock.now() + timedelta(seconds=60))
    assert Holds().missing(names) == []
    assert {fresh(task).status for task in tasks} == {S.DISPATCHED}
    TaskLoader().reconcile(now=clock.now() + timedelta(seconds=120))
    assert PresenceBoard().states("acme", ["ada"], now=clock.now())["ada"].load == 20


@pytest.mark.parametrize("round_", range(8))
def test_of_a_cancel_and_a_result_at_once_one_wins(platform, round_):
    (task,) = queued(1)
    seen("ada")
    JobExecutor().run_batch(now=clock.now())

    def cancel() -> bool:
        try:
            steering.cancel(fresh(task), actor="sam", reason="", now=clock.now())
        except (steering.AlreadyEnded, LostRace):
            return False
        return True

    def finish() -> bool:
        ReportDesk().apply([report(task, ReportKind.COMPLETED, agent="ada", attempt=1, result={})], now=clock.now())
        return True

    cancelled, _ = at_once(2, lambda n: (cancel, finish)[(n + round_) % 2]())[:: -1 if round_ % 2 else 1]
    assert fresh(task).status == (S.CANCELLED if cancelled else S.COMPLETED)
    assert check([task]) == []


def test_a_cancelled_task_in_the_queue_is_never_dispatched_even_when_redis_forgot_the_cancel(platform):
    tasks = queued(10)
    seen("ada")
    now: datetime = clock.now()
    # Straight in the store: as if Redis had been away when the cancel wanted to take it out of the queue.
    TaskStore().move_many([Move(task=task, end=S.CANCELLED, reason="", actor="tests") for task in tasks[:4]], now=now)
    JobExecutor().run_batch(now=clock.now())
    assert Counter(Task.objects.values_list("status", flat=True)) == {S.CANCELLED: 4, S.DISPATCHED: 6}
    assert PriorityQueue().size("acme") == 0
