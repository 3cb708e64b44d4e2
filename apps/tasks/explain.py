"""Why a task is where it is: every decision in the order it was made, and what it waits for now.

A fixed number of reads, however long the history: the rows of each kind, newest `SHOWN` of each, and while the task
waits the org's configuration, its place in the queue and its candidate pool. Nothing is worked out again that was
decided before: each step shows the record that was written when it happened.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import Model, QuerySet

from apps.agents.market.records import Auction, Bid
from apps.core import clock
from apps.dsl.models import PolicyRun
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks import explain_waiting, explain_words
from apps.tasks.models import Assignment, Decision, Report, Task, Transition
from apps.tasks.states import TERMINAL, TaskStatus

SHOWN = 200
BIDS_SHOWN = 1000

DONE = (TaskStatus.COMPLETED, TaskStatus.AWAITING_VERIFICATION)
"""An attempt that gave a result."""

# Of what happened in one millisecond the cause stands before what it led to.
ORDER = {"policy": 0, "auction": 1, "decision": 2, "assignment": 3, "transition": 4}


def explain(task: Task, *, now: datetime) -> dict[str, Any]:
    """Plain JSON. `summary` and every step's `summary` are one sentence each, for people."""
    cut: list[str] = []
    bids, charged = _bids(task.key, cut), _charged(task.key)
    transitions = _newest(Transition.objects.filter(task_key=task.key), "transition", cut)
    done = {row.attempt: row.at for row in transitions if row.new in DONE}
    steps = [
        *map(_policy, _newest(PolicyRun.objects.filter(task_key=task.key), "policy", cut)),
        *(auction(row, bids.get(row.id, [])) for row in _newest(Auction.objects.filter(task_key=task.key), "auction", cut)),
        *map(_decision, _newest(Decision.objects.filter(task_key=task.key), "decision", cut, by=("-at", "-id"))),
        *(
            _assignment(row, charged.get(row.attempt), done.get(row.attempt))
            for row in _newest(Assignment.objects.filter(task_key=task.key), "assignment", cut, by=("-attempt",))
        ),
        *map(_transition, transitions),
    ]
    steps.sort(key=lambda step: (step["at"], ORDER[step["kind"]], step["id"]))
    config = OrgConfigProvider().of(task.org_id)
    waiting = None if TaskStatus(task.status) in TERMINAL else explain_waiting.waiting(task, config, now=now)
    return {
        "task_id": task.task_id,
        "kind": task.kind,
        "goal": task.goal,
        "status": task.status,
        "terminal": TaskStatus(task.status) in TERMINAL,
        "reason": task.reason,
        "summary": explain_words.whole(task, waiting, now=now),
        "priority": {"submitted": task.submitter_priority, "effective": task.priority},
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "agent": task.head_agent_subject_id or None,
        "excluded_agents": task.excluded_agents,
        "config_version": {
            "now": config.version,
            "decided_with": sorted({step["config_version"] for step in steps if step.get("config_version") is not None}),
        },
        "steps": [{"step": number, **step} for number, step in enumerate(steps, 1)],
        "cut": sorted(cut),
        "waiting": waiting,
        "explained_at": clock.iso(now),
    }


def _newest(rows: QuerySet[Any], kind: str, cut: list[str], by: tuple[str, ...] = ("-id",)) -> list[Any]:
    """`cut` hears of a kind of which there is more than is shown."""
    found = list(rows.order_by(*by)[: SHOWN + 1])
    if len(found) > SHOWN:
        cut.append(f"only the last {SHOWN} of kind {kind} are shown")
    return found[:SHOWN]


def _bids(task_key: str, cut: list[str]) -> dict[str, list[Bid]]:
    rows = list(Bid.objects.filter(task_key=task_key).order_by("-id")[: BIDS_SHOWN + 1])
    if len(rows) > BIDS_SHOWN:
        cut.append(f"only the last {BIDS_SHOWN} bids are shown")
    found: dict[str, list[Bid]] = {}
    for row in rows[:BIDS_SHOWN]:
        found.setdefault(row.auction_id, []).append(row)
    return found


def _charged(task_key: str) -> dict[int, float]:
    """attempt -> what its agent charged, where it said so."""
    rows = Report.objects.filter(task_key=task_key, kind="completed", outcome="applied")[:SHOWN]
    return {row.attempt: row.body["price"] for row in rows if "price" in row.body}


# ---- steps ------------------------------------------------------------------------------------------------


def _step(kind: str, row: Model, summary: str, **facts: Any) -> dict[str, Any]:
    return {"kind": kind, "at": clock.iso(row.at), "id": row.pk, "summary": summary, **facts}


def _policy(run: PolicyRun) -> dict[str, Any]:
    return _step(
        "policy", run, explain_words.policy(run), hook=run.hook,
        script_id=run.script_id, script_version=run.script_version, script_sha256=run.script_sha256,
        input=run.input, output=run.output, error=run.error, instead=run.instead, duration_us=run.duration_us, place=run.place,
        config_version=run.config_version,
    )  # fmt: skip


def auction(auction: Auction, bids: Iterable[Bid]) -> dict[str, Any]:
    """With its bids, the ranking first."""
    ordered = sorted(bids, key=lambda bid: (bid.place is None, bid.place or 0, bid.id))
    return _step(
        "auction", auction, explain_words.auction(auction), attempt=auction.attempt, outcome=auction.outcome, because=auction.because,
        source=auction.source, rule=auction.rule, terms=auction.terms, called=auction.called, winner=auction.winner or None,
        price=auction.price, pays=auction.pays, took_ms=auction.took_ms, details=auction.details,
        bids=list(map(_bid, ordered)), config_version=auction.config_version,
    )  # fmt: skip


def _bid(bid: Bid) -> dict[str, Any]:
    found = {
        "agent": bid.agent, "outcome": bid.outcome, "why": bid.why, "place": bid.place, "price": bid.price, "eta_s": bid.eta_s,
        "confidence": bid.confidence, "load": bid.load, "score": bid.score, "parts": bid.parts, "after_ms": bid.after_ms,
    }  # fmt: skip
    return found | {"said": bid.said} if bid.said else found


def _decision(decision: Decision) -> dict[str, Any]:
    return _step(
        "decision", decision, explain_words.decision(decision), about=decision.kind, outcome=decision.outcome, actor=decision.actor,
        because=decision.because, details=decision.details, config_version=decision.config_version,
    )  # fmt: skip


def _assignment(assignment: Assignment, charged: float | None, done: datetime | None) -> dict[str, Any]:
    """What was promised beside what came of it, where it gave a result; `ratio` is the second by the first. `decision` holds the
    pool as it was seen: who was eligible, who was barred and why, bids, tie-break, promise."""
    made = assignment.decision
    promise = made.get("promise") or {}
    took = (done - assignment.at).total_seconds() if done else None
    return _step(
        "assignment", assignment, explain_words.assignment(assignment, charged, took),
        price={"promised": promise.get("price"), "charged": charged, "ratio": _ratio(charged, promise.get("price"))},
        time_s={"promised": promise.get("eta_s"), "took": took, "ratio": _ratio(took, promise.get("eta_s"))},
        attempt=assignment.attempt, winner=assignment.head_agent_subject_id,
        strategy=assignment.strategy, because=assignment.because, decision=made, config_version=made.get("config_version"),
    )  # fmt: skip


def _ratio(fact: float | None, promised: float | None) -> float | None:
    return round(fact / promised, 4) if promised and fact is not None else None


def _transition(transition: Transition) -> dict[str, Any]:
    return _step(
        "transition", transition, explain_words.transition(transition), old=transition.old, status=transition.new,
        reason=transition.reason, actor=transition.actor, attempt=transition.attempt,
    )  # fmt: skip
