"""The Celery queues and the messages that travel on them.

One table: a queue, how its workers run, and what they do. `manage.py up` and the compose file
start their workers from it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Queue:
    name: str
    pool: str
    """Celery pool: `solo` (one task at a time, fastest per message) or `prefork` (contains crashes)."""
    workers: int
    """Worker processes `manage.py up` starts by default."""
    meaning: str
    also: tuple[str, ...] = ()
    """Queues that the same workers take from in turn, so that a crowd in one does not hold up the other."""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.also)


class QueueName:
    DISPATCH = "dispatch"
    UPKEEP = "upkeep"
    WEBHOOKS = "webhooks"
    BACKTESTS = "backtests"
    WORKFLOWS = "workflows"
    ITEMS = "items"


class Work:
    """Names of Celery tasks. A message is a hint; the worker re-reads the truth."""

    DRAIN = "dispatch.drain"
    SWEEP = "upkeep.sweep"
    RECONCILE = "upkeep.reconcile"
    REORDER = "upkeep.reorder"
    TELL_REVOKED = "upkeep.tell_revoked"
    BULK_ACTIONS = "upkeep.bulk_actions"
    SCHEDULES = "upkeep.schedules"
    WEBHOOKS = "webhooks.drain"
    FORGET_WEBHOOKS = "webhooks.forget"
    RESUME_BACKTESTS = "upkeep.resume_backtests"
    BACKTEST = "backtests.run"
    TEND_AGENTS = "upkeep.tend_agents"
    CATCH_UP_EVIDENCE = "upkeep.catch_up_evidence"
    RUN_CHUNK = "items.run_chunk"
    ADVANCE = "workflows.advance"
    FINISH = "workflows.finish"
    ITEMS_ENDED = "workflows.items_ended"
    TEND_SESSIONS = "upkeep.tend_sessions"


QUEUES = (
    Queue(name=QueueName.DISPATCH, pool="solo", workers=2, meaning="claims queued tasks, chooses head agents, publishes deliveries"),
    Queue(name=QueueName.UPKEEP, pool="solo", workers=1, meaning="lapsed leases, deadlines, database against Redis and JetStream"),
    Queue(name=QueueName.WEBHOOKS, pool="solo", workers=1, meaning="deliveries to webhook endpoints, each endpoint on a thread of its own"),
    Queue(
        name=QueueName.WORKFLOWS, also=(QueueName.ITEMS,), pool="solo", workers=2,
        meaning="what comes next in sessions, and chunks of their items: a worker that dies of one is replaced, its lease lapses",
    ),
    Queue(name=QueueName.BACKTESTS, pool="solo", workers=1, meaning="recorded decisions, asked again of another version of a script"),
)

SWEEP_SECONDS = 2.0
RECONCILE_SECONDS = 5.0
REORDER_SECONDS = 5.0
TELL_REVOKED_SECONDS = 20.0
WEBHOOKS_SECONDS = 2.0
FORGET_WEBHOOKS_SECONDS = 3600.0
RESUME_BACKTESTS_SECONDS = 30.0
TEND_AGENTS_SECONDS = 3.0
CATCH_UP_EVIDENCE_SECONDS = 20.0
TEND_SESSIONS_SECONDS = 3.0
