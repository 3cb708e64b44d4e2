"""From the end of an attempt to evidence, a breaker, and back: on every store."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.agents import reputation
from apps.agents.breaker import BreakerBoard, State
from apps.agents.models import Evidence
from apps.agents.records import AgentBook
from apps.core import clock, events
from apps.core import redis as door
from apps.messaging.envelope import ReportKind
from apps.tasks import attempts
from apps.tasks.events import TasksMoved
from apps.tasks.models import Assignment, Report, Task, Transition
from apps.tasks.steering import cancel, requeue
from tests.factories import make_org

pytestmark = pytest.mark.store


def outcomes() -> dict[str, str]:
    return dict(Evidence.objects.values_list("id", "outcome"))


def breaker(floor, agent: str = "ada") -> State:
    found = BreakerBoard(floor.org_id).all(now=floor.now).get(agent)
    return found.state(floor.now) if found else State.CLOSED


def work(floor, *names: str) -> None:
    floor.beat("ada")
    floor.queue(*names)
    floor.dispatch()


def test_each_end_of_an_attempt_is_evidence_of_its_kind(floor):
    floor.hire("ada", "bo")
    floor.beat("ada", "bo")
    floor.queue("done", "broken", "again", "no", "silent", "off", "back")
    floor.dispatch()
    agents = {name: floor.agent_of(name) for name in ("done", "broken", "again", "no", "silent")}
    floor.later(3)
    floor.completes("done")
    floor.fails("broken")
    floor.fails("again", retryable=True)
    floor.says("no", kind=ReportKind.DECLINED, reason="not mine")
    cancel(floor.task("off"), actor="op", reason="", now=floor.now)
    requeue(floor.task("back"), actor="op", reason="", now=floor.now)
    floor.runs("silent")
    floor.silence()
    assert outcomes() == {
        "acme/done#1": "completed", "acme/broken#1": "failed", "acme/again#1": "failed", "acme/no#1": "declined",
        "acme/silent#1": "lost",
    }  # fmt: skip
    row = Evidence.objects.get(pk="acme/done#1")
    assert (row.agent, row.seconds, row.excused) == (agents["done"], 3.0, False)


def test_an_agent_cannot_pass_a_failure_off_as_something_else(floor):
    floor.hire("ada")
    work(floor, "t1")
    floor.says("t1", kind=ReportKind.FAILED, error="ada declined: declined on the last of was not heard of for 20 s", retryable=True)
    assert outcomes() == {"acme/t1#1": "failed"}


def test_what_was_written_before_causes_were_kept_is_told_by_its_words(floor, monkeypatch):
    floor.hire("ada", "bo")
    floor.beat("ada", "bo")
    floor.queue("broken", "no", "silent", "last")
    floor.dispatch()
    monkeypatch.setattr(events, "_handlers", {**events._handlers, TasksMoved: []})
    floor.fails("broken")
    floor.says("no", kind=ReportKind.DECLINED, reason="not mine")
    Task.objects.filter(task_id="last").update(max_attempts=1)
    floor.says("last", kind=ReportKind.DECLINED, reason="not mine")
    floor.runs("silent")
    floor.silence()
    kept = Transition.objects.exclude(cause=None)
    causes = {row.task_key: row.cause for row in kept}
    assert causes == {"acme/broken": "failed", "acme/no": "declined", "acme/last": "declined", "acme/silent": "silent"}
    kept.update(cause=None)
    assert attempts.catch_up(now=clock.now() + timedelta(minutes=1)) == 4
    assert outcomes() == {"acme/broken#1": "failed", "acme/no#1": "declined", "acme/last#1": "declined", "acme/silent#1": "lost"}


def test_promises_go_with_the_evidence(floor):
    floor.hire("ada")
    work(floor, "t1")
    decision = {"promise": {"price": 2, "eta_s": 10.5, "confidence": 0.8}}
    Assignment.objects.filter(pk="acme/t1#1").update(strategy="auction", decision=decision)
    floor.completes("t1")
    row = Evidence.objects.get()
    assert (row.promised_price, row.promised_eta_s, row.promised_confidence) == (2.0, 10.5, 0.8)


def test_what_an_agent_charged_is_held_against_what_it_had_promised(floor):
    floor.hire("ada")
    names = ("more", "less", "silent", "unasked")
    work(floor, *names)
    promised = {"promise": {"price": 2, "pays": 2, "eta_s": None, "confidence": None}}
    Assignment.objects.exclude(task_key="acme/unasked").update(strategy="auction", decision=promised)
    for name, price in (("more", 5), ("less", 1.0), ("silent", None), ("unasked", 9)):
        floor.completes(name, **({} if price is None else {"price": price}))
    rows = Evidence.objects.in_bulk()
    assert [(rows[f"acme/{name}#1"].promised_price, rows[f"acme/{name}#1"].price) for name in names] == [
        (2.0, 5.0), (2.0, 1.0), (2.0, None), (None, None),
    ]  # fmt: skip
    assert reputation.refresh("acme", ["ada"], now=floor.now)["ada"].price_ratio == pytest.approx((5 / 2 + 1 / 2) / 2)
    kept = {row.task_key: row.body for row in Report.objects.filter(kind="completed")}
    assert kept == {"acme/more": {"price": 5}, "acme/less": {"price": 1.0}, "acme/unasked": {"price": 9}}


def test_a_price_of_nothing_is_a_price(floor):
    floor.hire("ada")
    work(floor, "t1")
    Assignment.objects.update(strategy="auction", decision={"promise": {"price": 2}})
    floor.completes("t1", price=0.0)
    assert Evidence.objects.get().price == 0.0


def test_what_was_not_told_is_found_in_the_history_once(floor, monkeypatch):
    floor.hire("ada")
    work(floor, "t1", "t2")
    monkeypatch.setattr(events, "_handlers", {**events._handlers, TasksMoved: []})
    floor.completes("t1")
    monkeypatch.undo()
    floor.completes("t2")
    assert set(outcomes()) == {"acme/t2#1"}
    later = clock.now() + timedelta(minutes=1)  # transitions are numbered by the real clock
    assert attempts.catch_up(now=later) == 1
    assert set(outcomes()) == {"acme/t1#1", "acme/t2#1"}
    assert attempts.catch_up(now=later + timedelta(minutes=1)) == 0


def test_an_agent_that_fails_again_and_again_gets_nothing_until_it_has_cooled_then_one_task(floor):
    make_org("acme", breaker_failures=3)
    floor.hire("ada")
    names = [f"t{n}" for n in range(3)]
    work(floor, *names)
    floor.fails(*names)
    assert breaker(floor) is State.OPEN
    work(floor, "w1", "w2")
    assert {floor.task(name).status for name in ("w1", "w2")} == {"queued"}
    floor.later(31)
    floor.beat("ada")
    floor.dispatch()
    assert sorted(floor.task(name).status for name in ("w1", "w2")) == ["dispatched", "queued"]
    [probe] = [name for name in ("w1", "w2") if floor.task(name).status == "dispatched"]
    floor.dispatch()
    floor.completes(probe)
    assert breaker(floor) is State.CLOSED
    floor.dispatch()
    assert {floor.task(name).status for name in ("w1", "w2")} == {"completed", "dispatched"}


def test_while_one_dispatcher_tries_an_agent_the_others_give_it_nothing(floor, redis):
    make_org("acme", breaker_failures=1)
    floor.hire("ada")
    work(floor, "t1")
    floor.fails("t1")
    floor.later(31)
    floor.beat("ada")
    floor.queue("t2")
    redis.set(door.key("probe", "acme", "ada"), "another process")
    assert floor.dispatch() == 0 and floor.task("t2").status == "queued"
    redis.delete(door.key("probe", "acme", "ada"))  # it died over it, and its mark has lapsed
    floor.dispatch()
    assert floor.task("t2").status == "dispatched"


def test_the_breaker_is_the_same_after_redis_lost_everything(floor, redis):
    make_org("acme", breaker_failures=2)
    floor.hire("ada")
    work(floor, "t1", "t2")
    floor.fails("t1", "t2")
    before = BreakerBoard("acme").all(now=floor.now)
    redis.flushall()
    assert BreakerBoard("acme").all(now=floor.now) == before
    assert breaker(floor) is State.OPEN


def test_while_one_cools_the_others_work_on(floor):
    make_org("acme", breaker_failures=1)
    floor.hire("ada", "bo")
    work(floor, "t1")
    floor.fails("t1")
    floor.beat("ada", "bo")
    floor.queue("t2", "t3")
    floor.dispatch()
    assert {floor.agent_of("t2"), floor.agent_of("t3")} == {"bo"}
    barred = Assignment.objects.get(pk="acme/t2#1").decision["barred"]
    assert "circuit breaker open" in str(barred)


def test_an_operator_may_have_it_forgotten(floor):
    make_org("acme", breaker_failures=1)
    floor.hire("ada")
    work(floor, "t1")
    floor.fails("t1")
    AgentBook("acme", by="olga", now=floor.later(1)).reset_breaker("ada", "mended")
    assert breaker(floor) is State.CLOSED
