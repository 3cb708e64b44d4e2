"""The sweeper: what must happen because time has passed. Lapsed leases, passed deadlines, delayed tasks, lost hints.

Safe in several copies: every step is a compare-and-set or idempotent.
"""

from __future__ import annotations

import logging
from datetime import datetime

from apps.agents.agent_queue import AgentQueueClient
from apps.agents.holds import Holds
from apps.agents.presence import Presence, PresenceBoard
from apps.core import clock, ids, observe, redis
from apps.messaging import subjects
from apps.messaging.connection import wire
from apps.messaging.streams import Standing
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.tasks import people
from apps.tasks.executor import requeue, wake
from apps.tasks.models import Task
from apps.tasks.poison import after_loss
from apps.tasks.queue import PriorityQueue
from apps.tasks.results import once
from apps.tasks.states import IN_FLIGHT, OPEN, TaskStatus
from apps.tasks.store import TaskStore
from apps.tasks.taking_back import Ending, end_many

log = logging.getLogger(__name__)

ACTOR = "sweeper"
LIMIT = 500
LISTENING_SECONDS = 3
HEARING_SECONDS = 12
"""A listener must have listened this long (two heartbeats) before silence means anything."""
NOTES_KEPT = 1000
UNASSIGNED = [TaskStatus.QUEUED.value, TaskStatus.AWAITING_APPROVAL.value, TaskStatus.AWAITING_ASSIGNMENT.value]


class Listening:
    """Since when some listener has been hearing agents without a gap. `<p>:listening` STRING since, ms; expires."""

    def mark(self, *, now: datetime) -> None:
        name = redis.key("listening")
        if not redis.client().set(name, clock.to_ms(now), nx=True, px=LISTENING_SECONDS * 1000):
            redis.client().pexpire(name, LISTENING_SECONDS * 1000)

    def long_enough(self, *, now: datetime) -> bool:
        since = redis.client().get(redis.key("listening"))
        return since is not None and clock.to_ms(now) - int(since) >= HEARING_SECONDS * 1000


class Hearing:
    """Up to which moment all reports have been applied. Under steady load some are always unread, so it is not enough to ask
    whether any are: each sweep notes how many reports there were, and a later one sees how far the listeners have come.

    <p>:heard   ZSET   moment of a sweep, ms -> sequence of the newest report then; forgotten after an hour
    """

    def until(self, *, now: datetime) -> datetime | None:
        reports, name = wire().reports(), redis.key("heard")
        noted = redis.client().zrevrange(name, 0, 0, withscores=True)
        if noted and noted[0][1] > reports.stored:
            redis.client().delete(name)  # the stream began anew
        with redis.client().pipeline(transaction=False) as pipeline:
            pipeline.zadd(name, {str(clock.to_ms(now)): reports.stored})
            pipeline.zremrangebyrank(name, 0, -NOTES_KEPT - 1)
            pipeline.expire(name, 3600)
            pipeline.zrevrangebyscore(name, reports.done, "-inf", start=0, num=1)
            heard = pipeline.execute()[-1]
        return clock.from_ms(int(heard[0])) if heard else None


class Sweeper:
    def __init__(self) -> None:
        self.store = TaskStore()
        self.queue = PriorityQueue()
        self.holds = Holds()
        self.board = PresenceBoard()
        self._config_of = once(OrgConfigProvider().of)
        self.agent_queue = AgentQueueClient()

    def sweep(self, *, now: datetime) -> None:
        self.expire(now=now)
        observe.REPAIRS.inc("undecided", by=people.expire(now=now))
        observe.REPAIRS.inc("escalated", by=people.escalate(now=now))
        self.queue.tick(now=now)
        self.lapse(now=now)
        wake(now=now)

    def expire(self, *, now: datetime) -> int:
        """End tasks whose time to end, or to be with an agent, has passed. All of them in a few round trips."""
        rows = Task.objects.filter(deadline__lte=now, status__in=[status.value for status in OPEN])
        late = [
            Ending(task=t, end=TaskStatus.EXPIRED, reason=f"not ended by its deadline {clock.iso(t.deadline)}") for t in rows[:LIMIT]
        ]
        rows = Task.objects.filter(assign_by__lte=now, status__in=UNASSIGNED)
        expired = {ending.task.key for ending in late}
        # One that was with an agent and came back was assigned in time.
        late += [_unassigned(task) for task in rows.filter(attempt=0)[:LIMIT] if task.key not in expired]
        if not late:
            return 0
        ended = end_many(late, actor=ACTOR, now=now, store=self.store)
        observe.REPAIRS.inc("expired", by=len(ended))
        wake(now=now)
        return len(ended)

    def lapse(self, *, now: datetime) -> int:
        """Take tasks from agents that have not been heard of for a whole lease.

        Silence counts only when we could have heard: the wire is up, a listener has listened for a while (else the leases
        get a little more time), and every report from before the lapse has been applied.
        """
        if not self._could_hear(now):
            self.holds.extend(self.holds.lapsed(now=now, limit=LIMIT), now=now, lease_seconds=LISTENING_SECONDS)
            return 0
        heard = Hearing().until(now=now)
        names = self.holds.lapsed(now=min(now, heard), limit=LIMIT) if heard else []
        if not names:
            return 0
        tasks = self.store.load_many(name.rpartition("#")[0] for name in names)
        # Whoever reported since we looked is alive, and its lease went on before its report was applied.
        still = set(self.holds.lapsed(now=min(now, heard), limit=LIMIT + len(names)))
        names = [name for name in names if name in still]
        over: list[str] = []
        lost: list[Task] = []
        for name in names:
            key, _, attempt = name.rpartition("#")
            task = tasks.get(key)
            if task is None or task.status not in IN_FLIGHT or task.attempt != int(attempt):
                over.append(name)
            else:
                lost.append(task)
        self.holds.drop(over)
        return self._take_from(*self._without_waiting(lost, now), now)

    def _could_hear(self, now: datetime) -> bool:
        return wire().healthy() and Listening().long_enough(now=now)

    def _without_waiting(self, tasks: list[Task], now: datetime) -> tuple[list[Task], set[str]]:
        """(those that are lost, keys of those of them that an agent which went away, or has not come yet, had not fetched).

        Two kinds of silence are no loss, and their leases go on: a delivery that still waits in the stream of an agent
        that is up, and a plain delivery, whose agent never reports.
        """
        going_on = [task for task in tasks if self._config(task).agent_delivery == "plain" and not task.held_by_person]
        known: dict[tuple[str, str], tuple[Presence, Standing | None]] = {}
        unfetched: set[str] = set()
        for task in tasks:
            agent = (task.org_id, task.head_agent_subject_id)
            if task.status != TaskStatus.DISPATCHED:
                continue
            if agent not in known:
                presence = self.board.states(agent[0], [agent[1]], now=now)[agent[1]].presence
                known[agent] = (presence, wire().deliveries_of(subjects.agent_token(*agent)))
            presence, stands = known[agent]
            # Beyond what is stored: of a stream that is gone. Up to what was delivered: the agent had it, and said nothing.
            if stands and stands.delivered < task.delivery_seq <= stands.stored:
                if presence is Presence.PRESENT:
                    going_on.append(task)
                else:
                    unfetched.add(task.key)
        for task in going_on:
            self.holds.extend([ids.assignment_id(task.key, task.attempt)], now=now, lease_seconds=self._config(task).lease_seconds)
        spared = {task.key for task in going_on}
        return [task for task in tasks if task.key not in spared], unfetched

    def _take_from(self, tasks: list[Task], unfetched: set[str], now: datetime) -> int:
        before = {task.key: (task.head_agent_subject_id, task.attempt, task.delivery_seq) for task in tasks}
        moves = after_loss(tasks, unfetched, config_of=self._config_of, lease_of=self._lease, actor=ACTOR, now=now)
        won = self.store.move_many(moves, now=now)
        observe.REPAIRS.inc("lapsed", by=len(won))
        self.agent_queue.withdraw([before[key][2] for key in won])
        for key in won:
            agent, attempt, _ = before[key]
            org_id, task_id = ids.split_task_key(key)
            self.agent_queue.tell_to_stop(org_id, agent, task_id=task_id, attempt=attempt, reason="the lease was lost")
            log.warning("lease.lost", extra={"task": key, "agent": agent, "attempt": attempt})
        self.holds.drop(ids.assignment_id(key, before[key][1]) for key in won)
        requeue([m.task for m in moves if m.task.key in won and m.end is TaskStatus.QUEUED], now=now, queue=self.queue, holds=self.holds)
        return len(won)

    def _lease(self, task: Task) -> float:
        return people.lease_seconds(self._config(task)) if task.held_by_person else self._config(task).lease_seconds

    def _config(self, task: Task) -> OrgConfig:
        return self._config_of(task.org_id)


def _unassigned(task: Task) -> Ending:
    """Waiting for an agent it fails; waiting for a person it expires (the state table has no failure there)."""
    end = TaskStatus.FAILED if task.status == TaskStatus.QUEUED else TaskStatus.EXPIRED
    return Ending(task=task, end=end, reason=f"no agent had it by {clock.iso(task.assign_by)}")
