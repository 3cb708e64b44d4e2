"""Auctions as they are held: a real queue, a real wire, agents of the SDK with their own credentials."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
from celery import signals

import workers.dispatch
from apps.agents.market.floor import floor
from apps.agents.market.records import Auction, Bid
from apps.agents.market.terms import Terms
from apps.agents.presence import PresenceBoard
from apps.core import ids
from apps.dsl import scripts
from apps.dsl.models import PolicyRun
from apps.dsl.runner import PolicyRunner
from apps.messaging.envelope import AgentReport, ReportKind
from apps.tasks.models import Assignment, Decision, Task
from apps.tasks.results import ReportDesk
from jobplatform_sdk import Bid as Offer
from jobplatform_sdk import bidding
from tests.factories import NOON, make_agent, make_org

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def acme(crowd):
    floor.cache_clear()  # it remembers what other tests' tasks were told
    return make_org("acme", agent_resolution_strategy="auction", retry_backoff_s=0)


def asks(price: float, **more):
    async def bid(call):
        return Offer(price=price, **more)

    return bid


def script(name: str, source: str, hook: str = "auction_input") -> None:
    scripts.register(org_id="acme", script_id=name, hook=hook, source=source, by="tests", now=NOON, activate=True)


@pytest.fixture(autouse=True)
def patience(request, monkeypatch) -> None:
    """Windows in which even a busy machine's bids arrive, where nobody is meant to miss one: an auction ends when all have answered."""
    if "at_its_deadline" not in request.node.name and "too_late" not in request.node.name:
        monkeypatch.setitem(Terms.__init__.__kwdefaults__, "bid_window_ms", 10_000)


class Raw:
    """A bidder that speaks past the SDK: what it says goes out as it is, whenever it likes."""

    def __init__(self, said: bytes = b"") -> None:
        self.said = said

    async def say(self) -> bytes:
        return self.said


@pytest.fixture(autouse=True)
def speak_raw(monkeypatch):
    really = bidding.Bidding._bid

    async def bid(self, call, reply):
        if isinstance(self._bidder, Raw):
            await self._link.publish(reply, await self._bidder.say())
        else:
            await really(self, call, reply)

    monkeypatch.setattr(bidding.Bidding, "_bid", bid)


def task(name: str) -> Task:
    return Task.objects.get(pk=ids.task_key("acme", name))


def decline(name: str, agent: str, attempt: int) -> None:
    report = AgentReport(org_id="acme", task_id=name, agent=agent, kind=ReportKind.DECLINED, attempt=attempt, seq=1, at=NOON, reason="no")
    ReportDesk().apply([report], now=NOON)


def test_the_lowest_price_wins_and_the_promise_is_recorded(crowd, queued, dispatch):
    crowd.hire("ada", bidder=asks(10, eta_s=5, confidence=0.9))
    crowd.hire("bo", bidder=asks(7, eta_s=9, confidence=0.8))
    crowd.hire("cy")  # has no bidder, and that is no error
    queued("t1")
    assert dispatch() == 1
    assert (task("t1").status, task("t1").head_agent_subject_id) == ("dispatched", "bo")
    decision = Assignment.objects.get().decision
    auction = Auction.objects.get()
    assert decision["promise"] == {"auction_id": auction.id, "price": 7.0, "pays": 7.0, "eta_s": 9.0, "confidence": 0.8}
    assert (auction.outcome, auction.winner, auction.called, auction.bids) == ("awarded", "bo", 3, 2)
    assert auction.details["absent"] == {"count": 1, "agents": ["cy"]}
    assert [(bid.agent, bid.place, bid.price) for bid in Bid.objects.order_by("id")] == [("bo", 1, 7.0), ("ada", 2, 10.0)]


def test_fifty_agents_end_an_auction_as_soon_as_all_have_answered(crowd, queued, dispatch, acme):
    script("terms", "def auction(task):\n  return {'bid_window_ms': 10000}")
    make_org("acme", auction_input_dsl_id="terms")
    names = [f"a{number:02}" for number in range(50)]

    async def bid(call):
        return None if call.load else Offer(price=5)

    crowd.hire(*names, bidder=bid)
    queued("t1")
    dispatch()
    auction = Auction.objects.get()
    assert (auction.called, auction.bids, auction.outcome) == (50, 50, "awarded")
    assert auction.took_ms < 9000
    assert "SHA-256" in Assignment.objects.get().decision["tie_break"]


def test_an_auction_ends_at_its_deadline_and_what_comes_later_is_kept_and_ignored(crowd, queued, dispatch):
    go = asyncio.Event()

    class Late(Raw):
        async def say(self):
            await go.wait()
            return b'{"price": 0}'

    crowd.hire("ada", bidder=asks(10))
    crowd.hire("bo", bidder=Late())
    queued("t1")
    dispatch()
    auction = Auction.objects.get()
    assert (auction.winner, auction.details["silent"]["agents"]) == ("ada", ["bo"])
    assert 190 <= auction.took_ms < 5000
    crowd._loop.call_soon_threadsafe(go.set)
    until = time.monotonic() + 10
    while not floor().record_late(now=NOON) and time.monotonic() < until:
        crowd.wire.wait_up(0.1)
    [bid] = Bid.objects.filter(outcome="ignored")
    assert (bid.agent, bid.why, bid.auction_id) == ("bo", "late: the auction was closed", auction.id)
    assert task("t1").head_agent_subject_id == "ada"


def test_bids_that_came_too_late_are_kept_when_the_worker_stops(crowd, queued, dispatch):
    go = asyncio.Event()

    class Late(Raw):
        async def say(self):
            await go.wait()
            return b'{"price": 0}'

    crowd.hire("ada", bidder=asks(10))
    crowd.hire("bo", bidder=Late())
    queued("t1")
    dispatch()
    crowd._loop.call_soon_threadsafe(go.set)
    until = time.monotonic() + 10
    while not floor()._late and time.monotonic() < until:
        crowd.wire.wait_up(0.1)
    assert not Bid.objects.filter(outcome="ignored").exists()
    assert workers.dispatch  # its signals are connected
    signals.worker_shutdown.send(sender=None)
    assert Bid.objects.get(outcome="ignored").why == "late: the auction was closed"
    signals.worker_process_shutdown.send(sender=None)
    assert Bid.objects.filter(outcome="ignored").count() == 1


def test_when_the_winner_declines_the_runner_up_gets_it_without_another_auction(crowd, queued, dispatch):
    for name, price in (("ada", 1), ("bo", 2), ("cy", 3)):
        crowd.hire(name, bidder=asks(price))
    queued("t1")
    dispatch()
    decline("t1", "ada", 1)
    dispatch()
    assert task("t1").head_agent_subject_id == "bo"
    second = Assignment.objects.get(attempt=2)
    assert (second.decision["runner_up"], second.decision["place"]) == (True, 2)
    promise = {"auction_id": Auction.objects.get().id, "price": 2.0, "pays": 2.0, "eta_s": 0.0, "confidence": 1.0}
    assert second.decision["promise"] == promise
    assert "ada declined" in second.because
    decline("t1", "bo", 2)
    dispatch()
    assert task("t1").head_agent_subject_id == "cy"
    assert Auction.objects.count() == 1
    decline("t1", "cy", 3)
    dispatch()
    assert task("t1").status == "failed"
    assert "Every candidate declined the task" in task("t1").reason


def test_a_ranking_does_not_keep_for_ever(crowd, queued, dispatch):
    crowd.hire("ada", bidder=asks(1))
    crowd.hire("bo", bidder=asks(2))
    queued("t1")
    dispatch()
    decline("t1", "ada", 1)
    later = NOON + timedelta(seconds=301)
    PresenceBoard().record("acme", "bo", slots=8, instance="i", leaving=False, now=later)
    dispatch(later)
    assert Auction.objects.count() == 2
    assert task("t1").head_agent_subject_id == "bo"


def test_an_agent_that_failed_the_task_is_not_given_it_again_while_there_are_others(crowd, queued, dispatch):
    crowd.hire("ada", bidder=asks(1))
    crowd.hire("bo", bidder=asks(5))
    queued("t1")
    dispatch()
    report = AgentReport(
        org_id="acme", task_id="t1", agent="ada", kind=ReportKind.FAILED, attempt=1, seq=1, at=NOON, error="disk", retryable=True
    )
    ReportDesk().apply([report], now=NOON)
    dispatch()
    assert task("t1").head_agent_subject_id == "bo"
    assert Auction.objects.order_by("-id").first().called == 1


def test_bids_of_one_batch_are_called_for_at_once_and_nobody_wins_more_than_it_has_room_for(crowd, queued, dispatch):
    make_org("acme", agent_prefetch=0)
    crowd.hire("ada", bidder=asks(1), slots=2)
    crowd.hire("bo", bidder=asks(2), slots=8)
    queued(*(f"t{number}" for number in range(6)))
    dispatch()
    winners = sorted(Task.objects.values_list("head_agent_subject_id", flat=True))
    assert winners == ["ada"] * 2 + ["bo"] * 4
    passed = [row.details["passed_over"] for row in Auction.objects.filter(winner="bo")]
    assert all(each == {"ada": "no room left: it won others of this batch"} for each in passed)
    assert Bid.objects.filter(agent="ada", place=1, why="no room left: it won others of this batch").count() == len(passed) == 4


def test_nonsense_is_recorded_and_changes_nothing(crowd, queued, dispatch):
    crowd.hire("ada", bidder=asks(10))
    for number, said in enumerate(
        [
            b"\xff\xfe", b"[]", b'{"price": -1}', b'{"price": NaN}', b'{"price": "cheap"}', b'{"price": true}',
            b'{"price": 1, "eta_s": -1}',
            b'{"price": 1, "confidence": 2}', b'{"price": 1, "task_id": "t2"}', b'{"price": 1, "auction_id": "x"}',
            b'{"price": 1, "subject_id": "ada"}', b'{"price": 1e999}', b"{" * 5000,
        ]
    ):  # fmt: skip
        crowd.hire(f"liar{number:02}", bidder=Raw(said))
    queued("t1")
    dispatch()
    assert task("t1").head_agent_subject_id == "ada"
    whys = dict(Bid.objects.filter(outcome="ignored").values_list("agent", "why"))
    assert len(whys) == 13
    assert whys["liar02"] == "malformed: price must be from 0 to 1e+12"
    assert whys["liar08"].startswith("bid for another task")
    assert whys["liar10"].startswith("names another bidder")
    assert Auction.objects.get().ignored == 13


def test_with_nobody_bidding_the_fallback_is_asked_and_the_refusal_is_kept(crowd, queued, dispatch):
    make_org("acme", agent_resolution_fallbacks=["least_loaded"])
    crowd.hire("ada")
    queued("t1")
    dispatch()
    assignment = Assignment.objects.get()
    assert assignment.strategy == "least_loaded"
    assert assignment.decision["refusals"] == [{"strategy": "auction", "why": "No acceptable bid came from 1 called"}]
    assert Auction.objects.get().outcome == "no_bids"


def test_a_task_that_waits_for_bidders_is_offered_again_and_said_once_to_have_found_none(crowd, queued, dispatch):
    make_org("acme", assignment_deadline_s=60)
    crowd.hire("ada")
    queued("t1")
    for seconds in (0, 2, 4):
        dispatch(NOON + timedelta(seconds=seconds))
    assert task("t1").status == "queued"
    assert Auction.objects.count() == Decision.objects.count() == 1
    crowd.hire("bo", bidder=asks(3))
    dispatch(NOON + timedelta(seconds=6))
    assert task("t1").head_agent_subject_id == "bo"
    assert [row.outcome for row in Auction.objects.order_by("id")] == ["no_bids", "awarded"]


def test_when_nobody_is_found_a_decision_tells_every_reason_and_the_pool(crowd, queued, dispatch):
    make_org("acme", agent_resolution_fallbacks=["static", "plan+retrieve"])
    crowd.hire("ada")
    queued("t1")
    dispatch()
    assert task("t1").status == "failed"
    decision = Decision.objects.get(kind="no_head_agent")
    assert decision.outcome == "failed"
    assert [refusal["strategy"] for refusal in decision.details["refusals"]] == ["auction", "static", "plan+retrieve"]
    assert decision.details["pool_size"] == 1
    assert "ada" in decision.details["eligible"]


def test_the_script_sets_the_terms(crowd, queued, dispatch):
    source = """
def auction(task):
    return {"rule": "second_price", "reserve_price": 20, "min_bids": 2, "brief": {"words": task["payload"]["words"]}}
"""
    script("terms", source)
    make_org("acme", auction_input_dsl_id="terms")

    async def by_words(call):
        return Offer(price=call.brief["words"] / 10)

    crowd.hire("ada", bidder=by_words)
    crowd.hire("bo", bidder=asks(14))
    crowd.hire("cy", bidder=asks(21))
    queued("t1", entry={"task_job_submission_data": {"words": 100}})
    dispatch()
    auction = Auction.objects.get()
    assert (auction.winner, auction.price, auction.pays) == ("ada", 10.0, 14.0)
    assert Bid.objects.get(outcome="refused").why == "over the reserve price"
    assert PolicyRun.objects.get().hook == "auction_input"
    assert Assignment.objects.get().because.endswith("price 10, pays 14")


def test_a_script_that_fails_hands_over_to_the_next_strategy(crowd, queued, dispatch):
    script("terms", "def auction(task):\n  return {'rule': 'dutch'}")
    make_org("acme", auction_input_dsl_id="terms", agent_resolution_fallbacks=["round_robin"])
    crowd.hire("ada", bidder=asks(1))
    queued("t1")
    dispatch()
    assert Assignment.objects.get().strategy == "round_robin"
    assert not Auction.objects.exists()
    assert PolicyRun.objects.get().error


def test_a_task_may_name_its_own_strategy(crowd, queued, dispatch):
    make_org("acme", agent_resolution_strategy="static", static_head_agent_subject_id="ada")
    crowd.hire("ada", bidder=asks(9))
    crowd.hire("bo", bidder=asks(1))
    queued("t1", entry={"task_behavior_dsl_map": {"agent_resolution_strategy": "auction"}})
    queued("t2")
    dispatch()
    assert (task("t1").head_agent_subject_id, task("t2").head_agent_subject_id) == ("bo", "ada")
    assert Assignment.objects.get(strategy="auction").decision["strategy_from"] == "task"


def test_plan_and_retrieve_picks_from_the_candidates_and_nobody_else(crowd, queued, dispatch):
    make_agent("acme", "ada", capabilities=("python",))
    make_agent("acme", "bo")
    source = """
def select(task, candidates):
    if task["payload"].get("stray"):
        return {"head_agent_subject_id": "eve"}
    able = [c for c in candidates if "python" in c["capabilities"]]
    return {"head_agent_subject_id": able[0]["subject_id"], "reason": "knows python, reputation %s" % able[0]["reputation"]}
"""
    script("plan", source, hook="plan_retrieve")
    make_org(
        "acme", agent_resolution_strategy="plan+retrieve", plan_retrieve_dsl_id="plan", agent_resolution_fallbacks=["static"],
        static_head_agent_subject_id="bo",
    )  # fmt: skip
    queued("t1")
    queued("t2", entry={"task_job_submission_data": {"stray": True}})
    dispatch()
    assert task("t1").head_agent_subject_id == "ada"
    assert "knows python, reputation 0.5" in Assignment.objects.get(task_key="acme/t1").because
    stray = Assignment.objects.get(task_key="acme/t2")
    assert (stray.head_agent_subject_id, stray.strategy) == ("bo", "static")
    assert "'eve' is not a candidate" in stray.decision["refusals"][0]["why"]
    assert PolicyRun.objects.count() == 2


def test_every_question_to_a_script_leaves_its_run_also_when_nothing_comes_of_it(crowd, queued, dispatch):
    """Two tasks, room for one: the script picks the same agent twice."""
    make_agent("acme", "ada")
    script("plan", "def select(task, candidates):\n  return {'head_agent_subject_id': 'ada'}", hook="plan_retrieve")
    plan = {"agent_resolution_strategy": "plan+retrieve", "plan_retrieve_dsl_id": "plan"}
    make_org("acme", **plan, default_agent_slots=1, agent_prefetch=0)
    queued("t1", "t2")
    dispatch()
    assert sorted(Task.objects.values_list("status", flat=True)) == ["dispatched", "queued"]
    assert set(PolicyRun.objects.values_list("task_key", flat=True)) == {"acme/t1", "acme/t2"}


def test_a_script_that_fails_again_and_again_while_its_task_waits_leaves_one_run(crowd, queued, dispatch):
    make_agent("acme", "ada")
    script("plan", "def select(task, candidates):\n  return {'head_agent_subject_id': 'eve'}", hook="plan_retrieve")
    make_org("acme", agent_resolution_strategy="plan+retrieve", plan_retrieve_dsl_id="plan", assignment_deadline_s=60)
    queued("t1")
    for seconds in (0, 2, 4):
        dispatch(NOON + timedelta(seconds=seconds))
    assert task("t1").status == "queued"
    assert "'eve' is not a candidate" in PolicyRun.objects.get().error


def test_a_task_cancelled_while_its_script_was_asked_keeps_the_run(crowd, queued, dispatch, monkeypatch):
    make_agent("acme", "ada")
    script("plan", "def select(task, candidates):\n  return {'head_agent_subject_id': 'ada'}", hook="plan_retrieve")
    make_org("acme", agent_resolution_strategy="plan+retrieve", plan_retrieve_dsl_id="plan")
    queued("t1")
    decide_many = PolicyRunner.decide_many

    def meanwhile(self, *asked, **how):
        Task.objects.update(status="cancelled")
        return decide_many(self, *asked, **how)

    monkeypatch.setattr(PolicyRunner, "decide_many", meanwhile)
    dispatch()
    assert task("t1").status == "cancelled" and not Assignment.objects.exists()
    assert PolicyRun.objects.get().output["head_agent_subject_id"] == "ada"


def test_round_robin_gives_each_its_turn(crowd, queued, dispatch):
    make_org("acme", agent_resolution_strategy="round_robin")
    for name in ("ada", "bo", "cy"):
        make_agent("acme", name)
    queued("t1", "t2")
    dispatch()
    queued("t3", "t4")
    dispatch()
    order = [task(f"t{number}").head_agent_subject_id for number in range(1, 5)]
    assert order == ["ada", "bo", "cy", "ada"]
