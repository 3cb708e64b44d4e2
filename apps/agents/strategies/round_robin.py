"""Round robin: each in turn, by subject id, from where the last batch of the lane left off.

<p>:turn:<org>:<lane>   STRING   who had the last turn; forgotten after a day without tasks. A lost turn costs fairness only
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from apps.agents.candidates import CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.strategies.base import Choice, Outcome, Setting, Steps, acceptable, nobody
from apps.core import redis

FORGET_SECONDS = 86_400


class RoundRobinStrategy:
    name = "round_robin"

    def __init__(self, *, remembers: bool = True) -> None:
        """Without remembering, whose turn it is stays as it was."""
        self._remembers = remembers

    def choose_many(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting) -> Steps:
        name = redis.key("turn", asked[0].org_id, pool.lane)
        last = before = redis.client().get(name) or ""
        circle = sorted(candidate.subject_id for candidate in pool.eligible)
        outcomes: dict[str, Outcome] = {}
        for facts in asked:
            outcome = self._choose(facts, pool, circle, last)
            if isinstance(outcome, Choice):
                last = outcome.candidate.subject_id
            outcomes[facts.key] = outcome
        if self._remembers and last != before:
            redis.client().set(name, last, ex=FORGET_SECONDS)
        return outcomes
        yield  # asks nobody

    def _choose(self, facts: TaskFacts, pool: CandidatePool, circle: list[str], last: str) -> Outcome:
        accepts = acceptable(facts, pool)
        start = bisect_right(circle, last)
        for subject_id in (*circle[start:], *circle[:start]):
            candidate = pool.members[subject_id]
            if candidate.free and (accepts is None or accepts(candidate)):
                pool.take(candidate)
                because = f"it is {subject_id}'s turn among {len(circle)}" + (f", after {last}" if last else "")
                return Choice(candidate=candidate, strategy=self.name, because=because)
        return nobody(facts, pool, strategy=self.name)
