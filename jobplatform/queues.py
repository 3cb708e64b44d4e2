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
    jobs: str = ""
    """The group of job queues that they take from (`apps.jobs.queues`), instead of one of this name."""

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.jobs else (self.name, *self.also)


class QueueName:
    DISPATCH = "dispatch"
    UPKEEP = "upkeep"
    WEBHOOKS = "webhooks"
    BACKTESTS = "backtests"
    WORKFLOWS = "workflows"
    ITEMS = "items"
    QUICK_JOBS = "quick-jobs"
    LONG_JOBS = "long-jobs"


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
    RESUME_BACKTESTS = "upkeep.resume_backtests"
    BACKTEST = "backtests.run"
    TEND_AGENTS = "upkeep.tend_agents"
    CATCH_UP_EVIDENCE = "upkeep.catch_up_evidence"
    RUN_CHUNK = "items.run_chunk"
    ADVANCE = "workflows.advance"
    FINISH = "workflows.finish"
    ITEMS_ENDED = "workflows.items_ended"
    TEND_SESSIONS = "upkeep.tend_sessions"
    RUN_JOB = "jobs.run"
    KILL_JOB = "jobs_kill"
    TEND_JOBS = "upkeep.tend_jobs"
    RETENTION = "upkeep.retention"
    SWEEP_JOB_FILES = "upkeep.sweep_job_files"
    PURGE = "backtests.purge"


QUEUES = (
    Queue(name=QueueName.DISPATCH, pool="solo", workers=2, meaning="claims queued tasks, chooses head agents, publishes deliveries"),
    Queue(name=QueueName.UPKEEP, pool="solo", workers=1, meaning="lapsed leases, deadlines, database against Redis and JetStream"),
    Queue(name=QueueName.WEBHOOKS, pool="solo", workers=1, meaning="deliveries to webhook endpoints, each endpoint on a thread of its own"),
    Queue(
        name=QueueName.WORKFLOWS,
        also=(QueueName.ITEMS,),
        pool="solo",
        workers=2,
        meaning="what comes next in sessions, and chunks of their items: a worker that dies of one is replaced, its lease lapses",
    ),
    Queue(name=QueueName.BACKTESTS, pool="solo", workers=1, meaning="what takes long: backtests, purges of organizations"),
    Queue(name=QueueName.QUICK_JOBS, jobs="quick", pool="prefork", workers=1, meaning="jobs that people wait for, on quick queues"),
    Queue(name=QueueName.LONG_JOBS, jobs="long", pool="prefork", workers=1, meaning="jobs that take long, on the other queues"),
)

SWEEP_SECONDS = 2.0
RECONCILE_SECONDS = 5.0
REORDER_SECONDS = 5.0
TELL_REVOKED_SECONDS = 20.0
WEBHOOKS_SECONDS = 2.0
RETENTION_SECONDS = 3600.0
RESUME_BACKTESTS_SECONDS = 30.0
TEND_AGENTS_SECONDS = 3.0
CATCH_UP_EVIDENCE_SECONDS = 20.0
TEND_SESSIONS_SECONDS = 3.0
TEND_JOBS_SECONDS = 1.0
SWEEP_JOB_FILES_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class JobQueue:
    """A queue of jobs, and what a job on it may take unless it says less."""

    name: str
    time_limit_s: int
    memory_mb: int
    meaning: str


QUICK_JOBS = (
    JobQueue(name="high_priority", time_limit_s=3600, memory_mb=2048, meaning="what cannot wait"),
    JobQueue(name="fast", time_limit_s=30, memory_mb=1024, meaning="quick operations, below 30 seconds"),
    JobQueue(name="default", time_limit_s=7200, memory_mb=2048, meaning="whatever names no queue"),
    JobQueue(name="medium", time_limit_s=300, memory_mb=2048, meaning="typical operations, up to 5 minutes"),
    JobQueue(name="rag", time_limit_s=3600, memory_mb=2048, meaning="questions over documents"),
    JobQueue(name="rag_queries", time_limit_s=3600, memory_mb=2048, meaning="questions over documents"),
)
LONG_JOBS = (
    JobQueue(name="slow", time_limit_s=7200, memory_mb=4096, meaning="heavy operations, up to 2 hours"),
    JobQueue(name="processing", time_limit_s=7200, memory_mb=4096, meaning="data sets"),
    JobQueue(name="document_loading", time_limit_s=7200, memory_mb=2048, meaning="documents read in: input and output"),
    JobQueue(name="document_processing", time_limit_s=7200, memory_mb=4096, meaning="documents taken apart and stored"),
    JobQueue(name="embeddings", time_limit_s=7200, memory_mb=4096, meaning="texts turned into vectors: processor"),
    JobQueue(name="agents", time_limit_s=7200, memory_mb=2048, meaning="agents at work"),
    JobQueue(name="agent_workflows", time_limit_s=7200, memory_mb=2048, meaning="several agents, one after the other"),
    JobQueue(name="ml", time_limit_s=7200, memory_mb=8192, meaning="training"),
    JobQueue(name="gpu", time_limit_s=300, memory_mb=8192, meaning="inference on a GPU"),
    JobQueue(name="gpu_inference", time_limit_s=3600, memory_mb=8192, meaning="inference on a GPU"),
)
JOB_QUEUES = QUICK_JOBS + LONG_JOBS
OWN_JOB_QUEUE = JobQueue(name="", time_limit_s=7200, memory_mb=4096, meaning="named by the setting JOBS_QUEUES")
