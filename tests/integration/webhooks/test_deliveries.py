"""From a task's move to a signed request at a real server: nothing lost, nothing made up, whatever fails on the way."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import standardwebhooks
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from apps.core import bulk, clock, ids, tracing
from apps.tasks.models import Assignment, Task, Transition
from apps.tasks.states import TaskStatus
from apps.tasks.store import Move, TaskStore
from apps.webhooks import derive
from apps.webhooks.book import WebhookBook
from apps.webhooks.derive import Deriver
from apps.webhooks.models import Attempt, Cursor, Delivery, Endpoint
from apps.webhooks.order import Order
from apps.webhooks.schedule import SCHEDULE
from apps.webhooks.sender import DISABLE_AFTER, Lane
from tests.factories import NOON, make_org, make_task
from tests.integration.webhooks.conftest import EARLIER, serve

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.store]


def move(task: Task, end: TaskStatus, reason: str = "because", **fields) -> None:
    assert TaskStore().move_many([Move(task=task, end=end, reason=reason, actor="tests", fields=fields)], now=NOON)


def run_through(task_id: str) -> Task:
    """A task's whole life with agent ada: queued, assigned, dispatched, completed."""
    task = make_task(task_id)
    key = ids.assignment_id(task.key, 1)
    bulk.insert([Assignment(id=key, task_key=task.key, org_id=task.org_id, attempt=1, head_agent_subject_id="ada", strategy="static",
                            because="", decision={}, at=NOON)])  # fmt: skip
    move(task, TaskStatus.ASSIGNED, attempt=1, head_agent_subject_id="ada")
    move(task, TaskStatus.DISPATCHED)
    move(task, TaskStatus.COMPLETED, "the agent completed it", result={"secret": "canary"})
    return task


def test_a_task_is_told_in_the_order_of_its_moves_and_the_signature_is_right(endpoint, receiver):
    row, secret = endpoint()
    run_through("t1")
    assert Deriver().run(now=NOON) == 4 and Deriver().run(now=NOON) == 0
    assert serve(row) == 4
    told = []
    for got in receiver.got:
        # An implementation that is not ours, with the clock of the test.
        body = standardwebhooks.Webhook(secret).verify(got.body.decode(), {**got.headers, "webhook-timestamp": stamp(got, secret)[0],
                                                                           "webhook-signature": stamp(got, secret)[1]})  # fmt: skip
        told.append((body["type"], body["data"]["agent"], body["data"]["attempt"]))
    assert told == [("task.queued", None, 0), ("task.assigned", "ada", 1), ("task.dispatched", "ada", 1), ("task.completed", "ada", 1)]
    body = json.loads(receiver.got[-1].body)
    assert body["data"] | {"transition_id": ""} == {
        "org_id": "acme", "task_id": "t1", "status": "completed", "previous_status": "dispatched", "reason": "the agent completed it",
        "attempt": 1, "agent": "ada", "transition_id": "",
    }  # fmt: skip
    assert b"canary" not in b"".join(got.body for got in receiver.got)
    assert set(Delivery.objects.values_list("state", flat=True)) == {"delivered"}
    assert Attempt.objects.count() == 4 and Endpoint.objects.get().last_delivered_at == NOON


def test_where_the_platform_traces_a_webhook_brings_the_trace_of_its_task(endpoint, receiver):
    row, secret = endpoint(events=["task.queued"])
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    make_task("traced", trace=trace)
    make_task("older")  # born before anything was traced
    Deriver().run(now=NOON)
    tracing.use(InMemorySpanExporter())
    try:
        assert serve(row) == 2
        WebhookBook(org_id="acme", by="tests", now=NOON).ping(row.pk)
        assert serve(row) == 1
    finally:
        tracing.use(None)
    sent = {json.loads(got.body)["data"].get("task_id"): got.headers.get("traceparent") for got in receiver.got}
    assert sent == {"traced": trace, "older": None, None: None}
    make_task("untraced", trace=trace)
    Deriver().run(now=NOON)
    assert serve(row) == 1 and "traceparent" not in receiver.got[-1].headers


def stamp(got, secret: str) -> tuple[str, str]:
    """The timestamp and signature of now for the same id and body, once ours has been found to be what the other side signs."""
    from datetime import UTC, datetime

    theirs = standardwebhooks.Webhook(secret)
    at = datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC)
    assert theirs.sign(got.headers["webhook-id"], at, got.body.decode()) == got.headers["webhook-signature"]
    now = datetime.now(UTC)
    return str(int(now.timestamp())), theirs.sign(got.headers["webhook-id"], now, got.body.decode())


def test_only_what_an_endpoint_asked_for_and_only_its_own_orgs_tasks(endpoint, receiver):
    row, _ = endpoint(events=["task.completed", "task.failed"])
    other, _ = endpoint("other")
    run_through("t1")
    make_task("theirs", org_id="other")
    Deriver().run(now=NOON)
    serve(row)
    serve(other)
    assert [(json.loads(got.body)["type"], json.loads(got.body)["data"]["org_id"]) for got in receiver.got] == [
        ("task.completed", "acme"), ("task.queued", "other"),
    ]  # fmt: skip


def test_an_endpoint_down_then_up_gets_everything_with_the_same_id_and_bytes(endpoint, receiver):
    row, _ = endpoint(events=["task.queued"])
    make_task("t1")
    Deriver().run(now=NOON)
    receiver.answer = lambda _got: (503, {}, b"down for a walk")
    now = NOON
    for step in range(1, 4):
        assert serve(row, now=now) == 1
        made = Delivery.objects.get()
        assert (made.state, made.tries, made.step, made.last_status) == ("pending", step, step, 503)
        pause = made.due_at - now
        assert SCHEDULE[step] <= pause <= SCHEDULE[step] * 1.2
        assert serve(row, now=now) == 0
        now = made.due_at
    receiver.answer = lambda _got: (200, {}, b"")
    assert serve(row, now=now) == 1 and Delivery.objects.get().state == "delivered"
    assert len({(got.headers["webhook-id"], got.body) for got in receiver.got}) == 1 and len(receiver.got) == 4
    log = list(Attempt.objects.order_by("number").values_list("number", "status", "excerpt", "error"))
    assert log[0] == (1, 503, "down for a walk", "It answered 503.") and log[3] == (4, 200, "", "")


def test_a_crash_between_the_request_and_its_record_sends_it_again(endpoint, receiver, monkeypatch):
    row, _ = endpoint(events=["task.queued"])
    make_task("t1")
    Deriver().run(now=NOON)
    with monkeypatch.context() as patch:
        patch.setattr(Lane, "record", lambda *_args, **_more: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            serve(row)
    assert serve(row, now=NOON + timedelta(seconds=30)) == 0, "it may still be under way"
    assert serve(row, now=NOON + timedelta(seconds=61)) == 1
    assert [got.headers["webhook-id"] for got in receiver.got] == [Delivery.objects.get().pk] * 2
    assert Delivery.objects.get().tries == 2


def test_after_the_last_try_it_has_failed_and_can_be_replayed(endpoint, receiver):
    row, _ = endpoint(events=["task.queued"])
    make_task("t1")
    Deriver().run(now=NOON)
    receiver.answer = lambda _got: (400, {}, b"")
    now = NOON
    for _ in SCHEDULE:
        serve(row, now=now)
        now = Delivery.objects.get().due_at
    made = Delivery.objects.get()
    assert (made.state, made.tries) == ("failed", len(SCHEDULE)) and serve(row, now=now + timedelta(days=1)) == 0
    receiver.answer = lambda _got: (200, {}, b"")
    WebhookBook(org_id="acme", by="tests", now=now).replay(row.pk, made.pk)
    assert serve(row, now=now) == 1
    made.refresh_from_db()
    assert (made.state, made.tries) == ("delivered", len(SCHEDULE) + 1)


def test_all_that_failed_since_a_time_is_replayed_and_what_was_missed_while_disabled(endpoint, receiver):
    row, _ = endpoint(events=["task.queued"])
    make_task("failed")
    Deriver().run(now=NOON)
    Delivery.objects.update(state="failed")
    book = WebhookBook(org_id="acme", by="tests", now=clock.now())
    book.change(row.pk, {"enabled": False})
    make_task("missed")
    assert Deriver().run(now=NOON) == 0
    WebhookBook(org_id="acme", by="tests", now=clock.now() + timedelta(seconds=1)).change(row.pk, {"enabled": True})
    assert Deriver().run(now=NOON) == 0 and Deriver().look_again(now=clock.now()) == 0
    assert book.replay_since(row.pk, clock.now() - timedelta(minutes=5), missed=True) == 1
    derive.forget()
    assert Deriver().look_again(now=clock.now()) == 1
    assert serve(row, now=clock.now() + timedelta(seconds=1)) == 2
    assert {json.loads(got.body)["data"]["task_id"] for got in receiver.got} == {"failed", "missed"}


def test_a_row_that_appears_behind_the_cursor_is_found(endpoint, receiver):
    row, _ = endpoint(events=["task.queued"])
    early = ids.time_ordered()
    make_task("t1")
    Deriver().run(now=clock.now())
    # Its id was made first, its writer came late.
    Transition(id=early, task_key="acme/late", org_id="acme", old="", new="queued", actor="tests", at=NOON).save()
    assert Deriver().run(now=clock.now()) == 0
    assert Deriver().look_again(now=clock.now()) == 1 and Deriver().look_again(now=clock.now() + timedelta(hours=1)) == 0
    assert Delivery.objects.filter(pk=f"{row.pk}:{early}").exists()


def test_two_derivers_and_a_lost_cursor_make_nothing_twice(endpoint, receiver):
    row, _ = endpoint()
    run_through("t1")
    Deriver().run(now=NOON)
    Cursor.objects.all().delete()
    Deriver().run(now=NOON)
    assert Delivery.objects.count() == 4 and serve(row) == 4


def test_an_emptied_redis_loses_nothing(endpoint, redis, receiver):
    row, _ = endpoint(events=["task.queued"])
    make_task("t1")
    Deriver().run(now=NOON)
    assert Order().due(now=NOON) == [row.pk]
    redis.flushall()
    assert Order().due(now=NOON) == []
    Deriver().rebuild(now=NOON)
    assert Order().due(now=NOON) == [row.pk] and serve(row) == 1 and Order().due(now=NOON + timedelta(days=9)) == []


def test_a_dead_endpoint_is_asked_less_and_the_others_wait_without_losing_tries(endpoint, receiver):
    row, _ = endpoint(events=["task.queued"])
    for number in range(20):
        make_task(f"t{number}")
    Deriver().run(now=NOON)
    receiver.answer = lambda _got: (500, {}, b"")
    assert serve(row) == 5, "then the breaker opens"
    assert Order().due(now=NOON) == [] and Order().due(now=NOON + timedelta(seconds=11)) == [row.pk]
    assert Delivery.objects.filter(tries=0).count() == 15
    receiver.answer = lambda _got: (200, {}, b"")
    assert serve(row, now=NOON + timedelta(minutes=10)) == 20


def test_410_and_days_of_failure_disable_an_endpoint_and_the_others_are_told(endpoint, receiver):
    gone, _ = endpoint(events=["task.queued"])
    friend, _ = endpoint(events=["webhook.disabled"])
    make_task("t1")
    Deriver().run(now=NOON)
    receiver.answer = lambda _got: (410, {}, b"")
    serve(gone)
    assert Endpoint.objects.values_list("enabled", "disabled_because").get(pk=gone.pk) == (False, "it answered 410 Gone")
    receiver.answer = lambda _got: (200, {}, b"")
    serve(friend)
    assert json.loads(receiver.got[-1].body)["data"] == {
        "org_id": "acme", "endpoint_id": gone.pk, "url": gone.url, "reason": "it answered 410 Gone",
    }  # fmt: skip
    sad, _ = endpoint(events=["task.queued"])
    make_task("t2")
    Deriver().run(now=NOON)
    receiver.answer = lambda _got: (500, {}, b"")
    Delivery.objects.filter(endpoint_id=sad.pk).update(give_up_at=NOON + timedelta(days=99))
    serve(sad)
    assert Endpoint.objects.get(pk=sad.pk).failing_since == NOON
    serve(sad, now=NOON + DISABLE_AFTER)
    assert not Endpoint.objects.get(pk=sad.pk).enabled


def test_retry_after_is_respected(endpoint, receiver):
    row, _ = endpoint(events=["task.queued"])
    make_task("t1")
    Deriver().run(now=NOON)
    receiver.answer = lambda _got: (429, {"Retry-After": "120"}, b"")
    serve(row)
    assert Delivery.objects.get().due_at == NOON + timedelta(seconds=120)


def test_an_address_that_became_unsafe_is_not_called(endpoint, receiver, settings):
    row, _ = endpoint(events=["task.queued"])
    make_task("t1")
    Deriver().run(now=NOON)
    settings.OUTBOUND_ALLOW = []
    Endpoint.objects.update(url=f"http://localhost:{receiver.host.partition(':')[2]}/")
    serve(row)
    assert receiver.got == [] and Attempt.objects.get().status is None
    assert "not on the public internet" in Delivery.objects.get().last_error


def test_during_a_rotation_both_secrets_sign_and_later_only_the_new_one(endpoint, receiver):
    row, old = endpoint(events=["task.queued"])
    _, new = WebhookBook(org_id="acme", by="tests", now=NOON).rotate(row.pk, timedelta(hours=1))
    assert old != new
    for now, opens in ((NOON, [old, new]), (NOON + timedelta(hours=2), [new])):
        make_task()
        Deriver().run(now=now)
        serve(row, now=now)
        said = receiver.got[-1].headers["webhook-signature"].split(" ")
        expected = []
        for secret in opens:
            message = receiver.got[-1]
            expected.append(standardwebhooks.Webhook(secret).sign(message.headers["webhook-id"], now, message.body.decode()))
        assert sorted(said) == sorted(expected)


def test_old_deliveries_are_forgotten_and_pending_ones_are_not(endpoint, receiver):
    from apps.retention.keeper import Keeper

    make_org("acme", webhook_retention_days=2)
    row, _ = endpoint(events=["task.queued"])
    make_task("t1")
    Deriver().run(now=NOON)
    serve(row)
    make_task("t2")
    Deriver().run(now=NOON)
    assert Keeper().run(now=clock.now() + timedelta(days=1)).total == 0
    assert Keeper().run(now=clock.now() + timedelta(days=3)).rows["deliveries"]["webhooks.Delivery"] == 1
    assert Attempt.objects.count() == 0 and Delivery.objects.get().state == "pending"


def test_news_only_rings_and_only_when_somebody_listens(endpoint, redis, receiver):
    make_task("t0")
    assert redis.keys("*webhooks*") == []
    endpoint()
    make_task("t1")
    assert redis.llen("jp:webhooks:bell") == 1 and Delivery.objects.count() == 0


def test_an_endpoint_is_not_told_what_was_before_it(receiver, redis):
    make_org("acme", outbound_allow=[receiver.host])
    make_task("before")
    WebhookBook(org_id="acme", by="tests", now=clock.now() + timedelta(milliseconds=5)).create({"url": receiver.url})
    assert Deriver().run(now=NOON) == 0 and EARLIER < NOON
