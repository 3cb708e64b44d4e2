"""The job executor: takes tasks off the queue, finds each a head agent, and puts it on the wire. In batches.

One batch: look at the lanes → the orgs' config → the pools and their room → claim as much as there is room for → load the
tasks → choose → one write to `assigned` → leases → one pipelined publish → one write to `dispatched`. A batch is whatever
is there now. One task that fails never fails its batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from apps.agents.agent_queue import AgentQueueClient, Dispatch
from apps.agents.candidates import AgentCandidatePoolResolver, CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.holds import Hold, Holds
from apps.agents.resolver import HeadAgentResolver
from apps.agents.strategies.base import NoHeadAgent, PoolFull
from apps.core import background, clock, ids, observe
from apps.core.redis import RedisDown
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.tasks.entries import needs
from apps.tasks.models import Assignment, Task
from apps.tasks.queue import Claim, PriorityQueue, item_of
from apps.tasks.states import TaskStatus
from apps.tasks.store import Move, TaskStore

log = logging.getLogger(__name__)

ACTOR = "executor"
DRAIN = "dispatch.drain"
BATCH = 200
"""Tasks claimed at once: enough to make round trips cheap, few enough to stay far below the claim's life."""
SLACK = 8
WITHDRAWN = frozenset({TaskStatus.QUEUED, TaskStatus.CANCELLED, TaskStatus.EXPIRED})
"""A task that is there now will not take what its agent of a moment ago does."""
ALIVE_SECONDS = 5.0
WAIT_SECONDS = 0.5
PUBLISH_RETRY_SECONDS = 1.0
UNASSIGNABLE_RETRY_SECONDS = 1.0


def wake(*, now: datetime) -> None:
    """Work came or room was made: see that a dispatcher looks. At most one message when none is looking."""
    try:
        waiting, alive = PriorityQueue().nudge(now=now)
    except RedisDown as error:
        log.warning("queue.unreachable", extra={"error": str(error)})
        return
    if waiting and not alive:
        background.send(DRAIN)


@dataclass(kw_only=True, slots=True)
class Batch:
    """What one org's part of a batch came to."""

    config: OrgConfig
    claims: dict[str, Claim]
    settled: list[Claim] = field(default_factory=list)
    released: list[Claim] = field(default_factory=list)
    dispatches: list[tuple[Task, Dispatch]] = field(default_factory=list)


class JobExecutor:
    def __init__(
        self,
        *,
        queue: PriorityQueue | None = None,
        store: TaskStore | None = None,
        holds: Holds | None = None,
        agent_queue: AgentQueueClient | None = None,
        configs: OrgConfigProvider | None = None,
    ) -> None:
        self.queue = queue or PriorityQueue()
        self.store = store or TaskStore()
        self.holds = holds or Holds()
        self.agent_queue = agent_queue or AgentQueueClient()
        self.configs = configs or OrgConfigProvider()

    def drain(self, *, seconds: float, stopping: Callable[[], bool] = lambda: False) -> int:
        """Dispatch until the time slice ends, waiting for news when there is nothing to do; answers how many were dispatched."""
        drain_id, total = ids.time_ordered(), 0
        now = clock.now()
        until = now + timedelta(seconds=seconds)
        try:
            while now < until and not stopping():
                self.queue.enter(drain_id, now=now, seconds=ALIVE_SECONDS)
                done = self.run_batch(now=now)
                total += done
                if not done:
                    self.queue.wait(WAIT_SECONDS)
                now = clock.now()
        finally:
            left = self.queue.leave(drain_id)
        if left and not stopping():
            # More came after the last look, or there is more than a slice of it. Nobody alive would see it.
            wake(now=clock.now())
        return total

    def run_batch(self, *, now: datetime) -> int:
        """One batch over all orgs; answers how many tasks left the queue."""
        if not self.agent_queue.ready():
            return 0  # claiming what cannot be published would only use up attempts
        self.queue.tick(now=now)
        by_org: dict[str, list[str]] = {}
        for lane in self.queue.lanes():
            by_org.setdefault(lane.org_id, []).append(lane.lane)
        return sum(self._run_org(org_id, lanes, now) for org_id, lanes in by_org.items())

    def _run_org(self, org_id: str, lanes: Sequence[str], now: datetime) -> int:
        config = self.configs.of(org_id)
        pools = AgentCandidatePoolResolver(org_id, config).pools(lanes, now=now)
        claims = self.queue.claim(org_id, {lane: _room(pool) for lane, pool in pools.items()}, limit=BATCH, now=now)
        if not claims:
            return 0
        batch = Batch(config=config, claims={claim.key: claim for claim in claims})
        observe.DISPATCH_TASKS.observe(len(claims))
        with observe.DISPATCH_SECONDS.time():
            with observe.DECISION_SECONDS.time(config.agent_resolution_strategy):
                moves = self._choose(batch, pools, now)
            _count(batch, moves)
            self._assign(batch, moves, now)
            self.queue.release(batch.released)
            self._publish(batch, now)
        return len(claims) - len(batch.released)

    def _choose(self, batch: Batch, pools: dict[str, CandidatePool], now: datetime) -> list[Move]:
        """A move for each task of the batch that can be decided now."""
        resolver = HeadAgentResolver(batch.config)
        tasks = self.store.load_many(batch.claims, entry=True)
        moves: list[Move] = []
        for key, claim in batch.claims.items():
            task = tasks.get(key)
            if task is None or task.status != TaskStatus.QUEUED:
                batch.settled.append(claim)  # ended, cancelled, or dispatched by another copy of the same ticket
                continue
            pool = pools[claim.lane]
            try:
                choice = resolver.resolve(_facts(task), pool)
            except PoolFull:
                batch.released.append(claim)
            except NoHeadAgent as error:
                self._unassignable(batch, task, claim, error, moves, now)
            else:
                attempt = task.attempt + 1
                assignment = Assignment(
                    id=ids.assignment_id(task.key, attempt),
                    task_key=task.key,
                    org_id=task.org_id,
                    attempt=attempt,
                    head_agent_subject_id=choice.candidate.subject_id,
                    strategy=choice.strategy,
                    because=choice.because,
                    decision=resolver.decision(choice, pool),
                    at=now,
                )
                fields: dict[str, Any] = {"attempt": attempt, "head_agent_subject_id": choice.candidate.subject_id, "not_before": None}
                moves.append(
                    Move(task=task, end=TaskStatus.ASSIGNED, reason=choice.because, actor=ACTOR, fields=fields, rows=(assignment,))
                )
        return moves

    def _unassignable(self, batch: Batch, task: Task, claim: Claim, error: NoHeadAgent, moves: list[Move], now: datetime) -> None:
        """Nobody can do it. Within the org's patience it waits a little; after that it fails."""
        patience = timedelta(seconds=batch.config.assignment_deadline_s)
        if now - (task.queued_at or task.created_at) < patience:
            batch.settled.append(claim)
            due = clock.to_ms(now + timedelta(seconds=UNASSIGNABLE_RETRY_SECONDS))
            self.queue.push(task.org_id, [replace(item_of(task), not_before_ms=due)], now=now)
        else:
            moves.append(Move(task=task, end=TaskStatus.FAILED, reason=f"No agent could be assigned: {error.sentence}", actor=ACTOR))

    def _assign(self, batch: Batch, moves: Sequence[Move], now: datetime) -> None:
        won = self.store.move_many(moves, now=now)
        batch.settled += [batch.claims[move.task.key] for move in moves]
        assigned = [move.task for move in moves if move.end is TaskStatus.ASSIGNED and move.task.key in won]
        lease = batch.config.lease_seconds
        self.holds.take(
            [Hold(assignment_id=ids.assignment_id(t.key, t.attempt), org_id=t.org_id, agent=t.head_agent_subject_id) for t in assigned],
            now=now,
            lease_seconds=lease,
        )
        self.queue.settle(batch.settled)
        expires = now + timedelta(seconds=lease)
        batch.dispatches = [
            (
                task,
                Dispatch(
                    org_id=task.org_id,
                    task_id=task.task_id,
                    agent=task.head_agent_subject_id,
                    attempt=task.attempt,
                    entry=task.entry,
                    lease_expires_at=expires,
                ),
            )
            for task in assigned
        ]

    def _publish(self, batch: Batch, now: datetime) -> None:
        """On the wire, then recorded. A report may overtake the record; the listener then writes it in our place."""
        if not batch.dispatches:
            return
        outcomes = self.agent_queue.send([dispatch for _, dispatch in batch.dispatches], delivery=batch.config.agent_delivery)
        moves: list[Move] = []
        retry_at = now + timedelta(seconds=PUBLISH_RETRY_SECONDS)
        for (task, _), outcome in zip(batch.dispatches, outcomes, strict=True):
            if outcome.sent:
                reason = f"delivered to {task.head_agent_subject_id}"
                moves.append(
                    Move(task=task, end=TaskStatus.DISPATCHED, reason=reason, actor=ACTOR, fields={"delivery_seq": outcome.sequence})
                )
            else:
                moves.append(
                    back_to_queue(
                        task, reason=f"the delivery could not be published: {outcome.error}", actor=ACTOR, not_before=retry_at, free=True
                    )
                )
        won = self.store.move_many(moves, now=now)
        self._withdraw([move for move in moves if move.end is TaskStatus.DISPATCHED and move.task.key not in won])
        requeue(
            [move.task for move in moves if move.end is TaskStatus.QUEUED and move.task.key in won],
            now=now,
            queue=self.queue,
            holds=self.holds,
        )

    def _withdraw(self, lost: Sequence[Move]) -> None:
        """Cancelled while we published: take the delivery back. (Or the listener recorded it before us: then all is well.)"""
        if not lost:
            return
        now_as = self.store.load_many(move.task.key for move in lost)
        stray = [move for move in lost if _is_stray(move, now_as.get(move.task.key))]
        self.agent_queue.withdraw([move.fields["delivery_seq"] for move in stray])
        for move in stray:
            task = move.task
            self.agent_queue.tell_to_stop(
                task.org_id, task.head_agent_subject_id, task_id=task.task_id, attempt=task.attempt, reason="cancelled"
            )


def _is_stray(move: Move, task: Task | None) -> bool:
    """The task as it is now does not want what was delivered."""
    return task is None or task.attempt != move.task.attempt or task.status in WITHDRAWN


def back_to_queue(task: Task, *, reason: str, actor: str, not_before: datetime | None, excluded: str = "", free: bool = False) -> Move:
    """The move that gives a task back for another attempt. `excluded` says why its agent should not get it again;
    `free` does not count this attempt against max_attempts (the platform's own fault)."""
    fields: dict[str, Any] = {
        "head_agent_subject_id": "",
        "not_before": not_before,
        "progress": 0.0,
        "progress_message": "",
        "delivery_seq": 0,
    }
    fields["excluded_agents"] = {**task.excluded_agents, **({task.head_agent_subject_id: excluded} if excluded else {})}
    fields["max_attempts"] = task.max_attempts + (1 if free else 0)
    return Move(task=task, end=TaskStatus.QUEUED, reason=reason, actor=actor, fields=fields)


def requeue(tasks: Iterable[Task], *, now: datetime, queue: PriorityQueue, holds: Holds) -> None:
    """After tasks moved back to `queued`: drop the holds of the attempt that ended and put them in order again."""
    by_org: dict[str, list[Task]] = {}
    for task in tasks:
        by_org.setdefault(task.org_id, []).append(task)
    for org_id, group in by_org.items():
        holds.drop(ids.assignment_id(task.key, task.attempt) for task in group)
        queue.push(org_id, [item_of(task) for task in group], now=now)


def _room(pool: CandidatePool) -> int:
    """How many tasks of a lane to claim. A pool without hope claims too: its tasks have to be told that nobody can do them.

    A few more than there is room for: the agents with room may be barred from the task at the head, and those behind
    it need not wait for that. What finds no room goes back to its place.
    """
    if not pool.lasting:
        return BATCH
    return min(pool.free + SLACK, BATCH) if pool.free else 0


def _count(batch: Batch, moves: Sequence[Move]) -> None:
    strategy, chosen = batch.config.agent_resolution_strategy, sum(move.end is TaskStatus.ASSIGNED for move in moves)
    observe.DECISIONS.inc(strategy, "chosen", by=chosen)
    observe.DECISIONS.inc(strategy, "no_agent", by=len(moves) - chosen)
    observe.DECISIONS.inc(strategy, "waiting", by=len(batch.claims) - len(moves))


def _facts(task: Task) -> TaskFacts:
    return TaskFacts(
        key=task.key,
        org_id=task.org_id,
        task_id=task.task_id,
        job_space_id=task.job_space_id,
        priority=task.priority,
        excluded=task.excluded_agents,
        **needs(task.entry),
    )
