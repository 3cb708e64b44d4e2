"""What a strategy is: from the facts of a batch of tasks and their pool to a choice for each, or a reason why there is none.

A strategy is a generator, so that the auctions of a whole batch, whatever its lanes and orgs, can be held at once: it
yields the questions it has for the outside (`market/questions.py`), is sent their answers, and returns its outcomes.
Strategies that ask nobody just return. None of them does I/O to agents itself, so the simulation drives the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from django.db import models

from apps.agents.candidates import Candidate, CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.market.questions import Answer, Question
from apps.agents.market.ranking import Standing
from apps.core.errors import Unassignable
from apps.orgs.config_store import OrgConfig


class NoHeadAgent(Unassignable):
    """Nobody can do it; waiting does not help unless the org's roles or agents change."""

    rows: tuple[models.Model, ...] = ()
    """What led to it: policy runs."""
    details: Mapping[str, Any] = {}
    """What explains it: every strategy's refusal, the pool."""
    final: bool = False
    """The script failed, and the org wants no other strategy to be asked then (`…_on_error: fail`)."""


class PoolFull(Unassignable):
    """Somebody could do it, but not now: all are busy or away. The task keeps its place in the queue."""

    code, sentence, retry_helps = "pool_full", "Every candidate is busy, away or not taking work", True
    rows: tuple[models.Model, ...] = ()
    """What led to it: policy runs."""


class NotYet(PoolFull):
    """This strategy will choose, but not in this batch: no other is asked instead."""

    code, sentence = "not_yet", "It is chosen in the next batch"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    candidate: Candidate
    strategy: str
    because: str
    """One sentence for people."""
    details: dict[str, Any] = field(default_factory=dict)
    """What explains the choice afterwards; goes with the assignment."""
    rows: tuple[models.Model, ...] = ()
    """To be written with the assignment: policy runs."""


Outcome = Choice | NoHeadAgent | PoolFull
Steps = Generator[list[Question], list[Answer], dict[str, Outcome]]
"""Outcome by task key. What is chosen is taken from the pool already."""


@dataclass(kw_only=True, slots=True)
class Setting:
    """What strategies go by, for one org and one batch."""

    config: OrgConfig
    now: datetime
    standings: Callable[[Sequence[str]], Mapping[str, Standing]]
    """Of these agents, from evidence."""
    records: list[models.Model] = field(default_factory=list)
    """Rows of auctions held, whatever came of them; written before the choices are."""


class Strategy(Protocol):
    name: str

    def choose_many(self, asked: Sequence[TaskFacts], pool: CandidatePool, setting: Setting) -> Steps:
        """An outcome for each, the first asked choosing first."""
        ...


NAMED = 5
"""Agents named in a sentence."""


def acceptable(facts: TaskFacts, pool: CandidatePool, more: Callable[[Candidate], bool] | None = None) -> Callable[[Candidate], bool]:
    """Who may get it, of the eligible: without those that anything hinders, and without those that failed it when anybody
    else is left. `more`: a further condition."""

    def willing(candidate: Candidate) -> bool:
        return not candidate.hindered(facts) and (more is None or more(candidate))

    def fresh(candidate: Candidate) -> bool:
        return candidate.subject_id not in facts.excluded and willing(candidate)

    return fresh if facts.excluded and any(fresh(candidate) for candidate in pool.eligible) else willing


def open_to(facts: TaskFacts, pool: CandidatePool, more: Callable[[Candidate], bool] | None = None) -> list[Candidate]:
    """The eligible candidates with room that may get it."""
    accepts = acceptable(facts, pool, more)
    plain = not (facts.only or facts.excluded or facts.capabilities or more)
    # Most tasks want nothing special, and most agents have no card: a pool of a thousand is looked through for each task.
    return [c for c in pool.eligible if c.load + 1 <= c.room and ((plain and c.card is None) or accepts(c))]


def nobody(facts: TaskFacts, pool: CandidatePool, *, strategy: str) -> PoolFull | NoHeadAgent:
    """Why nobody has room for it: PoolFull when somebody may have later, else NoHeadAgent."""
    if not pool:
        return NoHeadAgent("No candidate holds the required role in this job space", strategy=strategy)
    why = {name: reason for name, candidate in pool.members.items() if (reason := candidate.hindered(facts))}
    if len(why) < len(pool.members):
        return PoolFull("Every candidate that can do it is busy, away or not taking work" if why else "", strategy=strategy)
    reasons = set(why.values())
    if facts.only and not set(facts.only) & pool.members.keys():
        named = ", ".join(facts.only[:NAMED])
        return NoHeadAgent(f"None of the assigned subjects is in the candidate pool: {named}", strategy=strategy)
    if reasons == {"declined the task"}:
        return NoHeadAgent("Every candidate declined the task", strategy=strategy)
    if reasons == {"is revoked"}:
        return NoHeadAgent("Every candidate is revoked", strategy=strategy)
    unfit = {name: reason for name, reason in why.items() if reason not in ("declined the task", "is not among the assigned subjects")}
    shown = ", ".join(f"{name} {reason}" for name, reason in list((unfit or why).items())[:NAMED])
    more = f" and {len(unfit) - NAMED} more" if len(unfit) > NAMED else ""
    others = "; the others declined it" if unfit and "declined the task" in reasons else ""
    return NoHeadAgent(f"No candidate can do the task: {shown}{more}{others}", strategy=strategy)
