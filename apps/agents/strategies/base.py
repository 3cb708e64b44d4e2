"""What a strategy is: from a task's facts and a pool to a choice, or a reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from apps.agents.candidates import Candidate, CandidatePool
from apps.agents.facts import TaskFacts
from apps.core.errors import Unassignable
from apps.orgs.config_store import OrgConfig


class NoHeadAgent(Unassignable):
    """Nobody can do it; waiting does not help unless the org's roles or agents change."""


class PoolFull(Unassignable):
    """Somebody could do it, but not now: all are busy or away. The task keeps its place in the queue."""

    code, sentence, retry_helps = "pool_full", "Every candidate is busy or away", True


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
    """Without those that declined the task; without those that failed it too, when anybody else is left."""
    if not facts.excluded:
        return candidates
    willing = [c for c in candidates if facts.excluded.get(c.subject_id) != "declined"]
    fresh = [c for c in willing if c.subject_id not in facts.excluded]
    return fresh or willing
