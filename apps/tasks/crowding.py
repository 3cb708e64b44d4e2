"""Why nobody has room for a waiting task right now: by the very conditions strategies choose by, not by the pool as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from apps.agents.candidates import Candidate, CandidatePool
from apps.agents.reputation import figures
from apps.agents.resolver import HeadAgentResolver
from apps.agents.strategies.base import NAMED, nobody, open_to
from apps.agents.strategies.static import StaticStrategy
from apps.orgs.config_store import OrgConfig
from apps.tasks.batch import facts_of
from apps.tasks.models import Task
from apps.tasks.states import IN_FLIGHT

LOOKED_AT = 200
"""Agents, and what they have in hand, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crowd:
    why: str
    """One sentence."""
    busy: tuple[Candidate, ...] = ()
    """Whose room it waits for; empty: room alone would not help."""

    def seconds(self, before: int, *, org_id: str, now: datetime) -> float | None:
        """Until there is room for one with so many `before` it, if those who are busy go on as they did: what an agent holds,
        divided by how long it has a task (Little's law): half of its latest, or, where it has had those of now for longer, these.
        None: nothing is known of any."""
        names = [candidate.subject_id for candidate in self.busy]
        took = {name: found.latency_p50_s for name, found in figures(org_id, names, now=now).items()}
        in_flight = [status.value for status in IN_FLIGHT]
        rows = Task.objects.filter(org_id=org_id, head_agent_subject_id__in=names[:LOOKED_AT], status__in=in_flight)
        for name, since in rows.values_list("head_agent_subject_id", "assigned_at")[:LOOKED_AT]:
            if took[name] is not None and since is not None:
                took[name] = max(took[name], (now - since).total_seconds())
        per_second = sum(candidate.load / seconds for candidate in self.busy if (seconds := took[candidate.subject_id]))
        return (before + 1) / per_second if per_second else None


def crowded(task: Task, pool: CandidatePool, config: OrgConfig) -> Crowd | None:
    """None when somebody that may have it has room."""
    if pool.unknown:
        return Crowd(why=pool.unknown)
    if not len(pool):
        return Crowd(why="no candidate holds the required role in this job space")
    facts, static = facts_of(task), config.static_head_agent_subject_id
    if static in pool.members and HeadAgentResolver(config).chain(facts) == [StaticStrategy.name]:
        pool = pool.narrowed([static])  # nobody else is ever asked
        whose = f"{static}, the org's configured head agent"
    else:
        whose = ""
    if open_to(facts, pool):
        return None
    able = [candidate for candidate in pool.members.values() if not candidate.hindered(facts)]
    if not able:
        return Crowd(why=nobody(facts, pool, strategy="").sentence)
    out = pool.kept_out(facts)
    busy = [candidate for candidate in pool.eligible if candidate.subject_id not in out]
    if busy:
        return Crowd(why=f"no room: {_busy(busy, out, whose)}", busy=tuple(busy))
    barred = [(candidate.subject_id, pool.barred[candidate.subject_id]) for candidate in able if candidate.subject_id in pool.barred]
    if whose and barred:
        return Crowd(why=f"{whose}, takes no work now: {barred[0][1]}")
    who = "no candidate takes work now" if len(able) == len(pool) else "no candidate that can do it takes work now"
    return Crowd(why=f"{who}: {', '.join(f'{name} ({why})' for name, why in barred[:NAMED])}{_more(len(barred))}")


def _busy(busy: Sequence[Candidate], out: Mapping[str, str], whose: str) -> str:
    if whose:
        return f"{whose}, is busy ({_load(busy[0])})"
    if not out:
        return f"all {len(busy)} candidates are busy" if len(busy) > 1 else f"{_loads(busy)} is busy"
    others = "; ".join(f"{name} {why}" for name, why in list(out.items())[:NAMED])
    return f"{_loads(busy)} {'is' if len(busy) == 1 else 'are'} busy, and the others are no help: {others}{_more(len(out))}"


def _load(candidate: Candidate) -> str:
    return f"{candidate.load} of {candidate.room:g} open"


def _loads(candidates: Iterable[Candidate]) -> str:
    found = [f"{candidate.subject_id} ({_load(candidate)})" for candidate in candidates]
    return ", ".join(found[:NAMED]) + _more(len(found))


def _more(count: int) -> str:
    return f" and {count - NAMED} more" if count > NAMED else ""
