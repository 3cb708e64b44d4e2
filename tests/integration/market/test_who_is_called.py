"""Whom the terms call and whom they leave out, what an answer holds besides, and who may be the runner-up."""

from __future__ import annotations

import pytest

from apps.agents.candidates import Candidate, CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.market.floor import floor
from apps.agents.market.records import Auction
from apps.agents.presence import Presence, PresenceBoard
from apps.agents.resolver import HeadAgentResolver
from apps.agents.strategies.base import NoHeadAgent
from apps.core import clock
from apps.dsl import scripts
from apps.orgs.config_store import OrgConfigProvider
from apps.roles.directory import CandidateSubject
from apps.tasks.explain import explain
from apps.tasks.models import Assignment, Task
from jobplatform_sdk import Bid as Offer
from tests.factories import NOON, bearer, make_agent, make_entry, make_key, make_org

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True)]

TERMS = "def auction(task):\n  return {'capabilities': ['gpu'], 'max_candidates': 1, 'reserve': 1, 'bid_window_ms': 10000}\n"


def test_only_whom_the_terms_want_is_called_and_a_slip_of_the_pen_is_told(crowd, queued, dispatch, client):
    floor.cache_clear()
    scripts.register(org_id="acme", script_id="terms", hook="auction_input", source=TERMS, by="t", now=NOON, activate=True)
    make_org("acme", agent_resolution_strategy="auction", auction_input_dsl_id="terms")

    async def five(call):
        return Offer(price=5, eta_s=2)

    crowd.hire("ada", "bo", "cy", bidder=five)
    for name in ("ada", "bo"):
        make_agent("acme", name, capabilities=("gpu",))
    queued("t1")
    dispatch()
    auction, decision = Auction.objects.get(), Assignment.objects.get().decision
    assert (auction.winner, auction.called, auction.bids) == ("ada", 1, 1)
    assert auction.details["not_called"] == {
        "count": 2,
        "agents": {"bo": "is not among the 1 least loaded (max_candidates)", "cy": "lacks gpu, which the terms want"},
    }
    assert set(decision["eligible"]) == {"ada", "bo", "cy"}  # other strategies might have chosen them
    script, held = [step for step in explain(Task.objects.get(), now=NOON)["steps"] if step["kind"] in ("policy", "auction")]
    assert script["summary"].endswith("; it also said what are no terms of our auctions: reserve (did you mean reserve_price?).")
    assert held["because"] == "ada made the best of 1 bid (first_price): price 5"
    for name in ("ada", "bo", "cy"):
        PresenceBoard().record("acme", name, slots=8, instance="i", leaving=False, now=clock.now())
    entry = {"task_goal": "g", "task_intent": "i", "task_priority_value": 0, "submitter_subject_id": "acme:sam"}
    body = {"type": "task", "data": entry, "options": {"ask_bids": True}}
    told = client.post("/api/v1/tasks/simulate", body, "application/json", headers=bearer(make_key("acme", "operator"))).json()
    again = told["auction"]["held"]
    assert told["task_id"].startswith("simulated-") and Auction.objects.count() == 1
    assert again["winner"] == told["choice"]["winner"] == told["auction"]["called"][0]
    assert again["bids"][0]["parts"]["price"] == 5 and again["details"]["not_called"]["agents"]["cy"] == "lacks gpu, which the terms want"


def pool_of(**loads: int) -> CandidatePool:
    subjects = {name: CandidateSubject(subject_id=name, subject_type="agent", role_ids=(), capabilities=()) for name in loads}
    return CandidatePool([Candidate(subject=subjects[name], presence=Presence.PRESENT, room=8, load=load) for name, load in loads.items()])


def after_a_refusal(pool: CandidatePool, **newcomers: bool):
    """ada, the winner, declined; the others stand in the ranking in this order."""
    entry = {"score": 1, "parts": {}, "price": 1.0, "pays": 1.0, "eta_s": 1.0, "confidence": 1.0, "load": 0}
    ranking = [{**entry, "agent": name, "on_probation": new} for name, new in newcomers.items()]
    Auction.objects.all().delete()
    Auction.objects.create(
        id="0" * 32, org_id="acme", task_key="acme/t1", attempt=1, outcome="awarded", rule="first_price", winner="ada", bids=len(ranking),
        terms={}, ranking=ranking, at=NOON,
    )  # fmt: skip
    facts = TaskFacts(
        key="acme/t1", org_id="acme", task_id="t1", job_space_id="", priority=0, attempt=1, excluded={"ada": "declined"},
        entry=make_entry(task_id="t1"),
    )  # fmt: skip
    (found,) = HeadAgentResolver(OrgConfigProvider().of("acme")).resolve_many([facts], pool, now=NOON)
    return found


@pytest.mark.usefixtures("redis")
def test_a_newcomer_does_not_get_by_a_refusal_what_it_could_not_win():
    make_org("acme", agent_resolution_strategy="auction")
    found = after_a_refusal(pool_of(ada=0, new=1, bo=0), new=True, ada=False, bo=False)
    assert (found.candidate.subject_id, found.details["place"], found.details["runner_up"]) == ("bo", 3, True)
    found = after_a_refusal(pool_of(ada=0, new=0, bo=0), new=True, ada=False, bo=False)
    assert (found.candidate.subject_id, found.details["place"]) == ("new", 1)
    found = after_a_refusal(pool_of(ada=0, new=1), new=True, ada=False)
    assert found.candidate.subject_id == "new"  # nobody established is left
    assert not isinstance(found, NoHeadAgent) and found.details["barred"] == {"ada": "declined the task"}
