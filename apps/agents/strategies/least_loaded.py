"""Least loaded: the eligible candidate with the smallest share of its room in use; ties by subject id."""

from __future__ import annotations

from apps.agents.candidates import CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.strategies.base import Choice, NoHeadAgent, PoolFull, allowed, nobody
from apps.orgs.config_store import OrgConfig


class LeastLoadedStrategy:
    name = "least_loaded"

    def choose(self, facts: TaskFacts, pool: CandidatePool, config: OrgConfig) -> Choice:
        if why := nobody(facts, pool):
            raise NoHeadAgent(why, strategy=self.name)
        open_to_it = [candidate for candidate in allowed(facts, pool.eligible) if candidate.free]
        if not open_to_it:
            raise PoolFull(strategy=self.name)
        best = min(open_to_it, key=lambda candidate: (candidate.fullness, candidate.subject_id))
        because = f"{best.subject_id} is the least loaded of {len(open_to_it)} ({best.load} of {best.room:g} open)"
        return Choice(candidate=best, strategy=self.name, because=because)
