"""Sending: each endpoint with something due gets a lane, a thread of its own, so a slow one holds up nobody else.

A lane goes in waves: look → claim → send, up to WAVE at once → record. The claim counts the try and puts the next one where
the schedule has it, before anything is sent: whoever dies in between has only used up a try, and the delivery comes again.
So every delivery is sent at least once, and a receiver knows a second copy by its `webhook-id`. Of one task a wave holds
one delivery, so first tries come in the order of the moves; a retry may come after younger ones (`transition_id` sorts).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections

from apps.core import bulk, clock, ids, observe, tracing
from apps.core.outbound import CircuitBreaker, OutboundFailed, send
from apps.core.redis import RedisDown, log_away
from apps.orgs import audit
from apps.orgs.models import Change
from apps.tasks.models import Task
from apps.webhooks import derive, event_types, signing
from apps.webhooks.book import outbound_allow
from apps.webhooks.models import DELIVERED, FAILED, PENDING, Attempt, Delivery, Endpoint
from apps.webhooks.order import Order
from apps.webhooks.schedule import LIFE, SCHEDULE, next_try, retry_after

__all__ = ["LIFE", "Lane", "Sender"]

log = logging.getLogger(__name__)

WAVE = 4
LANES = 32
SLICE_SECONDS = 5.0
TIMEOUT_SECONDS = 15.0
ANSWER_MAX = 64 * 1024
EXCERPT = 512
CLAIM = timedelta(seconds=60)
"""A try that nobody records within this is made again."""
SULK_SECONDS = 10.0
"""The circuit breaker's pause."""
DISABLE_AFTER = timedelta(days=5)
"""An endpoint that has failed for so long without one success is disabled."""
SEEN_EVERY = timedelta(seconds=30)
ACTOR = "webhooks"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    delivery: Delivery
    at: datetime
    duration_ms: int
    status: int | None
    excerpt: str
    error: str
    kind: str
    """For the metric."""
    asked: timedelta | None = None

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_down(self) -> bool:
        """The endpoint has trouble, as opposed to not liking this one."""
        return self.status is None or self.status == 429 or self.status >= 500


class Sender:
    """Of one process. Lanes go on beyond the drain that opened them."""

    def __init__(self) -> None:
        self._lanes = ThreadPoolExecutor(LANES, thread_name_prefix="lane")
        self._sends = ThreadPoolExecutor(LANES * WAVE, thread_name_prefix="webhook")
        self._active: set[str] = set()
        self.stopping = False

    def look(self, *, now: datetime) -> int:
        """Open a lane for each endpoint that is due and not served yet; answers how many."""
        opened = 0
        for endpoint_id in Order().due(now=now):
            token = ids.secret(8)
            if endpoint_id in self._active or len(self._active) >= LANES or not Order().take(endpoint_id, token):
                continue
            self._active.add(endpoint_id)
            self._lanes.submit(self._serve, endpoint_id, token)
            opened += 1
        return opened

    def _serve(self, endpoint_id: str, token: str) -> None:
        try:
            until = time.monotonic() + SLICE_SECONDS
            Lane(endpoint_id, self._sends).run(
                going_on=lambda: not self.stopping and time.monotonic() < until and Order().keep(endpoint_id, token)
            )
        except RedisDown as error:
            log_away(error)
        except Exception:  # the boundary of a thread: one endpoint's trouble is logged and does not end the others
            log.exception("webhooks.lane_failed", extra={"endpoint": endpoint_id})
        finally:
            self._active.discard(endpoint_id)
            try:
                Order().leave(endpoint_id, token)
            except RedisDown as error:
                log_away(error)
            connections.close_all()


class Lane:
    def __init__(self, endpoint_id: str, pool: ThreadPoolExecutor | None = None, now: Callable[[], datetime] = clock.now) -> None:
        self.endpoint_id, self._pool, self._now = endpoint_id, pool, now

    def run(self, *, going_on: Callable[[], bool]) -> int:
        """Waves until nothing is due, the endpoint is down, or `going_on` ends; answers how many were sent."""
        order, breaker, width, sent = Order(), CircuitBreaker(f"webhook:{self.endpoint_id}", open_seconds=SULK_SECONDS), 1, 0
        while going_on():
            endpoint = Endpoint.objects.filter(pk=self.endpoint_id, enabled=True).first()
            if endpoint is None:
                order.drop(self.endpoint_id)
                break
            now = self._now()
            wave = self._due(now, width)
            if not wave:
                self._rest(order)
                break
            if not breaker.allows(now):
                order.put([self.endpoint_id], now + timedelta(seconds=SULK_SECONDS), sooner_only=False)
                break
            outcomes = self._send(endpoint, self._claim(wave, now))
            self.record(endpoint, outcomes, now=self._now())
            for outcome in outcomes:
                if outcome.is_down:
                    breaker.failed(outcome.at)
                else:
                    breaker.succeeded()
            width = WAVE if outcomes and not any(outcome.is_down for outcome in outcomes) else 1
            sent += len(outcomes)
        return sent

    def _due(self, now: datetime, width: int) -> list[Delivery]:
        """The next ones, one of a task or job. Those whose time is over end here."""
        rows = Delivery.objects.filter(endpoint_id=self.endpoint_id, state=PENDING, due_at__lte=now).order_by("due_at", "pk")[: width * 8]
        wave: dict[str, Delivery] = {}
        late: list[Delivery] = []
        for row in rows:
            if row.give_up_at <= now:
                late.append(row)
            elif len(wave) < width:
                wave.setdefault(row.task_key or row.job_id or row.pk, row)
        self._give_up(late, now)
        return list(wave.values()) if wave or not late else self._due(now, width)

    def _give_up(self, late: Sequence[Delivery], now: datetime) -> None:
        error = "not delivered in its time"
        fields = {"state": FAILED, "ended_at": now, "last_error": error}
        won = bulk.compare_and_set(
            Delivery, [bulk.Change(pk=row.pk, guards={"state": PENDING, "tries": row.tries}, fields=fields) for row in late]
        )
        observe.WEBHOOK_ENDED.inc(FAILED, by=len(won))

    def _rest(self, order: Order) -> None:
        """Nothing is due now: come back when something is. News may come at this very moment, and puts it earlier."""
        order.drop(self.endpoint_id)
        rows = Delivery.objects.filter(endpoint_id=self.endpoint_id, state=PENDING).order_by("due_at")
        due_at = rows.values_list("due_at", flat=True).first()
        if due_at is not None:
            order.put([self.endpoint_id], due_at)

    def _claim(self, wave: Sequence[Delivery], now: datetime) -> list[Delivery]:
        """Record the intent. Another lane may have been faster (ours was taken for dead): then it is not ours."""
        changes = [
            bulk.Change(
                pk=row.pk,
                guards={"state": PENDING, "tries": row.tries},
                fields={"tries": row.tries + 1, "due_at": max(next_try(row.step + 1, now=now) or now, now + CLAIM)},
            )
            for row in wave
        ]
        won = bulk.compare_and_set(Delivery, changes)
        claimed = [row for row in wave if row.pk in won]
        for row in claimed:
            row.tries += 1
        return claimed

    def _send(self, endpoint: Endpoint, wave: Sequence[Delivery]) -> list[Outcome]:
        allow = outbound_allow(endpoint.org_id or "")
        traces = _traces(wave)
        if self._pool is None or len(wave) == 1:
            return [self._post(endpoint, row, allow, traces) for row in wave]
        return list(self._pool.map(lambda row: self._post(endpoint, row, allow, traces), wave))

    def _post(self, endpoint: Endpoint, row: Delivery, allow: Sequence[str], traces: Mapping[str, str]) -> Outcome:
        at, began = self._now(), time.perf_counter()
        body = row.body.encode()
        headers = signing.headers(endpoint, message_id=row.pk, body=body, now=at)
        if trace := traces.get(row.task_key):
            headers["traceparent"] = trace
        try:
            reply = send(
                "POST", row.url or endpoint.url, body=body, headers=headers, timeout_s=TIMEOUT_SECONDS, max_bytes=ANSWER_MAX, allow=allow
            )
        except OutboundFailed as failed:
            found = {"status": None, "excerpt": "", "error": failed.sentence, "kind": failed.code}
        else:
            good = 200 <= reply.status < 300
            text = reply.body[:EXCERPT].decode(errors="replace").replace("\x00", "\ufffd")
            error = "" if good else f"It answered {reply.status}."
            found = {"status": reply.status, "excerpt": text, "error": error, "kind": "delivered" if good else "bad_status"}
            found["asked"] = retry_after(reply.headers, now=at)
        seconds = time.perf_counter() - began
        observe.WEBHOOK_SECONDS.observe(seconds)
        observe.WEBHOOK_ATTEMPTS.inc(str(found["kind"]))
        return Outcome(delivery=row, at=at, duration_ms=int(seconds * 1000), **found)  # type: ignore[arg-type]

    def record(self, endpoint: Endpoint, outcomes: Sequence[Outcome], *, now: datetime) -> None:
        """What became of each, and of the endpoint."""
        changes, rows = [], []
        for outcome in outcomes:
            row = outcome.delivery
            fields = {"last_status": outcome.status, "last_error": outcome.error[:255]}
            due_at = None if outcome.ok else next_try(row.step + 1, now=now, asked=outcome.asked)
            if due_at is None:
                fields |= {"state": DELIVERED if outcome.ok else FAILED, "ended_at": now}
            else:
                fields |= {"step": row.step + 1, "due_at": due_at}
            changes.append(bulk.Change(pk=row.pk, guards={"state": PENDING, "tries": row.tries}, fields=fields))
            rows.append(
                Attempt(
                    id=f"{row.pk}#{row.tries}", delivery_id=row.pk, org_id=row.org_id, endpoint_id=row.endpoint_id, number=row.tries,
                    at=outcome.at, duration_ms=outcome.duration_ms, status=outcome.status, excerpt=outcome.excerpt,
                    error=outcome.error[:255],
                )
            )  # fmt: skip
        bulk.compare_and_set(Delivery, changes)
        bulk.insert_missing(rows)
        for outcome in outcomes:
            if outcome.ok or outcome.delivery.step + 1 >= len(SCHEDULE):
                observe.WEBHOOK_ENDED.inc(DELIVERED if outcome.ok else FAILED)
        self._judge(endpoint, outcomes, now)

    def _judge(self, endpoint: Endpoint, outcomes: Sequence[Outcome], now: datetime) -> None:
        here = Endpoint.objects.filter(pk=endpoint.pk)
        if any(outcome.ok for outcome in outcomes):
            if endpoint.failing_since or not endpoint.last_delivered_at or now - endpoint.last_delivered_at > SEEN_EVERY:
                here.update(failing_since=None, last_delivered_at=now)
        elif outcomes:
            if endpoint.failing_since is None:
                here.filter(failing_since=None).update(failing_since=now)
            elif now - endpoint.failing_since >= DISABLE_AFTER:
                disable(endpoint, f"nothing could be delivered since {clock.iso(endpoint.failing_since)}", now=now)
        # One URL of many that jobs named may be gone; that says nothing of its server.
        if any(outcome.status == 410 and not outcome.delivery.url for outcome in outcomes):
            disable(endpoint, "it answered 410 Gone", now=now)


def _traces(wave: Sequence[Delivery]) -> dict[str, str]:
    """task -> the traceparent of its birth, so that what receivers do is part of the task's trace. Nothing without tracing."""
    keys = [row.task_key for row in wave if row.task_key] if tracing.on() else []
    return dict(Task.objects.filter(pk__in=keys).values_list("pk", "trace")) if keys else {}


def disable(endpoint: Endpoint, because: str, *, now: datetime) -> None:
    """Off, with a line in the audit trail, and a notice to the org's other endpoints. What is pending waits."""
    if not Endpoint.objects.filter(pk=endpoint.pk, enabled=True).update(enabled=False, disabled_because=because, updated_at=now):
        return
    derive.forget()
    kind, new, org_id = Change.Kind.WEBHOOK, {"enabled": False, "because": because}, endpoint.org_id or ""
    audit.record(org_id=org_id, kind=kind, key=endpoint.pk, old={"enabled": True}, new=new, by=ACTOR, at=now)
    log.warning("webhooks.disabled", extra={"org": org_id, "endpoint": endpoint.pk, "because": because})
    data = {"org_id": org_id, "endpoint_id": endpoint.pk, "url": endpoint.url, "reason": because}
    text = event_types.body(event_types.DISABLED, now, data)
    others = [each for each in derive.listening().get(org_id, []) if event_types.wants(each.events, event_types.DISABLED)]
    told = ids.time_ordered()
    bulk.insert_missing([derive.delivery(each, told, event_types.DISABLED, text, now) for each in others])
    Order().put([each.pk for each in others], now)
