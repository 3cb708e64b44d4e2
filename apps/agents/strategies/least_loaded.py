"""Least loaded: the eligible candidate with the smallest share of its room in use; ties by subject id."""

from __future__ import annotations

from collections.abc import Sequence

from apps.agents.candidates import CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.strategies.base import Choice, Outcome, Setting, Steps, acceptable, nobody


class LeastLoadedStrategy:
    name = "least_loaded"

    def choose_many(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting) -> Steps:
        return {facts.key: self._choose(facts, pool) for facts in asked}
        yield  # asks nobody

    def _choose(self, facts: TaskFacts, pool: CandidatePool) -> Outcome:
        best = pool.lightest(acceptable(facts, pool))
        if best is None:
            return nobody(facts, pool, strategy=self.name)
        fit = len(pool.eligible) - len(pool.kept_out(facts))
        because = f"{best.subject_id} is the least loaded of {fit} ({best.load} of {best.room:g} open)"
        pool.take(best)
        return Choice(candidate=best, strategy=self.name, because=because)
