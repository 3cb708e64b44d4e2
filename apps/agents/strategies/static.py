"""Static assignment: the agent the org's config names, if it is in the pool."""

from __future__ import annotations

from apps.agents.candidates import CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.presence import Presence
from apps.agents.strategies.base import Choice, NoHeadAgent, PoolFull
from apps.orgs.config_store import OrgConfig


class StaticStrategy:
    name = "static"

    def choose(self, facts: TaskFacts, pool: CandidatePool, config: OrgConfig) -> Choice:
        wanted = config.static_head_agent_subject_id
        if not wanted:
            raise NoHeadAgent("static_head_agent_subject_id is not configured", strategy=self.name)
        candidate = pool.members.get(wanted)
        if candidate is None:
            raise NoHeadAgent("The configured head agent is not in the candidate pool", strategy=self.name, agent=wanted)
        if facts.excluded.get(wanted) == "declined":
            raise NoHeadAgent("The configured head agent declined the task", strategy=self.name, agent=wanted)
        if candidate.gone:
            raise NoHeadAgent("The configured head agent is revoked", strategy=self.name, agent=wanted)
        if why := candidate.unfit(facts):
            raise NoHeadAgent(f"The configured head agent {why}", strategy=self.name, agent=wanted)
        if candidate.bar or candidate.presence is Presence.AWAY or not candidate.free:
            raise PoolFull(strategy=self.name, agent=wanted)
        return Choice(candidate=candidate, strategy=self.name, because=f"{wanted} is the org's configured head agent and is in the pool")
