"""A remote script that picks the agent, or sets an auction's terms, and fails: another strategy or nobody, as the org wishes."""

from __future__ import annotations

import pytest

from apps.agents.candidates import Candidate, CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.presence import Presence
from apps.agents.resolver import HeadAgentResolver
from apps.agents.strategies.base import Choice, NoHeadAgent
from apps.orgs.config_store import OrgConfigProvider
from apps.roles.directory import CandidateSubject
from tests.factories import NOON, make_entry
from tests.integration.remote_policies.service import answering, http
from tests.lying_server import saying

FACTS = TaskFacts(key="acme/t", org_id="acme", task_id="t", job_space_id="", priority=0, entry=make_entry(task_id="t"))


def pool() -> CandidatePool:
    subjects = [CandidateSubject(subject_id=name, subject_type="agent", role_ids=(), capabilities=()) for name in ("ada", "bo")]
    return CandidatePool([Candidate(subject=subject, presence=Presence.PRESENT, room=8, load=0) for subject in subjects])


def resolve():
    return HeadAgentResolver(OrgConfigProvider().of("acme")).resolve_many([FACTS], pool(), now=NOON)[0]


PLAN = {"agent_resolution_strategy": "plan+retrieve", "plan_retrieve_dsl_id": "remote:pick", "agent_resolution_fallbacks": ["least_loaded"]}
AUCTION = {"agent_resolution_strategy": "auction", "auction_input_dsl_id": "remote:terms", "agent_resolution_fallbacks": ["least_loaded"]}


def test_a_remote_script_may_pick_the_agent_from_the_pool(serve, org_of):
    asked = []
    pick = {"output": {"head_agent_subject_id": "bo", "reason": "knows it"}}
    org_of(serve(answering(lambda question: asked.append(question) or pick)), **PLAN)
    choice = resolve()
    assert isinstance(choice, Choice) and choice.candidate.subject_id == "bo" and "knows it" in choice.because
    assert [candidate["subject_id"] for candidate in asked[0]["input"]["candidates"]] == ["ada", "bo"]
    assert choice.rows[0].place == "remote"


@pytest.mark.parametrize("outsider", ["zoe", "", None, "ADA"])
def test_a_remote_script_that_picks_somebody_outside_the_pool_chose_nobody(serve, org_of, outsider):
    org_of(serve(answering(lambda _: {"output": {"head_agent_subject_id": outsider}})), **{**PLAN, "agent_resolution_fallbacks": []})
    outcome = resolve()
    assert isinstance(outcome, NoHeadAgent) and outcome.rows[0].error


@pytest.mark.parametrize("wishes", [PLAN, AUCTION], ids=["plan", "auction"])
def test_when_it_fails_the_next_strategy_is_asked(serve, org_of, wishes):
    org_of(serve(saying(http(500, b""))), **wishes)
    choice = resolve()
    assert isinstance(choice, Choice) and choice.strategy == "least_loaded"
    assert choice.rows and "status 500" in choice.rows[0].error


BOTH = [(PLAN, "plan_retrieve_on_error"), (AUCTION, "auction_input_on_error")]


@pytest.mark.parametrize(("wishes", "key"), BOTH, ids=["plan", "auction"])
def test_or_nobody_where_the_org_wishes_so(serve, org_of, wishes, key):
    org_of(serve(saying(http(500, b""))), **wishes, **{key: "fail"})
    outcome = resolve()
    assert isinstance(outcome, NoHeadAgent) and "status 500" in outcome.sentence
