"""The head agent of each task of a batch: the task's own strategy or the org's, then the org's fallbacks in order.

Decides purely: facts, pools and config in; for each task a choice, or an error that says why there is none, out. What a
strategy has to ask of agents is asked for the whole batch at once (`market/floor.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import models

from apps.agents.candidates import NOT_A_CANDIDATE, SHOWN, Candidate, CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.market.floor import Asking, Floor, carried_out, floor, together
from apps.agents.market.standings import standings
from apps.agents.strategies.auction import AuctionStrategy
from apps.agents.strategies.base import Choice, NoHeadAgent, NotYet, Outcome, PoolFull, Setting, Strategy
from apps.agents.strategies.least_loaded import LeastLoadedStrategy
from apps.agents.strategies.plan_retrieve import PlanRetrieveStrategy
from apps.agents.strategies.round_robin import RoundRobinStrategy
from apps.agents.strategies.static import StaticStrategy
from apps.orgs.config_store import OrgConfig

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (AuctionStrategy(), PlanRetrieveStrategy(), StaticStrategy(), LeastLoadedStrategy(), RoundRobinStrategy())
}

Lane = tuple[Sequence[TaskFacts], CandidatePool]
"""Tasks in the order of the queue, and who may do them."""


@dataclass(kw_only=True, slots=True)
class _Search:
    """How far the search for one task has come."""

    facts: TaskFacts
    chain: list[str]
    tried: int = 0
    refusals: list[dict[str, str]] = field(default_factory=list)
    full: PoolFull | None = None
    rows: tuple[models.Model, ...] = ()

    @property
    def next(self) -> str | None:
        return self.chain[self.tried] if self.tried < len(self.chain) else None


class HeadAgentResolver:
    def __init__(self, config: OrgConfig, *, floor: Floor | None = None, strategies: Mapping[str, Strategy] | None = None) -> None:
        self.config = config
        self._floor = floor
        self._strategies = strategies or STRATEGIES

    def resolve_many(self, facts: Sequence[TaskFacts], pool: CandidatePool, *, now: datetime) -> list[Outcome]:
        """Choose and reserve room, in order: a Choice, PoolFull when waiting may help, or NoHeadAgent (with every strategy's
        reason) when not. Blocks for an auction's window at most. Rows of auctions held are not written: see `resolve`."""
        found, _ = carried_out(self.resolve([(facts, pool)], now=now, records=[]), self._floor or floor())
        return [found[each.key] for each in facts]

    def resolve(self, lanes: Sequence[Lane], *, now: datetime, records: list[models.Model]) -> Asking[dict[str, Outcome]]:
        """The same as steps, for several lanes at once: outcomes by task key. `records` gets the rows of auctions held."""
        org_id = next((facts.org_id for asked, _ in lanes for facts in asked), "")
        setting = Setting(config=self.config, now=now, standings=standings(org_id, now=now), records=records)
        found = yield from together([self._lane(asked, pool, setting) for asked, pool in lanes])
        return {key: outcome for outcomes in found for key, outcome in outcomes.items()}

    def _lane(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting) -> Asking[dict[str, Outcome]]:
        searches = {facts.key: _Search(facts=facts, chain=self.chain(facts)) for facts in asked}
        outcomes: dict[str, Outcome] = {}
        if pool.unknown:  # nobody can say who the candidates are
            return {key: self._given_up(search, pool) for key, search in searches.items()}
        while open_ := [search for key, search in searches.items() if key not in outcomes]:
            by_strategy: dict[str, list[_Search]] = {}
            for search in open_:
                if search.next is None:
                    outcomes[search.facts.key] = self._given_up(search, pool)
                else:
                    by_strategy.setdefault(search.next, []).append(search)
            steps = [self._strategies[name].choose_many([s.facts for s in group], pool, setting) for name, group in by_strategy.items()]
            found = yield from together(steps)
            for group, answers in zip(by_strategy.values(), found, strict=True):
                for search in group:
                    outcome = self._judged(search, answers[search.facts.key], pool)
                    if outcome is not None:
                        outcomes[search.facts.key] = outcome
        return outcomes

    def chain(self, facts: TaskFacts) -> list[str]:
        """The strategies to try, each once."""
        return list(dict.fromkeys([facts.strategy or self.config.agent_resolution_strategy, *self.config.agent_resolution_fallbacks]))

    def _judged(self, search: _Search, outcome: Outcome, pool: CandidatePool) -> Outcome | None:
        """What the strategy's outcome means for the task; None: the next strategy is asked."""
        if isinstance(outcome, Choice):
            winner = outcome.candidate
            details = self._details(search, pool, winner)
            # As it was when it was chosen, and there even when many are less loaded.
            details["eligible"][winner.subject_id] = {**winner.shown(), "load": winner.load - 1}
            return replace(outcome, details=details | outcome.details, rows=(*search.rows, *outcome.rows))
        if isinstance(outcome, NotYet):
            return outcome
        search.refusals.append({"strategy": search.chain[search.tried], "why": outcome.sentence})
        search.tried += 1
        search.rows += outcome.rows
        if isinstance(outcome, PoolFull):
            search.full = search.full or outcome
        elif outcome.final:
            search.tried = len(search.chain)
        return None

    def _given_up(self, search: _Search, pool: CandidatePool) -> Outcome:
        if search.full is not None:
            search.full.rows = search.rows
            return search.full
        said = pool.unknown or "; ".join(f"{refusal['strategy']}: {refusal['why']}" for refusal in search.refusals)
        error = NoHeadAgent(said, pool_size=len(pool))
        error.rows, error.details = search.rows, self._details(search, pool)
        return error

    def _details(self, search: _Search, pool: CandidatePool, winner: Candidate | None = None) -> dict[str, Any]:
        """What explains the outcome afterwards."""
        seen = pool.shown(search.facts, winner)
        details: dict[str, Any] = {
            "strategy": search.next,
            "chain": search.chain,
            "config_version": self.config.version,
            "roles": pool.source,
            "pool_size": seen.pop("size"),
            **seen,
        }
        if search.facts.strategy:
            details["strategy_from"] = "task"
        if search.refusals:
            details["refusals"] = search.refusals
        if search.facts.excluded:
            details["excluded"] = dict(search.facts.excluded)
        if search.facts.capabilities:
            details["capabilities"] = list(search.facts.capabilities)
        if search.facts.only:
            details["assigned_subject_ids"] = list(search.facts.only)
            strangers = {name: NOT_A_CANDIDATE for name in search.facts.only[:SHOWN] if name not in pool.members}
            details["barred"] = strangers | details["barred"]
        return details
