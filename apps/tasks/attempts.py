"""Ended attempts, as evidence on the agents that had them.

`note` hears of moves as they happen: a hint, which may be lost. `catch_up` reads the transitions themselves, each once, ten
seconds after it was written, and takes down what `note` missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from apps.agents import evidence
from apps.agents.evidence import Ended
from apps.agents.models import Evidence, EvidenceMark
from apps.core import bulk, clock, ids
from apps.tasks.events import TasksMoved
from apps.tasks.models import Assignment, Report, Task, Transition
from apps.tasks.states import IN_FLIGHT, Cause, TaskStatus

Outcome = Evidence.Outcome
S = TaskStatus

SETTLED = timedelta(seconds=10)
"""Transitions younger than this may still be on their way into the database."""
HISTORY = timedelta(hours=1)
"""How far back the first pass looks."""
BATCH = 2000
CHUNK = 500
MARK = "transitions"

OUTCOMES: dict[str, Outcome | None] = {
    Cause.DECLINED: Outcome.DECLINED,
    Cause.FAILED: Outcome.FAILED,
    Cause.SILENT: Outcome.LOST,
    Cause.UNFETCHED: None,
}
CRASHED = "crashed"
"""In `excluded_agents`: the agent was lost while it had this task, and the task is under suspicion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """A move that may have ended an attempt."""

    key: str
    org_id: str
    old: str
    new: str
    reason: str
    actor: str
    attempt: int
    at: datetime
    cause: str = ""
    """`states.Cause`; empty where the statuses tell."""


def outcome_of(move: End, agent: str) -> Outcome | None:
    """How the attempt of `agent` ended with this move; None when it did not, or for no reason of the agent's (cancelled,
    expired, taken back by an operator, never published)."""
    verified = move.old == S.AWAITING_VERIFICATION
    if move.actor.startswith("person:") and not verified:
        return None  # a person's work is nobody's evidence
    if move.old not in IN_FLIGHT and not verified:
        return None
    if move.new == S.COMPLETED:
        return Outcome.COMPLETED
    if move.new not in (S.QUEUED, S.FAILED):
        return None
    if verified:
        return Outcome.REJECTED
    return OUTCOMES.get(move.cause) if move.cause else _by_words(move, agent)


def _by_words(move: End, agent: str) -> Outcome | None:
    """Of moves written before causes were kept: their reason tells."""
    if move.actor == "sweeper" and "was not heard of for" in move.reason:
        return None if move.reason.endswith("and had not fetched it") else Outcome.LOST
    if move.actor == f"agent:{agent}":
        declined = move.reason.startswith((f"{agent} declined: ", "declined on the last of"))
        return Outcome.DECLINED if declined else Outcome.FAILED
    return None


def note(event: TasksMoved) -> None:
    moves = [
        End(key=m.key, org_id=m.org_id, old=m.old, new=m.new, reason=m.reason, actor=m.actor, attempt=m.attempt, at=m.at, cause=m.cause)
        for m in event.moves
    ]
    _take_down(moves, now=max(move.at for move in moves))


def catch_up(*, now: datetime) -> int:
    """Take down what nobody told of; how many that were. Any number of copies may run: a row is written once."""
    edge = _first_id(now - SETTLED)
    mark = EvidenceMark.objects.filter(pk=MARK).first()
    since = mark.upto if mark else _first_id(now - HISTORY)
    missed = 0
    while True:
        rows = list(Transition.objects.filter(pk__gt=since, pk__lt=edge).order_by("pk")[:BATCH])
        if rows:
            missed += _missed(rows, now)
            since = rows[-1].pk
        if len(rows) < BATCH:
            break
    since = max(since, edge)
    if mark is None:
        bulk.insert_missing([EvidenceMark(id=MARK, upto=since)])
    elif since > mark.upto:
        EvidenceMark.objects.filter(pk=MARK, upto=mark.upto).update(upto=since)
    return missed


def _missed(rows: Sequence[Transition], now: datetime) -> int:
    ends = [
        End(
            key=r.task_key, org_id=r.org_id, old=r.old, new=r.new, reason=r.reason, actor=r.actor, attempt=r.attempt, at=r.at,
            cause=r.cause or "",
        )  # fmt: skip
        for r in rows
        if _ends(r.old, r.new)
    ]
    names = [ids.assignment_id(end.key, end.attempt) for end in ends]
    known: set[str] = set()
    for start in range(0, len(names), CHUNK):
        known.update(Evidence.objects.filter(pk__in=names[start : start + CHUNK]).values_list("pk", flat=True))
    return _take_down([end for end, name in zip(ends, names, strict=True) if name not in known], now=now)


def _ends(old: str, new: str) -> bool:
    return (old in IN_FLIGHT or old == S.AWAITING_VERIFICATION) and new in (S.COMPLETED, S.FAILED, S.QUEUED)


def _take_down(moves: Iterable[End], *, now: datetime) -> int:
    by_name = {ids.assignment_id(move.key, move.attempt): move for move in moves if _ends(move.old, move.new)}
    if not by_name:
        return 0
    names = list(by_name)
    found = Assignment.objects.filter(pk__in=names).values_list("pk", "head_agent_subject_id", "at", "strategy")
    chosen = {name: (agent, at, strategy) for name, agent, at, strategy in found}
    outcomes = {name: outcome for name, (agent, _, _) in chosen.items() if (outcome := outcome_of(by_name[name], agent))}
    promises = _promises([name for name in outcomes if chosen[name][2] == "auction"])
    prices = _prices(promises)
    suspects = _suspects({by_name[name].key for name, outcome in outcomes.items() if outcome == Outcome.LOST})
    ended = [
        Ended(
            assignment_id=name,
            org_id=by_name[name].org_id,
            agent=chosen[name][0],
            task_key=by_name[name].key,
            attempt=by_name[name].attempt,
            outcome=outcome.value,
            assigned_at=chosen[name][1],
            ended_at=by_name[name].at,
            excused=outcome == Outcome.LOST and by_name[name].key in suspects,
            promise=promises.get(name),
            price=prices.get(name),
        )
        for name, outcome in outcomes.items()
    ]
    evidence.take_down(ended, now=now)
    if suspects:
        evidence.excuse(list(suspects), now=now)
    return len(ended)


def _promises(names: list[str]) -> dict[str, dict]:
    """What was promised with these assignments. Decisions are large, and only auctions have promises."""
    found = Assignment.objects.filter(pk__in=names).values_list("pk", "decision") if names else ()
    return {name: decision["promise"] for name, decision in found if isinstance(decision.get("promise"), dict)}


def _prices(promises: dict[str, dict]) -> dict[str, float]:
    """What agents charged for what they had promised a price for."""
    keys = {name.rpartition("#")[0] for name, promise in promises.items() if promise.get("price") is not None}
    if not keys:
        return {}
    rows = Report.objects.filter(task_key__in=keys, kind="completed", outcome="applied")
    return {ids.assignment_id(row.task_key, row.attempt): row.body["price"] for row in rows if "price" in row.body}


def _suspects(keys: set[str]) -> set[str]:
    """Tasks that crashed more than one agent."""
    if not keys:
        return set()
    rows = Task.objects.filter(pk__in=keys).values_list("pk", "excluded_agents")
    return {key for key, excluded in rows if sum(why == CRASHED for why in excluded.values()) > 1}


def _first_id(at: datetime) -> str:
    """No id made at or after `at` is smaller (the layout of `ids.time_ordered`)."""
    return f"{clock.to_ms(at):012x}"
