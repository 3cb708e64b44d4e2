"""Why nobody has room for a waiting task right now: by the very conditions strategies choose by, not by the pool as a whole."""

from __future__ import annotations

from collections.abc import Iterable

from apps.agents.candidates import Candidate, CandidatePool
from apps.agents.resolver import HeadAgentResolver
from apps.agents.strategies.base import NAMED, nobody, open_to
from apps.agents.strategies.static import StaticStrategy
from apps.orgs.config_store import OrgConfig
from apps.tasks.batch import facts_of
from apps.tasks.models import Task


def crowded(task: Task, pool: CandidatePool, config: OrgConfig) -> str:
    """One sentence; "" when somebody that may have it has room."""
    if pool.unknown:
        return pool.unknown
    if not len(pool):
        return "no candidate holds the required role in this job space"
    facts, static = facts_of(task), config.static_head_agent_subject_id
    if static in pool.members and HeadAgentResolver(config).chain(facts) == [StaticStrategy.name]:
        pool = pool.narrowed([static])  # nobody else is ever asked
        whose = f"{static}, the org's configured head agent"
    else:
        whose = ""
    if open_to(facts, pool):
        return ""
    able = [candidate for candidate in pool.members.values() if not candidate.hindered(facts)]
    if not able:
        return nobody(facts, pool, strategy="").sentence
    out = pool.kept_out(facts)
    busy = [candidate for candidate in pool.eligible if candidate.subject_id not in out]
    if busy:
        if whose:
            return f"no room: {whose}, is busy ({_load(busy[0])})"
        if not out:
            return f"no room: all {len(busy)} candidates are busy" if len(busy) > 1 else f"no room: {_loads(busy)} is busy"
        others = "; ".join(f"{name} {why}" for name, why in list(out.items())[:NAMED])
        return f"no room: {_loads(busy)} {'is' if len(busy) == 1 else 'are'} busy, and the others are no help: {others}{_more(len(out))}"
    barred = [(candidate.subject_id, pool.barred[candidate.subject_id]) for candidate in able if candidate.subject_id in pool.barred]
    who = "no candidate takes work now" if len(able) == len(pool) else "no candidate that can do it takes work now"
    return f"{who}: {', '.join(f'{name} ({why})' for name, why in barred[:NAMED])}{_more(len(barred))}"


def _load(candidate: Candidate) -> str:
    return f"{candidate.load} of {candidate.room:g} open"


def _loads(candidates: Iterable[Candidate]) -> str:
    found = [f"{candidate.subject_id} ({_load(candidate)})" for candidate in candidates]
    return ", ".join(found[:NAMED]) + _more(len(found))


def _more(count: int) -> str:
    return f" and {count - NAMED} more" if count > NAMED else ""
