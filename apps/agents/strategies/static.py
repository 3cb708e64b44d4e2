"""Static assignment: the agent the org's config names, if it is in the pool."""

from __future__ import annotations

from collections.abc import Sequence

from apps.agents.candidates import CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.presence import Presence
from apps.agents.strategies.base import Choice, NoHeadAgent, Outcome, PoolFull, Setting, Steps


class StaticStrategy:
    name = "static"

    def choose_many(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting) -> Steps:
        return {facts.key: self._choose(facts, pool, setting.config.static_head_agent_subject_id) for facts in asked}
        yield  # asks nobody

    def _choose(self, facts: TaskFacts, pool: CandidatePool, wanted: str | None) -> Outcome:
        if not wanted:
            return NoHeadAgent("static_head_agent_subject_id is not configured", strategy=self.name)
        candidate = pool.members.get(wanted)
        if candidate is None:
            return NoHeadAgent(f"The configured head agent, {wanted}, is not in the candidate pool", strategy=self.name)
        if why := candidate.hindered(facts):
            return NoHeadAgent(f"The configured head agent, {wanted}, {why}", strategy=self.name)
        if why := candidate.bar or ("away" if candidate.presence is Presence.AWAY else ""):
            return PoolFull(f"The configured head agent, {wanted}, takes no work now: {why}", strategy=self.name)
        if not candidate.free:
            load = f"{candidate.load} of {candidate.room:g} open"
            return PoolFull(f"The configured head agent, {wanted}, is busy ({load})", strategy=self.name)
        pool.take(candidate)
        because = f"{wanted} is the org's configured head agent and is in the pool"
        if wanted in pool.barred:
            because += ", though it has never announced itself"
        return Choice(candidate=candidate, strategy=self.name, because=because)
