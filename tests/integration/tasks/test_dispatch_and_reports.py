"""From the queue to an agent's stream and back, on a real Redis, a real NATS and a database."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest

from apps.agents.holds import Holds
from apps.agents.presence import PresenceBoard
from apps.core import clock, ids
from apps.messaging import subjects
from apps.messaging.consumer import PullConsumer
from apps.messaging.envelope import AgentReport, ReportKind
from apps.tasks import steering
from apps.tasks.executor import JobExecutor
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Assignment, Report, Task, Transition
from apps.tasks.queue import PriorityQueue, item_of
from apps.tasks.results import ReportDesk
from apps.tasks.store import Birth, TaskStore
from apps.tasks.sweeper import HEARING_SECONDS, Listening, Sweeper
from tests.factories import NOON, make_agent, make_entry, make_org

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]


@pytest.fixture
def acme():
    make_org("acme", retry_backoff_s=0)
    make_agent("acme", "ada")
    make_agent("acme", "bo")


def queued(*names: str, priority: int = 0, **fields) -> list[Task]:
    tasks = [
        Task(
            **{
                "key": ids.task_key("acme", name),
                "org_id": "acme",
                "task_id": name,
                "goal": "g",
                "intent": "i",
                "submitter_subject_id": "acme:sam",
                "entry": make_entry(task_id=name),
                "body_hash": "",
                "status": "queued",
                "priority": priority,
                "sequence": clock.sequence(),
                "created_at": NOON,
                "updated_at": NOON,
                **fields,
            }
        )
        for name in names
    ]
    TaskStore().insert_many([Birth(task=task, reason="accepted", actor="acme:sam") for task in tasks], now=NOON)
    PriorityQueue().push("acme", [item_of(task) for task in tasks], now=NOON)
    return tasks


def dispatch(now=NOON) -> int:
    return JobExecutor().run_batch(now=now)


def received(agent: str) -> list[dict]:
    """What waits for the agent in its stream, taken from it."""
    token = subjects.agent_token("acme", agent)
    consumer = PullConsumer(subjects.DELIVERIES, token)
    messages = consumer.fetch(100, 0.3)
    consumer.ack(messages)
    return [orjson.loads(message.data) for message in messages]


def report(task_id: str, kind: ReportKind, *, agent: str, attempt: int = 1, seq: int = 1, now=NOON, **body) -> None:
    made = AgentReport(org_id="acme", task_id=task_id, agent=agent, kind=kind, attempt=attempt, seq=seq, at=now, **body)
    ReportDesk().apply([made], now=now)


def task(task_id: str) -> Task:
    return Task.objects.get(pk=ids.task_key("acme", task_id))


def path(task_id: str) -> list[str]:
    return list(Transition.objects.filter(task_key=ids.task_key("acme", task_id)).order_by("id").values_list("new", flat=True))


def test_a_queued_task_is_delivered_to_the_least_loaded_agent_with_its_attempt(acme):
    queued("t1", "t2")
    assert dispatch() == 2
    first, second = task("t1"), task("t2")
    assert {first.status, second.status} == {"dispatched"}
    assert {first.head_agent_subject_id, second.head_agent_subject_id} == {"ada", "bo"}
    [envelope] = received(first.head_agent_subject_id)
    assert envelope["event_data"]["task_id"] == "t1"
    assert (envelope["attempt"], envelope["sender_subject_id"]) == (1, "acme")
    assert envelope["reply_subject"] == subjects.report("acme", "t1", subjects.agent_token("acme", first.head_agent_subject_id))
    assignment = Assignment.objects.get(pk="acme/t1#1")
    assert assignment.because.startswith(f"{first.head_agent_subject_id} is the least loaded of 2")


def test_a_result_ends_the_task_and_frees_the_agent(acme):
    queued("t1")
    dispatch()
    agent = task("t1").head_agent_subject_id
    report("t1", ReportKind.ACCEPTED, agent=agent)
    report("t1", ReportKind.PROGRESS, agent=agent, seq=2, percent=40.0, message="reading")
    assert (task("t1").status, task("t1").progress) == ("running", 40.0)
    report("t1", ReportKind.COMPLETED, agent=agent, seq=3, result={"words": 7})
    done = task("t1")
    assert (done.status, done.result, done.progress) == ("completed", {"words": 7}, 100.0)
    assert path("t1") == ["queued", "assigned", "dispatched", "running", "completed"]
    assert PresenceBoard().states("acme", [agent], now=NOON)[agent].load == 0


def test_the_same_report_twice_changes_nothing_the_second_time(acme):
    queued("t1")
    dispatch()
    agent = task("t1").head_agent_subject_id
    for _ in range(2):
        report("t1", ReportKind.COMPLETED, agent=agent, result=1)
    assert path("t1").count("completed") == 1
    report("t1", ReportKind.COMPLETED, agent=agent, seq=2, result=2)
    assert task("t1").result == 1


def test_reports_of_one_batch_are_applied_in_order(acme):
    queued("t1")
    dispatch()
    agent = task("t1").head_agent_subject_id
    kinds = [(ReportKind.ACCEPTED, {}), (ReportKind.LOG, {"level": "info", "message": "hello"}), (ReportKind.COMPLETED, {"result": 5})]
    batch = [
        AgentReport(org_id="acme", task_id="t1", agent=agent, kind=kind, attempt=1, seq=seq, at=NOON, **body)
        for seq, (kind, body) in enumerate(kinds)
    ]
    ReportDesk().apply(batch, now=NOON)
    assert path("t1")[-2:] == ["running", "completed"]
    assert [row.kind for row in Report.objects.all()] == ["log"]


def test_an_agent_that_declines_is_not_asked_again(acme):
    queued("t1")
    dispatch()
    first = task("t1").head_agent_subject_id
    report("t1", ReportKind.DECLINED, agent=first, reason="not my language")
    dispatch()
    assert task("t1").head_agent_subject_id not in {"", first}
    report("t1", ReportKind.DECLINED, agent=task("t1").head_agent_subject_id, attempt=2)
    dispatch()
    assert task("t1").status == "failed"
    assert "Every candidate declined the task" in task("t1").reason


def test_a_failure_that_may_be_retried_goes_to_another_agent_until_the_attempts_are_used_up(acme):
    queued("t1", max_attempts=2)
    dispatch()
    first = task("t1").head_agent_subject_id
    report("t1", ReportKind.FAILED, agent=first, error="disk full", retryable=True)
    dispatch()
    second = task("t1").head_agent_subject_id
    assert second != first
    report("t1", ReportKind.FAILED, agent=second, attempt=2, error="disk full", retryable=True)
    assert (task("t1").status, task("t1").reason) == ("failed", "the agent failed: disk full (attempt 2 of 2)")


def silence(now) -> None:
    """Everything lapses that can: a listener has been listening long enough to say that nobody spoke."""
    Listening().mark(now=now - timedelta(seconds=HEARING_SECONDS))
    Sweeper().lapse(now=now)


def test_a_late_report_from_a_replaced_agent_changes_nothing(acme):
    queued("t1")
    dispatch()
    ada = task("t1").head_agent_subject_id
    received(ada)
    report("t1", ReportKind.ACCEPTED, agent=ada)
    later = NOON + timedelta(seconds=21)
    silence(later)
    assert task("t1").status == "queued"
    dispatch(later)
    bo = task("t1").head_agent_subject_id
    assert (bo != ada, task("t1").attempt) == (True, 2)
    report("t1", ReportKind.COMPLETED, agent=ada, attempt=1, seq=9, result="late", now=later)
    assert (task("t1").status, task("t1").result) == ("dispatched", None)
    assert Report.objects.get().outcome == "stale"
    report("t1", ReportKind.COMPLETED, agent=bo, attempt=2, result="mine", now=later)
    assert task("t1").result == "mine"


def test_a_report_on_somebody_elses_task_is_refused(acme):
    queued("t1")
    dispatch()
    other = ({"ada", "bo"} - {task("t1").head_agent_subject_id}).pop()
    report("t1", ReportKind.COMPLETED, agent=other, result="forged")
    assert task("t1").status == "dispatched"
    assert Report.objects.get().outcome == "refused"


def test_a_lease_does_not_lapse_while_reports_wait_unread_or_nobody_listens(acme):
    queued("t1")
    dispatch()
    later = NOON + timedelta(seconds=60)
    Sweeper().lapse(now=later)  # nobody has been listening
    assert task("t1").status == "dispatched"


def test_a_heartbeat_keeps_a_running_task_with_its_agent(acme):
    queued("t1")
    dispatch()
    agent = task("t1").head_agent_subject_id
    report("t1", ReportKind.ACCEPTED, agent=agent)
    later = NOON + timedelta(seconds=19)
    Holds().extend(["acme/t1#1"], now=later, lease_seconds=20, org_id="acme", agent=agent)
    silence(NOON + timedelta(seconds=25))
    assert task("t1").status == "running"


def test_one_that_waited_in_its_agents_hands_for_longer_than_a_lease_is_not_lost_when_it_begins(acme):
    """The heartbeat that names it comes seconds later."""
    queued("t1")
    dispatch()
    agent = task("t1").head_agent_subject_id
    later = NOON + timedelta(seconds=21)
    report("t1", ReportKind.ACCEPTED, agent=agent, now=later)
    silence(later + timedelta(seconds=1))
    assert (task("t1").status, task("t1").attempt) == ("running", 1)
    silence(later + timedelta(seconds=21))
    assert task("t1").status == "queued"  # silent for a whole lease


def test_a_delivery_waiting_for_a_busy_agent_that_is_up_is_not_lost(acme):
    queued("t1")
    dispatch()
    agent = task("t1").head_agent_subject_id
    later = NOON + timedelta(seconds=60)
    PresenceBoard().record("acme", agent, slots=1, instance="i", leaving=False, now=later)
    silence(later)
    assert task("t1").status == "dispatched"


def test_when_every_agent_is_full_tasks_keep_their_order_in_the_queue(acme):
    make_org("acme", agent_prefetch=0, retry_backoff_s=0)
    for agent in ("ada", "bo"):
        PresenceBoard().record("acme", agent, slots=1, instance="i", leaving=False, now=NOON)
    queued("low1", "low2", "low3")
    assert dispatch() == 2
    queued("urgent", priority=9)
    assert dispatch() == 0
    agent = task("low1").head_agent_subject_id
    report("low1", ReportKind.COMPLETED, agent=agent)
    assert dispatch() == 1
    assert (task("urgent").status, task("low3").status) == ("dispatched", "queued")


def test_with_nobody_in_the_pool_a_task_fails_at_once_and_says_why():
    make_org("acme")
    queued("t1")
    dispatch()
    assert task("t1").status == "failed"
    assert task("t1").reason.startswith("No agent could be assigned: least_loaded: No candidate holds the required role")


def test_with_patience_a_task_waits_for_somebody_to_join_the_pool():
    make_org("acme", assignment_deadline_s=60)
    queued("t1")
    dispatch()
    assert task("t1").status == "queued"
    make_agent("acme", "ada")
    dispatch(NOON + timedelta(seconds=2))
    assert task("t1").status == "dispatched"


@pytest.mark.parametrize(("configured", "status"), [("bo", "dispatched"), ("eve", "failed"), (None, "failed")])
def test_static_assignment_goes_to_the_configured_agent_only_if_it_is_in_the_pool(acme, configured, status):
    make_org("acme", agent_resolution_strategy="static", static_head_agent_subject_id=configured)
    queued("t1")
    dispatch()
    assert task("t1").status == status
    assert task("t1").head_agent_subject_id == ("bo" if status == "dispatched" else "")


def test_a_fallback_is_used_when_the_first_strategy_has_nobody(acme):
    make_org("acme", agent_resolution_strategy="static", agent_resolution_fallbacks=["least_loaded"])
    queued("t1")
    dispatch()
    assert Assignment.objects.get().strategy == "least_loaded"


def test_cancelling_a_dispatched_task_takes_its_delivery_back(acme):
    queued("t1")
    dispatch()
    agent = task("t1").head_agent_subject_id
    steering.cancel(task("t1"), actor="acme:sam", reason="changed my mind", now=NOON)
    assert task("t1").status == "cancelled"
    assert received(agent) == []
    report("t1", ReportKind.COMPLETED, agent=agent, result="too late")
    assert (task("t1").status, task("t1").result) == ("cancelled", None)


def test_cancelling_a_queued_task_takes_it_out_of_the_queue(acme):
    [waiting] = queued("t1")
    steering.cancel(waiting, actor="acme:sam", reason="", now=NOON)
    assert PriorityQueue().size("acme") == 0
    with pytest.raises(steering.NotInFlight):
        steering.requeue(task("t1"), actor="op", reason="", now=NOON)


def test_a_task_past_its_deadline_expires_wherever_it_is(acme):
    queued("t1", "t2", deadline=NOON + timedelta(seconds=10))
    assert Sweeper().expire(now=NOON + timedelta(seconds=9)) == 0
    assert Sweeper().expire(now=NOON + timedelta(seconds=11)) == 2
    assert task("t1").status == "expired"
    assert dispatch(NOON + timedelta(seconds=11)) == 0


def test_after_redis_lost_everything_the_loader_puts_back_exactly_what_is_open(acme, redis):
    queued("t1", "t2", "t3")
    dispatch()
    agent = task("t1").head_agent_subject_id
    report("t1", ReportKind.COMPLETED, agent=agent)
    queued("t4", "t5", priority=3)
    redis.flushall()
    later = NOON + timedelta(seconds=30)
    assert TaskLoader().is_due()
    repair = TaskLoader().reconcile(now=later)
    assert (repair.queued, repair.leases) == (2, 2)
    again = TaskLoader().reconcile(now=later)
    assert not again
    assert not TaskLoader().is_due()
    assert dispatch(later) == 2
    assert task("t4").status == task("t5").status == "dispatched"


def test_a_hold_that_nobody_dropped_is_dropped_by_the_loader(acme, redis):
    queued("t1")
    dispatch()
    TaskLoader().reconcile(now=NOON)
    Task.objects.filter(task_id="t1").update(status="completed")
    assert TaskLoader().reconcile(now=NOON).holds == 1
    assert Holds().missing(["acme/t1#1"]) == ["acme/t1#1"]


def test_a_task_whose_enqueueing_was_lost_is_found_by_the_next_pass(acme, redis):
    TaskLoader().reconcile(now=NOON)
    queued("t1")
    redis.delete("jp:queue:acme:", "jp:orgs", "jp:lanes:acme")
    assert TaskLoader().reconcile(now=NOON + timedelta(seconds=5)).queued == 1
