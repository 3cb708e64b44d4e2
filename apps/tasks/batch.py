"""One org's part of a dispatch batch: what it comes to, and the steps from what was chosen to what is written and sent.

Nothing here asks anybody anything; `executor.py` reads, writes and publishes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import models

from apps.agents.agent_queue import Dispatch
from apps.agents.candidates import CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.holds import Hold
from apps.agents.market.records import Auction
from apps.agents.strategies.base import Choice, NoHeadAgent, Outcome
from apps.core import clock, ids, observe, tracing
from apps.dsl.models import PolicyRun
from apps.orgs.config_store import OrgConfig
from apps.tasks import people
from apps.tasks.entries import needs
from apps.tasks.models import Assignment, Decision, Task
from apps.tasks.queue import Claim, Share, place_of
from apps.tasks.states import TaskStatus
from apps.tasks.store import Move

ACTOR = "executor"
BATCH = 100
"""Tasks claimed at once: enough to make round trips cheap, few enough to stay far below the claim's life."""
CONTENDED_BATCH = 50
"""While several orgs have work, batches are short: a task that comes waits for the batch under way."""
SLACK = 8


@dataclass(kw_only=True, slots=True)
class Batch:
    """What one org's part of a batch came to."""

    config: OrgConfig
    claims: dict[str, Claim]
    tasks: dict[str, Task] = field(default_factory=dict)
    records: list[models.Model] = field(default_factory=list)
    """Rows of the auctions held."""
    waiting: list[models.Model] = field(default_factory=list)
    """Why tasks that wait for an agent have none yet, said once an attempt, and the policy runs that led to it."""
    by_hand: list[Task] = field(default_factory=list)
    """Those whose head agent a person chooses (mode manual)."""
    settled: list[Claim] = field(default_factory=list)
    deferred: list[Claim] = field(default_factory=list)
    released: list[Claim] = field(default_factory=list)
    dispatches: list[tuple[Task, Dispatch]] = field(default_factory=list)


def hold_of(task: Task) -> Hold:
    return Hold(
        assignment_id=ids.assignment_id(task.key, task.attempt),
        org_id=task.org_id,
        agent=task.head_agent_subject_id,
        place=place_of(task.key, task.sequence, task.concurrency_key),
    )


def dispatch_of(task: Task, expires: datetime) -> Dispatch:
    return Dispatch(
        org_id=task.org_id,
        task_id=task.task_id,
        agent=task.head_agent_subject_id,
        attempt=task.attempt,
        entry=task.entry,
        lease_expires_at=expires,
        reviews=task.people.get("reviews", ()),
        to_person=task.held_by_person,
        trace=_traced(task),
    )


def _traced(task: Task) -> str:
    """Its way so far, told; the agent goes on below. Costs a comparison when there is no trace."""
    if not task.trace:
        return ""
    taken = task.assigned_at or task.created_at
    tracing.tell("task.queued", task.trace, start=task.queued_at or task.created_at, end=taken, attributes=tracing.of_task(task))
    more = {"jobplatform.agent": task.head_agent_subject_id, "messaging.system": "celery"}
    return tracing.tell(
        "task.dispatch", task.trace, start=taken, end=clock.now(), attributes=tracing.of_task(task, **more), consumer=True
    )


def tell_choice(batch: Batch, outcomes: Mapping[str, Outcome]) -> None:
    """What was asked to find the agents, told in the trace of each task: its script, its auction."""
    if not tracing.on():
        return
    for row in (*(row for outcome in outcomes.values() for row in outcome.rows), *batch.records):
        if isinstance(row, PolicyRun):
            name, took_ms, facts = f"policy {row.hook}", row.duration_us / 1000, {"jobplatform.hook": str(row.hook)}
        elif isinstance(row, Auction):
            name, took_ms, facts = "auction", row.took_ms, {"jobplatform.called": row.called, "jobplatform.bids": row.bids}
        else:
            continue
        task, end = batch.tasks[row.task_key], row.at + timedelta(milliseconds=took_ms)
        tracing.tell(name, task.trace, start=row.at, end=end, attributes=tracing.of_task(task, **facts))


def share_of(config: OrgConfig, org_id: str, pools: Mapping[str, CandidatePool]) -> Share:
    return Share(
        org_id=org_id,
        room={lane: room for lane, pool in pools.items() if (room := _room(pool))},
        weight=config.fair_share_weight,
        max_inflight=config.max_inflight,
    )


def groups(batches: Mapping[str, Batch]) -> list[dict[str, Batch]]:
    """What is decided at once goes together and first. Then each org whose script picks the agent, alone; then all that hold
    auctions, whose windows run at the same time: an org that asks around before it chooses holds up nobody else."""
    chains = {org_id: {b.config.agent_resolution_strategy, *b.config.agent_resolution_fallbacks} for org_id, b in batches.items()}
    bidding = {org_id: batch for org_id, batch in batches.items() if "auction" in chains[org_id]}
    planning = [{org_id: batch} for org_id, batch in batches.items() if "plan+retrieve" in chains[org_id] and org_id not in bidding]
    quick = {org_id: batch for org_id, batch in batches.items() if org_id not in bidding and {org_id: batch} not in planning}
    return [group for group in (quick, *planning, bidding) if group]


def _room(pool: CandidatePool) -> int:
    """How many tasks of a lane to claim. A pool without hope claims too: its tasks have to be told that nobody can do them.

    A few more than there is room for: the agents with room may be barred from the task at the head, and those behind
    it need not wait for that. What finds no room goes back to its place.
    """
    if pool.waits:
        return 0
    if not pool.lasts:
        return BATCH
    free = pool.free_up_to(BATCH)
    return min(free + SLACK, BATCH) if free else 0


def count_decisions(batch: Batch, moves: Sequence[Move]) -> None:
    strategy, chosen = batch.config.agent_resolution_strategy, sum(move.end is TaskStatus.ASSIGNED for move in moves)
    observe.DECISIONS.inc(strategy, "chosen", by=chosen)
    failed = sum(move.end is TaskStatus.FAILED for move in moves)
    observe.DECISIONS.inc(strategy, "no_agent", by=failed)
    observe.DECISIONS.inc(strategy, "waiting", by=len(batch.claims) - chosen - failed)


def given_to_agent(task: Task, choice: Choice, now: datetime) -> Move:
    attempt, agent = task.attempt + 1, choice.candidate.subject_id
    assignment = Assignment(
        id=ids.assignment_id(task.key, attempt),
        task_key=task.key,
        org_id=task.org_id,
        attempt=attempt,
        head_agent_subject_id=agent,
        strategy=choice.strategy,
        because=choice.because,
        decision=choice.details,
        at=now,
    )
    fields: dict[str, Any] = {
        "attempt": attempt, "head_agent_subject_id": agent, "not_before": None, "held_by_person": choice.candidate.is_person,
    }  # fmt: skip
    rows = (*choice.rows, assignment)
    return Move(task=task, end=TaskStatus.ASSIGNED, reason=choice.because, actor=ACTOR, fields=fields, rows=rows)


def nobody_found(task: Task, error: NoHeadAgent, config: OrgConfig, *, waits: bool, now: datetime) -> Decision:
    """That nobody was found, with every strategy's reason. While a task waits for somebody it is said once an attempt."""
    outcome = "waiting" if waits else "failed"
    return Decision(
        id=f"{ids.assignment_id(task.key, task.attempt + 1)}:nobody:{outcome}",
        task_key=task.key,
        org_id=task.org_id,
        kind="no_head_agent",
        outcome=outcome,
        actor=ACTOR,
        because=error.sentence,
        details=dict(error.details),
        config_version=config.version,
        at=now,
    )


def put_to_person(task: Task, choice: Choice, config: OrgConfig, now: datetime) -> Move:
    """Mode hybrid: what would have been the choice is put to a person."""
    proposal = {"subject_id": choice.candidate.subject_id, "strategy": choice.strategy, "because": choice.because}
    return replace(people.ask_for_agent(task, config, now=now, proposal=proposal), rows=tuple(choice.rows))


def facts_of(task: Task) -> TaskFacts:
    """With its entry loaded."""
    return TaskFacts(
        key=task.key,
        org_id=task.org_id,
        task_id=task.task_id,
        job_space_id=task.job_space_id,
        priority=task.priority,
        attempt=task.attempt,
        only=tuple(task.entry.get("assigned_subject_ids") or ()),
        excluded=task.excluded_agents,
        entry=task.entry,
        **needs(task.entry),
    )
