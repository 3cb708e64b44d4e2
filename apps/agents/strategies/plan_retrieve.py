"""Plan and retrieve: the org's script picks the head agent from the candidates.

A script sees the candidates that may have the task and have room for it, at most `OFFERED_MAX`, the least loaded. Of a
batch a few tasks are asked about at a time, so that what a script sees of the loads is what it has chosen so far.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from apps.agents.candidates import Candidate, CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.market.ranking import Standing
from apps.agents.strategies.base import Choice, NoHeadAgent, Outcome, PoolFull, Setting, Steps, nobody, open_to
from apps.dsl.facts import task_facts
from apps.dsl.policies import Hook
from apps.dsl.runner import PolicyDecision, PolicyRequest, PolicyRunner

OFFERED_MAX = 100
AT_ONCE = 16


class PlanRetrieveStrategy:
    name = "plan+retrieve"

    def __init__(self, runner: PolicyRunner | None = None) -> None:
        self._runner = runner

    def choose_many(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting) -> Steps:
        outcomes: dict[str, Outcome] = {}
        for start in range(0, len(asked), AT_ONCE):
            self._choose(asked[start : start + AT_ONCE], pool, setting, outcomes)
        return outcomes
        yield  # asks nobody: the script runs in the sandbox

    def _choose(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting, outcomes: dict[str, Outcome]) -> None:
        requests: dict[str, PolicyRequest] = {}
        for facts in asked:
            script_id = facts.behavior.get("plan_retrieve_dsl_id") or setting.config.plan_retrieve_dsl_id
            offered = open_to(facts, pool)
            if not script_id:
                outcomes[facts.key] = NoHeadAgent("plan_retrieve_dsl_id is not configured", strategy=self.name)
            elif not offered:
                outcomes[facts.key] = nobody(facts, pool, strategy=self.name)
            else:
                requests[facts.key] = _request(facts, script_id, offered, setting)
        if not requests:
            return
        decisions = (self._runner or PolicyRunner()).decide_many(Hook.PLAN_RETRIEVE, list(requests.values()), now=setting.now)
        for key, decision in zip(requests, decisions, strict=True):
            outcomes[key] = outcome = self._outcome(decision, pool)
            if isinstance(outcome, NoHeadAgent):
                outcome.final = setting.config.plan_retrieve_on_error == "fail"

    def _outcome(self, decision: PolicyDecision, pool: CandidatePool) -> Outcome:
        script = f"{decision.script_id}@{decision.script_version}"
        if decision.error or decision.output is None:
            refused = NoHeadAgent(f"The script {decision.script_id} chose nobody: {decision.error or 'no answer'}", strategy=self.name)
            refused.rows = (decision.row(),)
            return refused
        candidate = pool.members.get(decision.output["head_agent_subject_id"])
        if candidate is None:  # answers.py has checked it already: it would take a candidate offered and gone
            refused = NoHeadAgent(f"The script {decision.script_id} chose somebody outside the candidate pool", strategy=self.name)
            refused.rows = (decision.row(),)
            return refused
        if not candidate.free:
            full = PoolFull(f"{candidate.subject_id}, chosen by {script}, has no room left in this batch", strategy=self.name)
            full.rows = (decision.row(),)
            return full
        pool.take(candidate)
        reason = decision.output.get("reason")
        because = f"{script} chose {candidate.subject_id}" + (f": {reason}"[:500] if isinstance(reason, str) and reason else "")
        row = decision.row()
        details = {
            "script_id": decision.script_id,
            "script_version": decision.script_version,
            "policy_run_id": row.id,
            "offered": len(decision.request.input["candidates"]),
        }
        return Choice(candidate=candidate, strategy=self.name, because=because, details=details, rows=(row,))


def _request(facts: TaskFacts, script_id: str, offered: list[Candidate], setting: Setting) -> PolicyRequest:
    if len(offered) > OFFERED_MAX:
        offered = heapq.nsmallest(OFFERED_MAX, offered, key=lambda c: (c.fullness, c.load, c.subject_id))
    known = setting.standings([candidate.subject_id for candidate in offered])
    return PolicyRequest(
        org_id=facts.org_id,
        task_key=facts.key,
        script_id=script_id,
        input={
            "task": task_facts(dict(facts.entry), org_id=facts.org_id),
            "candidates": [candidate_facts(candidate, known[candidate.subject_id]) for candidate in offered],
        },
        timeout_ms=setting.config.dsl_timeout_ms,
        config_version=setting.config.version,
        config=setting.config,
    )


def candidate_facts(candidate: Candidate, standing: Standing) -> dict[str, Any]:
    """What a script sees of one; plain JSON."""
    subject = candidate.subject
    return {
        "subject_id": subject.subject_id,
        "subject_type": subject.subject_type,
        "role_ids": list(subject.role_ids),
        "capabilities": sorted(candidate.capabilities),
        "presence": candidate.presence.value,
        "load": candidate.load,
        "free": min(candidate.free, 1_000_000),
        "reputation": standing.reputation,
        "evidence": standing.evidence,
        "calibration": standing.calibration,
        "success_rate": standing.success_rate,
        "latency_s": standing.latency_s,
    }
