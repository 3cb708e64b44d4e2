"""Backtests: recorded decisions asked again of a draft, and exactly those that flip are told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core import clock, ids
from apps.core.errors import Invalid
from apps.dsl import backtest, scripts
from apps.dsl.backtest import Window
from apps.dsl.comparing import told
from apps.dsl.models import Backtest, BacktestFlip, PolicyRun
from apps.dsl.policies import Hook
from tests.factories import NOON, make_org
from tests.integration.dsl.bombs import approve

pytestmark = [pytest.mark.store, pytest.mark.django_db]

DRAFT = approve(
    "n = task['priority']\n    if n % 7 == 0:\n        return {'accepted': False, 'reason': 'by seven'}\n"
    "    if n % 11 == 0:\n        return {'accepted': None, 'reason': 'ask'}\n    return {'accepted': True, 'reason': 'fine'}"
)


@pytest.fixture(autouse=True)
def hints(monkeypatch):
    """What would have been sent to workers."""
    sent: list[str] = []
    monkeypatch.setattr(backtest.background, "send", lambda _name, *, backtest_id: not sent.append(backtest_id))
    return sent


@pytest.fixture
def acme(redis):
    return make_org("acme")


def record(count: int, hook: Hook = Hook.APPROVAL, *, org_id="acme", output=None, error="", at=NOON, facts=None, first=0) -> None:
    """Decisions about tasks t0, t1, …, whose priority is their number."""
    rows = []
    for number in range(first, first + count):
        task = {"task_id": f"t{number}", "priority": number, **(facts(number) if facts else {})}
        inputs = {"task": task}
        if hook is Hook.PLAN_RETRIEVE:
            inputs["candidates"] = [{"subject_id": "ada"}, {"subject_id": "bo"}]
        said = output(number) if callable(output) else output
        rows.append(
            PolicyRun(
                id=ids.time_ordered(),
                org_id=org_id,
                task_key=f"{org_id}/t{number}",
                hook=hook,
                script_id="old",
                script_version=4,
                input=inputs,
                output=said,
                error=error,
                at=at + timedelta(seconds=number),
            )  # fmt: skip
        )
    PolicyRun.objects.bulk_create(rows)


def draft(source: str, hook: str = "approval", script_id: str = "new", org_id: str = "acme"):
    return scripts.register(org_id=org_id, script_id=script_id, hook=hook, source=source, by="ann", now=NOON).script


def start(script, window: Window | None = None) -> Backtest:
    return backtest.start(script, window or Window(), org_id="acme", by="ann", now=NOON)


YES = {"accepted": True, "reason": "fine"}


def test_exactly_the_decisions_that_flip_are_told_with_both_answers(acme):
    record(500, output=YES)
    test = start(draft(DRAFT))
    assert (test.status, test.runs_total, test.runs_seen, test.ended_at is not None) == ("done", 500, 500, True)
    by_seven = {n for n in range(500) if n % 7 == 0}
    asked = {n for n in range(500) if n % 11 == 0} - by_seven
    assert test.result["changes"] == {"accept -> reject": len(by_seven), "accept -> hold": len(asked)}
    assert test.result["flipped"] == len(by_seven | asked) == test.result["flips_listed"]
    flips = {flip.task_key: flip for flip in BacktestFlip.objects.filter(backtest=test)}
    assert flips.keys() == {f"acme/t{n}" for n in by_seven | asked}
    flip = flips["acme/t7"]
    assert (flip.change, flip.place) == ("accept -> reject", 8)
    assert flip.old == {"decision": "accept", "reason": "fine", "output": YES, "error": "", "script_id": "old", "version": 4}
    assert flip.new["decision"] == "reject" and flip.new["reason"] == "by seven" and flip.new["output"]["accepted"] is False
    assert test.result["call_us"]["p50"] > 0 and test.result["runs_per_s"] > 0


def test_a_decision_that_failed_counts_as_what_the_platform_did_then(acme):
    record(3, output=None, error="took longer than 200 ms")
    test = start(draft(approve("return {'accepted': None}")))
    assert (test.result["flipped"], test.result["errors"]["recorded"]) == (0, 3)
    make_org("acme", approval_on_error="reject")
    backtest.OrgConfigProvider().refresh("acme")
    assert start(draft(approve("return {'accepted': None}"))).result["changes"] == {"reject -> hold": 3}


def test_errors_of_the_draft_are_counted_and_quoted(acme):
    record(40, output=YES)
    test = start(draft(approve("return {'accepted': [True][task['priority'] // 30]}")))
    assert test.result["changes"] == {"accept -> hold": 10}
    assert test.result["errors"]["draft"] == 10 and "line 2" in test.result["errors"]["messages"][0]["message"]
    assert test.status == "done"


def test_nothing_of_a_backtest_touches_what_was_recorded(acme):
    record(20, output=YES)
    before = list(PolicyRun.objects.order_by("id").values())
    start(draft(DRAFT))
    assert list(PolicyRun.objects.order_by("id").values()) == before


def test_a_window_is_the_newest_of_its_time_and_tasks_of_this_org_and_hook(acme):
    record(30, output=YES)
    record(5, output=YES, org_id="globex")
    record(5, Hook.PRIORITY, output={"priority": 1})
    script = draft(approve("return {'accepted': False}"))

    def seen(**window) -> list[int]:
        test = start(script, Window(**window))
        return sorted(int(flip.task_key.removeprefix("acme/t")) for flip in test.flips.all())

    assert seen() == list(range(30))
    assert seen(limit=4) == [26, 27, 28, 29]
    assert seen(since=NOON + timedelta(seconds=10), until=NOON + timedelta(seconds=13)) == [10, 11, 12]
    assert seen(task_ids=("t3", "t5", "nope")) == [3, 5]
    with pytest.raises(Invalid, match="no approval decision"):
        seen(since=NOON + timedelta(days=1))


def test_a_changed_priority_is_told_with_the_shift_in_queue_order(acme):
    record(6, Hook.PRIORITY, output=lambda n: {"priority": 10 - n})
    source = "def prioritize(task):\n    return {'priority': 100 if task['task_id'] == 't5' else 10 - task['priority']}\n"
    test = start(draft(source, "priority"))
    assert test.result["changes"] == {"raised": 1}
    queue = test.result["queue"]
    assert queue["movers"][0] == {"task_key": "acme/t5", "from": 6, "to": 1, "old_priority": 5, "new_priority": 100}
    assert (queue["moved"], queue["pairs_swapped"], queue["kendall_tau"]) == (6, 5, round(1 - 2 * 5 / 15, 6))
    words = "1 of 6 recorded decisions would be another: 1 raised. If all of them waited at once, 6 would stand elsewhere, the furthest"
    assert told(Hook.PRIORITY, test.result) == f"{words} t5 from place 6 to 1."
    same = start(draft("def prioritize(task):\n    return {'priority': 10 - task['priority']}\n", "priority"))
    assert told(Hook.PRIORITY, same.result) == "None of 6 recorded decisions would be another."
    assert (same.result["queue"]["kendall_tau"], same.result["queue"]["moved"], same.result["flipped"]) == (1.0, 0, 0)


def test_another_pick_and_other_terms_are_flips_too(acme):
    record(4, Hook.PLAN_RETRIEVE, output={"head_agent_subject_id": "ada"})
    source = "def select(task, candidates):\n    return {'head_agent_subject_id': ['ada', 'bo', 'zoe'][task['priority'] % 3]}\n"
    picks = draft(source, "plan_retrieve")
    assert start(picks).result["changes"] == {"picks another": 1, "picks no more": 1}
    record(2, Hook.AUCTION_INPUT, output={"min_bids": 1})
    terms = draft("def auction(task):\n    return {'min_bids': task['priority']}\n", "auction_input", "terms")
    assert start(terms).result["changes"] == {"other terms": 1}


def test_a_long_one_waits_for_a_worker_and_any_worker_may_run_it(acme, hints, monkeypatch):
    monkeypatch.setattr(backtest, "INLINE_RUNS", 10)
    record(50, output=YES)
    test = start(draft(DRAFT))
    assert (test.status, hints) == ("queued", [test.pk])
    assert backtest.run(test.pk, now=NOON) and not backtest.run(test.pk, now=NOON)
    test.refresh_from_db()
    assert (test.status, test.runs_seen) == ("done", 50)


def test_a_short_one_with_a_slow_script_goes_to_a_worker_too(acme, hints, monkeypatch):
    monkeypatch.setattr(backtest, "INLINE_SECONDS", 0.0001)
    record(100, output=YES)
    test = start(draft(DRAFT))
    assert (test.status, hints) == ("queued", [test.pk])
    backtest.run(test.pk, now=NOON)
    test.refresh_from_db()
    assert test.status == "done" and test.flips.count() == test.result["flipped"]


def test_one_whose_worker_died_is_resumed_and_started_again(acme, hints, monkeypatch):
    monkeypatch.setattr(backtest, "INLINE_RUNS", 0)
    record(30, output=YES)
    test = start(draft(DRAFT))
    hints.clear()
    Backtest.objects.filter(pk=test.pk).update(status="running", claim="dead", touched_at=NOON, runs_seen=12)
    BacktestFlip.objects.create(backtest=test, place=1, run_id="x", task_key="acme/t0", change="x", old={}, new={})
    assert backtest.resume(now=NOON + timedelta(seconds=59)) == 0 and not backtest.run(test.pk, now=NOON + timedelta(seconds=59))
    assert backtest.resume(now=NOON + timedelta(seconds=61)) == 1 and hints == [test.pk]
    assert backtest.run(test.pk, now=NOON + timedelta(seconds=61))
    test.refresh_from_db()
    assert (test.status, test.runs_seen, test.flips.count()) == ("done", 30, test.result["flipped"])
    assert backtest.resume(now=NOON + timedelta(days=1)) == 0


def test_one_that_was_taken_over_says_nothing_more(acme, monkeypatch):
    monkeypatch.setattr(backtest, "INLINE_RUNS", 0)
    monkeypatch.setattr(backtest, "TELL_SECONDS", 0)
    record(60, output=YES)
    test = start(draft(DRAFT))
    said = backtest._said

    def steal(*arguments):
        Backtest.objects.filter(pk=test.pk).update(claim="somebody else")
        return said(*arguments)

    monkeypatch.setattr(backtest, "_said", steal)
    assert not backtest.run(test.pk, now=NOON)
    test.refresh_from_db()
    assert (test.status, test.result, test.claim) == ("running", None, "somebody else")


def test_a_draft_that_breaks_its_limits_is_not_asked_for_ever(acme, monkeypatch):
    monkeypatch.setattr(backtest, "BREACHES", 3)
    make_org("acme", dsl_timeout_ms=10)
    record(200, output=YES)
    test = start(draft(approve("x = [i for i in range(100000000)]\n    return {'accepted': True}")))
    assert test.status == "failed" and "broke its limits" in test.error
    assert 3 <= test.result["runs"] <= backtest.CAREFUL_BATCH and test.result["changes"] == {"accept -> hold": test.result["runs"]}


def test_no_more_flips_are_kept_than_anybody_reads_but_all_are_counted(acme, monkeypatch):
    monkeypatch.setattr(backtest, "FLIPS_KEPT", 15)
    record(60, output=YES)
    test = start(draft(approve("return {'accepted': False}")))
    assert (test.result["flipped"], test.result["flips_listed"], test.flips.count()) == (60, 15, 15)


def test_an_org_has_only_so_many_open(acme, monkeypatch):
    monkeypatch.setattr(backtest, "INLINE_RUNS", 0)
    record(1, output=YES)
    script = draft(DRAFT)
    for _ in range(backtest.OPEN_PER_ORG):
        start(script)
    with pytest.raises(backtest.TooManyBacktests):
        start(script)


def test_the_clock_reads_instants_from_outside():
    assert clock.read("2026-11-22T13:00:00+01:00") == NOON == clock.read("2026-11-22T12:00:00Z")
    assert [clock.read(wrong) for wrong in ("2026-11-22T12:00:00", "now", "", 7, None, "1999-01-01T00:00:00Z", "9" * 50)] == [None] * 7
