"""The task loader: compares the database with Redis and JetStream, and repairs what is missing there.

Runs at start and every few seconds, in any number of copies: everything it does is idempotent, and whatever it puts in a
queue is checked against the truth when it is claimed.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.db.models import QuerySet

from apps.agents.holds import Hold, Holds
from apps.core import bulk, clock, ids, observe, redis
from apps.messaging import subjects
from apps.messaging.connection import wire
from apps.orgs.config_store import OrgConfigProvider
from apps.roles.models import Subject
from apps.tasks import people, sub_tasks
from apps.tasks.executor import wake
from apps.tasks.models import Task
from apps.tasks.queue import PriorityQueue, QueueItem, concurrency_of, place_of
from apps.tasks.states import IN_FLIGHT, TaskStatus
from apps.tasks.store import TaskStore

log = logging.getLogger(__name__)

CHUNK = 1000
CONCURRENCY = ("concurrency_key", "concurrency_limit", "concurrency_mode")
OVERLAP = timedelta(seconds=5)
"""Rows this much older than the last look are looked at again: writes that were under way then."""
HISTORY = timedelta(hours=1)
"""How far back a first pass looks for moves that nobody told of."""
SETTLING = timedelta(seconds=2)
"""Rows younger than this may still be on their way into Redis by whoever wrote them."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """What one pass found missing and put back."""

    queued: int = 0
    leases: int = 0
    holds: int = 0

    def __bool__(self) -> bool:
        return bool(self.queued or self.leases or self.holds)


class TaskLoader:
    """
    <p>:loader   HASH   server: the Redis server's run id when everything was last compared; until: how far, ms
    """

    def __init__(self) -> None:
        self.queue = PriorityQueue()
        self.holds = Holds()
        self.configs = OrgConfigProvider()
        self.store = TaskStore()

    def is_due(self) -> bool:
        """True when Redis is another server than the one last compared with, or was emptied."""
        return redis.client().hget(redis.key("loader"), "server") != _run_id()

    def reconcile(self, *, now: datetime) -> Repair:
        """Full when Redis restarted or was emptied; otherwise only what changed since the last pass."""
        name = redis.key("loader")
        server, until = redis.client().hmget(name, "server", "until")
        run_id = _run_id()
        since = None if server != run_id or not until else clock.from_ms(int(until)) - OVERLAP
        in_flight = list(self._in_flight())
        # Holds first: from them the queue knows which concurrency keys are full. Until the server is noted below, nothing
        # is claimed that a limit could forbid.
        leases = self._leases(in_flight, now)
        repair = Repair(leases=leases, holds=self._holds(in_flight, now), queued=self._queued(since, now))
        redis.client().hset(name, mapping={"server": run_id, "until": clock.to_ms(now - SETTLING)})
        closed = sub_tasks.close_orphans(now=now)
        told = self._told(since or now - HISTORY, now)
        self._agents()
        for what, number in {**vars(repair), "told": told, "closed": closed}.items():
            observe.REPAIRS.inc(what, by=number)
        if closed:
            log.info("loader.closed", extra={"sub_tasks": closed})
        if told:
            log.info("loader.told", extra={"transitions": told})
        if repair:
            log.info("loader.repaired", extra=vars(repair))
        if repair.queued:
            wake(now=now)
        return repair

    def _queued(self, since: datetime | None, now: datetime) -> int:
        rows = Task.objects.filter(status=TaskStatus.QUEUED, updated_at__lte=now - SETTLING)
        if since is not None:
            rows = rows.filter(updated_at__gte=since)
        put = 0
        names = ("org_id", "job_space_id", "priority", "sequence", "not_before", *CONCURRENCY)
        for chunk in _chunks(rows, *names):
            by_org: dict[str, list[QueueItem]] = defaultdict(list)
            for key, org_id, lane, priority, sequence, not_before, *concurrency in chunk:
                due = clock.to_ms(not_before) if not_before else 0
                by_org[org_id].append(
                    QueueItem(
                        key=key, lane=lane, priority=priority, sequence=sequence, not_before_ms=due,
                        concurrency=concurrency_of(*concurrency),
                    )
                )  # fmt: skip
            for org_id, items in by_org.items():
                lost = self.queue.missing(org_id, items)
                if lost:
                    self.queue.push(org_id, lost, now=now)
                put += len(lost)
        return put

    def _in_flight(self) -> Iterator[Hold]:
        """What the truth says agents hold."""
        rows = Task.objects.filter(status__in=[status.value for status in IN_FLIGHT])
        for chunk in _chunks(rows, "org_id", "attempt", "head_agent_subject_id", "sequence", "concurrency_key", "held_by_person"):
            for key, org_id, attempt, agent, sequence, concurrency_key, to_person in chunk:
                place = place_of(key, sequence, concurrency_key)
                name = ids.assignment_id(key, attempt)
                yield Hold(assignment_id=name, org_id=org_id, agent=agent, place=place, to_person=to_person)

    def _leases(self, in_flight: Sequence[Hold], now: datetime) -> int:
        """A hold without a lease gets a fresh one: its agent has that long to be heard of."""
        by_name = {hold.assignment_id: hold for hold in in_flight}
        lost: dict[tuple[str, bool], list[Hold]] = defaultdict(list)
        for name in self.holds.missing(list(by_name)):
            lost[by_name[name].org_id, by_name[name].to_person].append(by_name[name])
        for (org_id, to_person), holds in lost.items():
            config = self.configs.of(org_id)
            self.holds.take(holds, now=now, lease_seconds=people.lease_seconds(config) if to_person else config.lease_seconds)
        return sum(map(len, lost.values()))

    def _holds(self, in_flight: Sequence[Hold], now: datetime) -> int:
        """Drop holds of attempts that are over (whoever should have, died)."""
        known = {hold.assignment_id for hold in in_flight}
        suspects = [name for name in self.holds.all() if name not in known]
        # Taken after we read the rows, or really over: the truth says which.
        over: list[str] = []
        for start in range(0, len(suspects), CHUNK):
            chunk = suspects[start : start + CHUNK]
            attempts = dict(
                Task.objects.filter(
                    pk__in={name.rpartition("#")[0] for name in chunk}, status__in=[s.value for s in IN_FLIGHT]
                ).values_list("pk", "attempt")
            )
            over += [name for name in chunk if str(attempts.get(name.rpartition("#")[0])) != name.rpartition("#")[2]]
        self.holds.drop(over)
        return len(over)

    def _told(self, since: datetime, now: datetime) -> int:
        """Where a move and the row that tells of it are not one transaction: tell of moves whose mover died in between."""
        if bulk.has_transactions(Task):
            return 0
        rows = Task.objects.filter(status__in=list(TaskStatus), updated_at__gte=since, updated_at__lte=now - SETTLING)
        moved = (Task(key=key, last_transition_id=last) for chunk in _chunks(rows, "last_transition_id") for key, last in chunk)
        told = 0
        while chunk := list(islice(moved, CHUNK)):
            told += self.store.complete(chunk)
        return told

    def _agents(self) -> None:
        """Streams and every agent's consumer exist, also after JetStream lost its disk."""
        connection = wire()
        if not connection.healthy():
            return
        connection.ensure_streams()
        agents = Subject.objects.filter(is_active=True, subject_type=Subject.Type.AGENT).values_list("org_id", "subject_id")
        connection.ensure_agents([subjects.agent_token(org_id, subject_id) for org_id, subject_id in agents.iterator(chunk_size=CHUNK)])


def _run_id() -> str:
    return redis.client().info("server")["run_id"]


def _chunks(rows: QuerySet[Task], *fields: str) -> Iterator[list[tuple]]:
    """(key, *fields), some at a time, in no order: what is open is found by its status alone."""
    found = rows.values_list("pk", *fields).iterator(chunk_size=CHUNK)
    while chunk := list(islice(found, CHUNK)):
        yield chunk
