"""The head agent of a task: the org's strategy, then its fallbacks in order.

Decides purely: facts, pool and config in; a choice, or an error that says why there is none, out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apps.agents.candidates import CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.strategies.base import Choice, NoHeadAgent, PoolFull, Strategy
from apps.agents.strategies.least_loaded import LeastLoadedStrategy
from apps.agents.strategies.static import StaticStrategy
from apps.orgs.config_store import OrgConfig

STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in (StaticStrategy(), LeastLoadedStrategy())}
SHOWN = 20
"""Candidates listed one by one in a decision; larger pools are counted."""


class HeadAgentResolver:
    def __init__(self, config: OrgConfig) -> None:
        self.config = config
        self.chain = [config.agent_resolution_strategy, *config.agent_resolution_fallbacks]

    def resolve(self, facts: TaskFacts, pool: CandidatePool) -> Choice:
        """Choose and reserve room. Raises PoolFull when waiting may help, NoHeadAgent (with every strategy's reason) when not."""
        if pool.unknown:
            raise NoHeadAgent(pool.unknown)
        if not facts.only:
            return self._resolve(facts, pool)
        named = pool.narrowed(facts.only)
        if not len(named):
            raise NoHeadAgent(f"None of the assigned subjects is in the candidate pool: {', '.join(facts.only[:SHOWN])}", pool_size=0)
        choice = self._resolve(facts, named)
        narrowed = {"assigned_subject_ids": list(facts.only), "barred": dict(list(named.barred.items())[:SHOWN])}
        return replace(choice, details={**choice.details, **narrowed})

    def _resolve(self, facts: TaskFacts, pool: CandidatePool) -> Choice:
        refusals: list[str] = []
        full: PoolFull | None = None
        for name in self.chain:
            strategy = STRATEGIES.get(name)
            if strategy is None:
                refusals.append(f"{name}: this strategy is not available")
                continue
            try:
                choice = strategy.choose(facts, pool, self.config)
            except PoolFull as error:
                full = full or error
                refusals.append(f"{name}: {error.sentence}")
            except NoHeadAgent as error:
                refusals.append(f"{name}: {error.sentence}")
            else:
                pool.take(choice.candidate)
                return choice
        if full is not None:
            raise full
        raise NoHeadAgent("; ".join(refusals), pool_size=len(pool))

    def decision(self, choice: Choice, pool: CandidatePool) -> dict[str, Any]:
        """What explains the choice afterwards; goes with the assignment."""
        shown = sorted(pool.eligible, key=lambda c: (c.fullness, c.subject_id))[:SHOWN]
        return {
            "strategy": choice.strategy,
            "chain": self.chain,
            "config_version": self.config.version,
            "roles": pool.source,
            "pool_size": len(pool),
            "eligible": {c.subject_id: {"load": c.load, "room": c.room, "presence": c.presence.value} for c in shown},
            "barred": dict(list(pool.barred.items())[:SHOWN]),
            **choice.details,
        }
