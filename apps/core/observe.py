"""What the platform says about itself: one table of metrics, and how they are counted.

Each process counts in memory, which costs about a microsecond a batch, and every FLUSH_SECONDS adds what it counted to one
Redis hash that all processes of all machines share; `GET /metrics` (`jobplatform.metrics`) reads it. A process that is killed
takes at most that long of counting with it, and a Redis that is emptied starts the counters at zero, as Prometheus expects of
a restart. Labels come from small closed sets; one that does not (a bug) ends up as `other` before it can grow.

| Redis key | value | owner |
|---|---|---|
| `metrics` | HASH series → number; a series is its name, label values and, for histograms, the bucket | expires |
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from apps.core import redis

log = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
KEEP_SECONDS = 7 * 24 * 3600
SERIES_MAX = 1000
"""Label combinations of one metric in one process."""
SEPARATOR = "\x1f"
SUM = "sum"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG_SECONDS = (0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0)
SIZES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)


class Tally:
    """What this process has counted since it last told Redis: (metric, labels, bucket) → number."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: dict[tuple[str, ...], float] = {}
        self.known: dict[str, set[tuple[str, ...]]] = {}

    def add(self, name: str, labels: tuple[str, ...], rest: tuple[tuple[str, float], ...]) -> None:
        with self.lock:
            known = self.known.setdefault(name, set())
            if labels not in known:
                if len(known) >= SERIES_MAX:
                    labels = ("other",) * len(labels)
                known.add(labels)
            for bucket, number in rest:
                series = (name, *labels, bucket) if bucket else (name, *labels)
                self.values[series] = self.values.get(series, 0.0) + number

    def take(self) -> dict[tuple[str, ...], float]:
        with self.lock:
            taken, self.values = self.values, {}
        return taken

    def put_back(self, taken: dict[tuple[str, ...], float]) -> None:
        with self.lock:
            for series, number in taken.items():
                self.values[series] = self.values.get(series, 0.0) + number


tally = Tally()


@dataclass(frozen=True, kw_only=True)
class Metric:
    name: str
    meaning: str
    unit: str
    labels: tuple[tuple[str, str], ...] = ()
    """(name, what it may be)"""
    kind = ""

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.labels)


@dataclass(frozen=True, kw_only=True)
class Counter(Metric):
    kind = "counter"

    def inc(self, *labels: str, by: float = 1) -> None:
        """Once a batch, not once a row: `inc(label, …, by=n)`."""
        if by:
            tally.add(self.name, labels, (("", by),))


@dataclass(frozen=True, kw_only=True)
class Histogram(Metric):
    buckets: tuple[float, ...] = SECONDS
    kind = "histogram"

    def observe(self, value: float, *labels: str, times: int = 1) -> None:
        place = bisect_left(self.buckets, value)
        bound = f"{self.buckets[place]:g}" if place < len(self.buckets) else "+Inf"
        tally.add(self.name, labels, ((bound, times), (SUM, value * times)))

    @contextmanager
    def time(self, *labels: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - began, *labels)


@dataclass(frozen=True, kw_only=True)
class Gauge(Metric):
    """Looked up when somebody asks, from the database; nothing is counted."""

    kind = "gauge"


STATUS = "a status of the task table; empty: the task was born"
ORG = "an org id; beyond the 50 with the most, `_other`"

TASK_MOVES = Counter(
    name="jobplatform_task_moves_total", unit="moves", meaning="tasks that were born or moved from one status to another",
    labels=(("old", STATUS), ("new", "a status of the task table")))
TASKS_OPEN = Gauge(
    name="jobplatform_tasks_open", unit="tasks", meaning="tasks that have not ended; `queued` is the depth of the queue",
    labels=(("org", ORG), ("status", "an open status")))
QUEUE_OLDEST = Gauge(
    name="jobplatform_queue_oldest_seconds", unit="seconds", meaning="how long the task that waits longest has been in the queue",
    labels=(("org", ORG),))
DISPATCH_TASKS = Histogram(
    name="jobplatform_dispatch_batch_tasks", unit="tasks", meaning="tasks claimed in one batch of a dispatcher", buckets=SIZES)
DISPATCH_SECONDS = Histogram(
    name="jobplatform_dispatch_batch_seconds", unit="seconds", meaning="one batch, from the claim to the record of the deliveries")
DECISION_SECONDS = Histogram(
    name="jobplatform_decision_seconds", unit="seconds", meaning="choosing head agents for a batch of one org, by the org's strategy",
    labels=(("strategy", "a strategy"),))
DECISIONS = Counter(
    name="jobplatform_decisions_total", unit="tasks", meaning="what became of the search for a head agent",
    labels=(("strategy", "a strategy"), ("outcome", "chosen, no_agent or waiting (no room, or left for later)")))
POLICY_SECONDS = Histogram(
    name="jobplatform_policy_seconds", unit="seconds", meaning="one run of a policy script",
    labels=(("hook", "a policy hook"), ("outcome", "ok, error or none (no script)")))
SANDBOX_RESTARTS = Counter(
    name="jobplatform_sandbox_restarts_total", unit="processes", meaning="policy sandboxes that were killed or died and were replaced")
REPORTS = Counter(
    name="jobplatform_reports_total", unit="reports", meaning="what agents reported, and whether it counted",
    labels=(("kind", "a report type"), ("outcome", "applied, stale, duplicate, refused or unknown_task")))
NATS_PUBLISHES = Counter(
    name="jobplatform_nats_publishes_total", unit="messages", meaning="deliveries put on the wire",
    labels=(("result", "stored, failed or plain (nobody acknowledges those)"),))
HTTP_REQUESTS = Counter(
    name="jobplatform_http_requests_total", unit="requests", meaning="answered requests",
    labels=(("route", "a path pattern of the URL table; `admin`, `static` or `unmatched`"), ("method", "an HTTP method"),
            ("status", "the answer's status")))
HTTP_SECONDS = Histogram(
    name="jobplatform_http_request_seconds", unit="seconds", meaning="from the request's arrival to the answer's first byte",
    labels=(("route", "as above"),))
REPAIRS = Counter(
    name="jobplatform_repairs_total", unit="repairs", meaning="what upkeep found missing or over and mended",
    labels=(("what", "queued, leases, holds, told, closed (loader); expired, lapsed, undecided, escalated (sweeper); "
             "webhooks (missed deliveries)"),))
MESSAGES_REFUSED = Counter(
    name="jobplatform_messages_refused_total", unit="messages", meaning="what came from the broker and was no message of ours: dropped",
    labels=(("reason", "envelope, content_type, headers, unknown_task, arguments or body"),))
WEBHOOK_ATTEMPTS = Counter(
    name="jobplatform_webhook_attempts_total", unit="requests", meaning="webhook requests sent, by how they ended",
    labels=(("outcome", "delivered, bad_status (not 2xx), or why no answer came: refused, timeout, too_large, redirect, unsafe, tls"),))
WEBHOOK_SECONDS = Histogram(
    name="jobplatform_webhook_request_seconds", unit="seconds", meaning="one webhook request")
WEBHOOK_ENDED = Counter(
    name="jobplatform_webhook_deliveries_total", unit="deliveries", meaning="webhook deliveries that ended",
    labels=(("state", "delivered or failed (out of tries)"),))
WEBHOOKS_PENDING = Gauge(
    name="jobplatform_webhook_deliveries_pending", unit="deliveries", meaning="webhook deliveries that are due or wait for their next try",
    labels=(("org", ORG),))
EVENTS = Counter(
    name="jobplatform_events_total", unit="events", meaning="events of sessions that came in or went out, and what became of them",
    labels=(("transport", "redis, nats, kafka or none (from within)"),
            ("outcome", "handled, failed (by a handler), retried (something was away), malformed, refused, forwarded or lost")))
JOB_MOVES = Counter(
    name="jobplatform_job_moves_total", unit="moves", meaning="jobs that were born (queued) or moved to a status",
    labels=(("queue", "a queue of jobs"), ("status", "a status of a job")))
JOB_WAITED = Histogram(
    name="jobplatform_job_wait_seconds", unit="seconds", meaning="how long jobs that began were due: the queue, mostly",
    labels=(("queue", "a queue of jobs"),), buckets=LONG_SECONDS)
JOB_RAN = Histogram(
    name="jobplatform_job_run_seconds", unit="seconds", meaning="attempts of jobs, from their start to their end",
    labels=(("queue", "a queue of jobs"), ("status", "finished, failed, retrying or cancelled")), buckets=LONG_SECONDS)
JOBS_OPEN = Gauge(
    name="jobplatform_jobs_open", unit="jobs", meaning="jobs that have not ended; `queued` includes those whose time has not come",
    labels=(("org", "an org id; empty: jobs of no org; beyond the 50 with the most, `_other`"), ("queue", "a queue of jobs"),
            ("status", "queued, started or retrying")))
ROWS_REMOVED = Counter(
    name="jobplatform_rows_removed_total", unit="rows", meaning="rows whose time to be kept was over, and those of purged orgs",
    labels=(("kind", "a kind of docs/retention.md (its parts included), or purge"),))
AUDIT_ROWS = Counter(
    name="jobplatform_audit_rows_total", unit="rows", meaning="lines added to the audit trail",
    labels=(("kind", "a kind of change"),))  # fmt: skip

METRICS: dict[str, Metric] = {each.name: each for each in list(globals().values()) if isinstance(each, Metric)}
"""The published table (docs/observability.md)."""


# Telling Redis


def key() -> str:
    return redis.key("metrics")


def flush() -> bool:
    """Add what was counted to the shared hash. False: Redis is away, and it stays with us."""
    taken = tally.take()
    if not taken:
        return True
    pipe = redis.client().pipeline(transaction=False)
    for series, number in taken.items():
        pipe.hincrbyfloat(key(), SEPARATOR.join(series), number)
    pipe.expire(key(), KEEP_SECONDS)
    try:
        pipe.execute()
    except (*redis.RedisDown, redis.Refused) as error:
        tally.put_back(taken)
        log.debug("metrics.not_flushed", extra={"error": str(error)})
        return False
    return True


_flusher: threading.Thread | None = None


def start() -> None:
    """Flush now and then from now on. For processes that stay; called once they are ready for work."""
    global _flusher
    if _flusher is None:
        _flusher = threading.Thread(target=_flush_for_ever, name="metrics", daemon=True)
        _flusher.start()
        atexit.register(flush)


def _flush_for_ever() -> None:
    pause = threading.Event()
    while not pause.wait(FLUSH_SECONDS):
        try:
            flush()
        except Exception:  # the boundary: counting must never end a process, nor end by itself
            log.exception("metrics.flush_failed")


def _after_fork() -> None:
    """A child counts for itself; what its parent counted, the parent tells."""
    global _flusher
    tally.__init__()  # type: ignore[misc]
    if _flusher is not None:
        _flusher = None
        start()


os.register_at_fork(after_in_child=_after_fork)
