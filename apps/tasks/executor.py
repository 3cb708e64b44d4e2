"""The job executor: takes tasks off the queue, finds each a head agent, and puts it on the wire. In batches.

One batch: look at the lanes → the orgs' config → the pools and their room → claim as much as there is room for, each org its
share → load the tasks → choose → one write to `assigned` → leases → one pipelined publish → one write to `dispatched`. A
batch is whatever is there now. One task that fails never fails its batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from apps.agents.agent_queue import AgentQueueClient, Dispatch
from apps.agents.candidates import AgentCandidatePoolResolver, CandidatePool
from apps.agents.facts import TaskFacts
from apps.agents.holds import Holds
from apps.agents.market.floor import Asking, begun, carried_out, floor, together
from apps.agents.resolver import HeadAgentResolver
from apps.agents.strategies.base import Choice, NoHeadAgent, Outcome
from apps.core import background, bulk, clock, ids, observe
from apps.core.errors import PlatformError
from apps.core.giving_way import Lot
from apps.core.redis import RedisDown
from apps.dsl.models import PolicyRun
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.tasks import people
from apps.tasks.batch import (
    ACTOR,
    BATCH,
    CONTENDED_BATCH,
    Batch,
    count_decisions,
    dispatch_of,
    facts_of,
    given_to_agent,
    groups,
    hold_of,
    nobody_found,
    put_to_person,
    share_of,
    tell_choice,
)
from apps.tasks.contests import ContestDesk
from apps.tasks.models import Task
from apps.tasks.queue import ORGS_AT_ONCE, Claim, PriorityQueue, View, item_of
from apps.tasks.states import Cause, TaskStatus
from apps.tasks.store import Move, TaskStore

log = logging.getLogger(__name__)

DRAIN = "dispatch.drain"
WITHDRAWN = frozenset({TaskStatus.QUEUED, TaskStatus.CANCELLED, TaskStatus.EXPIRED})
"""A task that is there now will not take what its agent of a moment ago does."""
ALIVE_SECONDS = 5.0
RECRUIT_SECONDS = 1.0
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
        self.alive = 0
        """Drains, this one included, at the last look."""
        self.contended = False
        """Several orgs had work."""
        self.crowded = False
        """And the last batch was full: one of them has more than it can be given."""
        self.again = False
        """There may be something to claim at once."""
        self._few_last = False
        self._drain_id = ""

    def drain(self, *, seconds: float, stopping: Callable[[], bool] = lambda: False) -> int:
        """Dispatch until the time slice ends, waiting for news when there is nothing to do; answers how many were dispatched."""
        self._drain_id, total = ids.time_ordered(), 0
        now = clock.now()
        recruiting, until = now, now + timedelta(seconds=seconds)
        try:
            while now < until and not stopping():
                lot = Lot()
                done = self.run_batch(now=now)
                total += done
                if self.crowded:
                    lot.rest()
                if self.contended and self.alive < 2 and now >= recruiting:
                    # A task that comes should not have to wait for the batch of another org: somebody else may be idle.
                    recruiting = now + timedelta(seconds=RECRUIT_SECONDS)
                    background.send(DRAIN, expires_seconds=RECRUIT_SECONDS)
                if not (done and self.again):
                    self.queue.wait(WAIT_SECONDS)
                now = clock.now()
        finally:
            left = self.queue.leave(self._drain_id)
        if left and not stopping():
            if self.contended:
                # Whoever is alive may be at a crowd's batch: our place is not to be empty until he recruits somebody.
                background.send(DRAIN, expires_seconds=RECRUIT_SECONDS)
            else:
                # More came after the last look, or there is more than a slice of it. Nobody alive would see it.
                wake(now=clock.now())
        return total

    def run_batch(self, *, now: datetime) -> int:
        """One batch over all orgs; answers how many tasks left the queue."""
        view = self.queue.look(now=now, drain_id=self._drain_id, seconds=ALIVE_SECONDS)
        self.alive, self.again = view.alive, True
        if not self.agent_queue.ready():
            return 0  # claiming what cannot be published would only use up attempts
        floor().record_late(now=now)
        done = ContestDesk(store=self.store, queue=self.queue).decide(view.contests, now=now)
        configs = self.configs.of_many(waiting.org_id for waiting in view.waiting) if view.waiting else {}
        pools = self._pools(view, configs, now)
        shares = [share_of(configs[org_id], org_id, found) for org_id, found in pools.items()]
        self.contended = max(view.active, len(shares)) > 1
        limit = CONTENDED_BATCH if self.contended else BATCH
        few_first = not self._few_last
        claims, again = self.queue.claim_fairly(shares, limit=limit, now=now, drain_id=self._drain_id, few_first=few_first)
        while again and not claims:
            # A lot was set aside because its key is full; what is behind it need not wait for that.
            claims, again = self.queue.claim_fairly(shares, limit=limit, now=now, drain_id=self._drain_id, few_first=few_first)
        self.again = again or bool(view.contests) or len(view.waiting) >= ORGS_AT_ONCE
        self.crowded = self.contended and len(claims) >= limit
        self._few_last = bool(claims) and not self.crowded
        by_org: dict[str, Batch] = {}
        for claim in claims:
            batch = by_org.get(claim.org_id) or by_org.setdefault(claim.org_id, Batch(config=configs[claim.org_id], claims={}))
            batch.claims[claim.key] = claim
        for group in groups(by_org):
            done += self._run(group, pools, now)
        return done

    def _pools(self, view: View, configs: Mapping[str, OrgConfig], now: datetime) -> dict[str, dict[str, CandidatePool]]:
        """org -> lane -> pool, of all that may be given to agents now."""
        pools: dict[str, dict[str, CandidatePool]] = {}
        for waiting in view.waiting:
            config = configs[waiting.org_id]
            if waiting.aging != config.aging_points_per_minute:
                self.queue.age(waiting.org_id, config.aging_points_per_minute)
            lanes = [lane for lane in waiting.lanes if lane not in config.paused_job_spaces]
            if config.queue_paused is not None or not lanes:
                continue
            if config.max_inflight is not None and waiting.in_flight >= config.max_inflight:
                continue
            try:
                pools[waiting.org_id] = AgentCandidatePoolResolver(waiting.org_id, config).pools(lanes, now=now)
            except PlatformError as error:
                # One org's role service that is away holds up that org alone.
                log.warning("pool.unavailable", extra={"org": waiting.org_id, "error": str(error)})
        return pools

    def _run(self, group: Mapping[str, Batch], pools: Mapping[str, dict[str, CandidatePool]], now: datetime) -> int:
        """Batches of several orgs, written and published together: first what can be decided without asking anybody, then,
        after one wait for all of it, what agents or services had to be asked about."""
        observe.DISPATCH_TASKS.observe(sum(len(batch.claims) for batch in group.values()))
        with observe.DISPATCH_SECONDS.time():
            asking: dict[str, Asking[dict[str, Outcome]]] = {}
            found: dict[str, dict[str, Outcome]] = {}
            for org_id, batch in group.items():
                with observe.DECISION_SECONDS.time(batch.config.agent_resolution_strategy):
                    begun = self._begin(batch, pools[org_id], now)
                    found |= {org_id: begun} if isinstance(begun, dict) else {}
                    asking |= {} if isinstance(begun, dict) else {org_id: begun}
            self._finish({org_id: group[org_id] for org_id in found}, found, now)
            if asking:
                answered, waited = carried_out(together(list(asking.values())), floor())
                for org_id in asking:
                    observe.DECISION_SECONDS.observe(waited, group[org_id].config.agent_resolution_strategy)
                now += timedelta(seconds=waited)
                self._finish({org_id: group[org_id] for org_id in asking}, dict(zip(asking, answered, strict=True)), now)
        return sum(len(batch.claims) - len(batch.released) for batch in group.values())

    def _begin(self, batch: Batch, pools: dict[str, CandidatePool], now: datetime) -> dict[str, Outcome] | Asking[dict[str, Outcome]]:
        """Load the tasks and choose: the outcomes by task key, or, when somebody has to be asked, how to go on."""
        batch.tasks = self.store.load_many(batch.claims, entry=True)
        by_lane: dict[str, list[TaskFacts]] = {}
        for key, claim in batch.claims.items():
            task = batch.tasks.get(key)
            if task is None or task.status != TaskStatus.QUEUED:
                batch.settled.append(claim)  # ended, cancelled, or dispatched by another copy of the same ticket
            elif people.chooses_by_hand(task):
                batch.by_hand.append(task)
            else:
                by_lane.setdefault(claim.lane, []).append(facts_of(task))
        lanes = [(asked, pools[lane]) for lane, asked in by_lane.items()]
        return begun(HeadAgentResolver(batch.config).resolve(lanes, now=now, records=batch.records))

    def _finish(self, group: Mapping[str, Batch], outcomes: Mapping[str, dict[str, Outcome]], now: datetime) -> None:
        if not group:
            return
        # Auctions were held, whoever wins the race for their tasks.
        bulk.insert_missing(floor().worth_keeping([row for batch in group.values() for row in batch.records]))
        moves: list[Move] = []
        for org_id, batch in group.items():
            tell_choice(batch, outcomes[org_id])
            chosen = self._moves(batch, outcomes[org_id], now)
            count_decisions(batch, chosen)
            moves += self._still_ours(batch, chosen, now)
        bulk.insert_missing(floor().worth_keeping([row for batch in group.values() for row in batch.waiting]))
        self._assign(group.values(), moves, now)
        self._publish(group.values(), now)

    def _still_ours(self, batch: Batch, moves: list[Move], now: datetime) -> list[Move]:
        """Where a limit counts claims, one that has lapsed while we were choosing may not be used any more: another
        dispatcher may have claimed in its place."""
        claims = list(batch.claims.values())
        if batch.config.max_inflight is None and not any(claim.keyed for claim in claims):
            return moves
        kept = {claim.key for claim, ours in zip(claims, self.queue.keep(claims, now=now), strict=True) if ours}
        return [move for move in moves if move.task.key in kept]

    def _moves(self, batch: Batch, outcomes: Mapping[str, Outcome], now: datetime) -> list[Move]:
        """A move for each task of the batch that is decided."""
        moves: list[Move] = []
        moves += [people.ask_for_agent(task, batch.config, now=now) for task in batch.by_hand]
        for key, outcome in outcomes.items():
            task, claim = batch.tasks[key], batch.claims[key]
            if isinstance(outcome, Choice):
                by_person = people.confirms(task)
                moves.append(put_to_person(task, outcome, batch.config, now) if by_person else given_to_agent(task, outcome, now))
            elif isinstance(outcome, NoHeadAgent):
                self._unassignable(batch, task, claim, outcome, moves, now)
            else:
                batch.released.append(claim)
                batch.waiting += outcome.rows
        return moves

    def _unassignable(self, batch: Batch, task: Task, claim: Claim, error: NoHeadAgent, moves: list[Move], now: datetime) -> None:
        """Nobody can do it. Within the org's patience it waits a little; after that it fails."""
        patience = timedelta(seconds=batch.config.assignment_deadline_s)
        waits = now - (task.queued_at or task.created_at) < patience
        decision = nobody_found(task, error, batch.config, waits=waits, now=now)
        if waits:
            batch.deferred.append(claim)
            batch.waiting += [decision, *error.rows]
        else:
            reason = f"No agent could be assigned: {error.sentence}"
            moves.append(Move(task=task, end=TaskStatus.FAILED, reason=reason, actor=ACTOR, rows=(decision, *error.rows)))

    def _assign(self, batches: Collection[Batch], moves: Sequence[Move], now: datetime) -> None:
        """Write who gets what, then the leases, then end the claims: at every moment each task in flight is counted."""
        won = self.store.move_many(moves, now=now)
        # Whoever lost the race for a task has asked its script all the same.
        bulk.insert_missing([row for move in moves if move.task.key not in won for row in move.rows if isinstance(row, PolicyRun)])
        assigned = {move.task.key: move.task for move in moves if move.end is TaskStatus.ASSIGNED and move.task.key in won}
        moved = {move.task.key for move in moves}
        settled: list[Claim] = []
        deferred: list[Claim] = []
        dispatched: list[Claim] = []
        for batch in batches:
            tasks = [assigned[key] for key in batch.claims if key in assigned]
            self._lease(batch, tasks, now)
            dispatched += [batch.claims[task.key] for task in tasks]
            settled += [*batch.settled, *(claim for key, claim in batch.claims.items() if key in moved and key not in assigned)]
            deferred += batch.deferred
        self.queue.settle(settled, dispatched=dispatched, now=now)
        self.queue.defer(deferred, until=now + timedelta(seconds=UNASSIGNABLE_RETRY_SECONDS))
        for batch in batches:
            self.queue.release(batch.released, weight=batch.config.fair_share_weight)

    def _lease(self, batch: Batch, tasks: Sequence[Task], now: datetime) -> None:
        """The holds of those that were assigned, each under its head agent's lease, and their dispatches."""
        for to_person in (False, True):
            held = [task for task in tasks if task.held_by_person is to_person]
            if held:
                lease = people.lease_seconds(batch.config) if to_person else batch.config.lease_seconds
                self.holds.take([hold_of(task) for task in held], now=now, lease_seconds=lease)
                batch.dispatches += [(task, dispatch_of(task, now + timedelta(seconds=lease))) for task in held]

    def hand_over(self, task: Task, config: OrgConfig, *, now: datetime) -> None:
        """Deliver a task that a person has just assigned, outside any batch."""
        batch = Batch(config=config, claims={})
        self._lease(batch, [task], now)
        self._publish([batch], now)

    def _publish(self, batches: Collection[Batch], now: datetime) -> None:
        """On the wire, then recorded. A report may overtake the record; the listener then writes it in our place."""
        moves: list[Move] = []
        retry_at = now + timedelta(seconds=PUBLISH_RETRY_SECONDS)
        by_delivery: dict[str, list[tuple[Task, Dispatch]]] = {}
        for batch in batches:
            if batch.dispatches:
                by_delivery.setdefault(batch.config.agent_delivery, []).extend(batch.dispatches)
        for delivery, dispatches in by_delivery.items():
            outcomes = self.agent_queue.send([dispatch for _, dispatch in dispatches], delivery=delivery)
            for (task, _), outcome in zip(dispatches, outcomes, strict=True):
                if outcome.sent:
                    reason = f"{'in the inbox of' if task.held_by_person else 'delivered to'} {task.head_agent_subject_id}"
                    moves.append(
                        Move(task=task, end=TaskStatus.DISPATCHED, reason=reason, actor=ACTOR, fields={"delivery_seq": outcome.sequence})
                    )
                else:
                    why = f"the delivery could not be published: {outcome.error}"
                    moves.append(back_to_queue(task, reason=why, actor=ACTOR, not_before=retry_at, free=True))
        if not moves:
            return
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


def back_to_queue(
    task: Task, *, reason: str, actor: str, not_before: datetime | None, cause: Cause | None = None, excluded: str = "", free: bool = False
) -> Move:
    """The move that gives a task back for another attempt. `excluded` says why its agent should not get it again;
    `free` does not count this attempt against max_attempts (the platform's own fault)."""
    fields: dict[str, Any] = {
        "head_agent_subject_id": "",
        "not_before": not_before,
        "progress": 0.0,
        "progress_message": "",
        "delivery_seq": 0,
        "held_by_person": False,
    }
    fields["excluded_agents"] = {**task.excluded_agents, **({task.head_agent_subject_id: excluded} if excluded else {})}
    fields["max_attempts"] = task.max_attempts + (1 if free else 0)
    return Move(task=task, end=TaskStatus.QUEUED, reason=reason, actor=actor, fields=fields, cause=cause)


def requeue(tasks: Iterable[Task], *, now: datetime, queue: PriorityQueue, holds: Holds) -> None:
    """After tasks moved back to `queued`: drop the holds of the attempt that ended and put them in order again."""
    by_org: dict[str, list[Task]] = {}
    for task in tasks:
        by_org.setdefault(task.org_id, []).append(task)
    for org_id, group in by_org.items():
        holds.drop(ids.assignment_id(task.key, task.attempt) for task in group)
        queue.push(org_id, [item_of(task) for task in group], now=now)
