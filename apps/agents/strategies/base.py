"""What a strategy is: from a task's facts and a pool to a choice, or a reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from apps.agents.candidates import Candidate, CandidatePool
from apps.agents.facts import TaskFacts
from apps.core.errors import Unassignable
from apps.orgs.config_store import OrgConfig

SHOWN = 5
"""Agents named in a sentence."""


class NoHeadAgent(Unassignable):
    """Nobody can do it; waiting does not help unless the org's roles or agents change."""


class PoolFull(Unassignable):
    """Somebody could do it, but not now: all are busy or away. The task keeps its place in the queue."""

    code, sentence, retry_helps = "pool_full", "Every candidate is busy, away or not taking work", True


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    candidate: Candidate
    strategy: str
    because: str
    """One sentence for people."""
    details: dict[str, Any] = field(default_factory=dict)


class Strategy(Protocol):
    name: str

    def choose(self, facts: TaskFacts, pool: CandidatePool, config: OrgConfig) -> Choice:
        """The head agent. Raises NoHeadAgent or PoolFull."""
        ...


def allowed(facts: TaskFacts, candidates: list[Candidate]) -> list[Candidate]:
    """Without those that declined the task or can never do it; without those that failed it too, when anybody else is left."""
    able = [c for c in candidates if not c.unfit(facts)]
    if not facts.excluded:
        return able
    willing = [c for c in able if facts.excluded.get(c.subject_id) != "declined"]
    fresh = [c for c in willing if c.subject_id not in facts.excluded]
    return fresh or willing


def nobody(facts: TaskFacts, pool: CandidatePool) -> str:
    """Why nobody in the pool will ever do this task, as a sentence; "" when somebody may."""
    if not pool:
        return "No candidate holds the required role in this job space"
    if allowed(facts, pool.lasting):
        return ""
    if not pool.lasting:
        return "Every candidate is revoked"
    unfit = pool.unfit(facts)
    if not unfit:
        return "Every candidate declined the task"
    shown = [f"{name} {why}" for name, why in list(unfit.items())[:SHOWN]]
    more = f" and {len(unfit) - SHOWN} more" if len(unfit) > SHOWN else ""
    others = "; the others declined it" if len(unfit) < len(pool.lasting) else ""
    return f"No candidate can do the task: {', '.join(shown)}{more}{others}"
