"""An agent at work: deliveries in, handlers run, reports out.

A delivery is acknowledged only after the platform has the first report of its attempt; until then a crash brings
it back. An attempt known to this process is never started twice. The report `accepted` is sent only for handlers
that are still busy after a moment: of a quick task the platform hears one thing, its end.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from nats.aio.msg import Msg

from jobplatform_sdk import subjects, tracing
from jobplatform_sdk.attempt import Attempt, Context, Decline, Key, Retryable, iso, outcome_of
from jobplatform_sdk.bidding import Bidder, Bidding
from jobplatform_sdk.limits import clip
from jobplatform_sdk.link import Link
from jobplatform_sdk.pull import Pull
from jobplatform_sdk.reporter import Reporter
from jobplatform_sdk.task import BadDelivery, Task, read_task
from jobplatform_sdk.threads import Threads
from jobplatform_sdk.version import VERSION

log = logging.getLogger("jobplatform_sdk.agent")

ACCEPT_AFTER_SECONDS = 0.02
REMEMBERED = 20_000
"""Attempts that are over; a repeated delivery of one is only acknowledged again."""
UNSTORED_MAX = 2_000
"""Attempts beyond the running ones whose reports are not stored yet; above it nothing new is fetched."""
RUNNING_PER_HEARTBEAT = 2_000
REFUSALS_MAX = 5
SILENT_BEATS = 2
"""After missing so many heartbeats an agent listens first before it starts anything."""
FLUSH_SECONDS = 5.0
CARD_EVERY = 12
"""Heartbeats."""

ACK, NAK, TERM = b"+ACK", b"-NAK", b"+TERM"
Handler = Callable[[Task, Context], Any]


class AccessRefused(Exception):  # noqa: N818
    """NATS does not accept the API key: unknown, expired or revoked."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    token: str
    concurrency: int
    card: dict[str, Any]
    """What the agent says of itself: capabilities, limits, costs, version, description."""
    heartbeat_seconds: float
    drain_seconds: float


class Runtime:
    """One run of an agent, from `serve` to its end. All methods run on one loop."""

    def __init__(self, settings: Settings, handler: Handler, link: Link, *, bidder: Bidder | None = None, intake: str = "open") -> None:
        self._settings, self._handler, self._link = settings, handler, link
        self._bidding = Bidding(link, settings.token, bidder, self._load) if bidder else None
        self._org_id, self._subject_id = subjects.agent_of(settings.token)
        self._is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
        self._instance = uuid.uuid4().hex
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._threads = Threads(settings.concurrency)
        self._reporter = Reporter(link, self._stored)
        self._pull = Pull(link, subjects.DELIVERIES, settings.token, self._arrived)
        self._attempts: dict[Key, Attempt] = {}
        self._newest: dict[str, Attempt] = {}
        self._ready: deque[Attempt] = deque()
        self._running = 0
        self._finished: OrderedDict[Key, None] = OrderedDict()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._intake = intake
        self._beats_to_card = 0
        self._beaten_at = time.monotonic()
        self._error: BaseException | None = None

    # Life

    def stop(self) -> None:
        """Finish what runs and go; asked a second time: go at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def take_in(self, intake: str) -> None:
        """Tell the platform from now on whether this agent takes work: open, paused or draining."""
        self._intake = intake
        self._beat_now.set()

    def _came_up(self) -> None:
        self._beats_to_card = 0
        self._beat_now.set()

    async def serve(self) -> None:
        """Until `stop`. Raises AccessRefused."""
        self._link.on_up(self._came_up)
        self._link.on_refused(self._count_refusal)
        helpers = [asyncio.create_task(self._reporter.run()), asyncio.create_task(self._beat())]
        for helper in helpers:
            helper.add_done_callback(self._helper_ended)
        try:
            if self._bidding is not None:
                await self._bidding.open()  # before the first heartbeat: who is present can be called
            await self._link.open()
            await self._link.subscribe(subjects.control(self._settings.token), self._controlled)
            await self._pull.open()
            self._make_room()
            log.info("agent.started", extra={"agent": self._subject_id, "org": self._org_id, "slots": self._settings.concurrency})
            await self._stop.wait()
            if self._error is not None:
                raise self._error
            await self._leave()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            if self._bidding is not None:
                self._bidding.close()
            await self._link.close()
            self._threads.close()
        log.info("agent.stopped", extra={"agent": self._subject_id})

    def _count_refusal(self, times: int) -> None:
        if times >= REFUSALS_MAX:
            self._error = AccessRefused("NATS refused the API key: it is unknown, expired or revoked.")
            self._stop.set()

    def _helper_ended(self, helper: asyncio.Task[None]) -> None:
        """An agent that cannot report or beat any more ends loudly rather than work in silence."""
        if not helper.cancelled() and helper.exception() is not None:
            self._error = helper.exception()
            self._stop.set()

    async def _leave(self) -> None:
        log.info("agent.leaving", extra={"agent": self._subject_id, "running": self._running})
        self._beat_now.set()
        await self._pull.close()
        for attempt in self._ready:
            del self._attempts[attempt.key]
            await self._answer(attempt, NAK)
        self._ready.clear()
        if self._running:
            waits = [asyncio.create_task(self._idle.wait()), asyncio.create_task(self._hurry.wait())]
            await asyncio.wait(waits, timeout=self._settings.drain_seconds, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        for attempt in list(self._attempts.values()):
            if not attempt.over:
                self._end(attempt, "failed", {"error": "The agent stopped before the task ended.", "retryable": True})
                attempt.cancelled.set()
                if self._is_async and attempt.job is not None:
                    attempt.job.cancel()
        if self._link.is_up and not await self._reporter.drained(FLUSH_SECONDS):
            log.warning("agent.reports_lost", extra={"agent": self._subject_id})

    # Deliveries

    def _make_room(self) -> None:
        free = self._settings.concurrency - self._running - len(self._ready)
        if self._stop.is_set() or len(self._attempts) > self._settings.concurrency + UNSTORED_MAX:
            free = 0
        self._pull.room(max(0, free))

    def _load(self) -> float:
        return min(1.0, (self._running + len(self._ready)) / self._settings.concurrency)

    async def _arrived(self, message: Msg) -> None:
        await self._take(message)
        self._make_room()

    async def _take(self, message: Msg) -> None:
        if self._stop.is_set():
            await self._link.publish(message.reply, NAK)
            return
        try:
            attempt = self._read(message)
        except ValueError as error:
            log.error("delivery.malformed", extra={"subject": message.subject, "error": str(error)})
            await self._link.publish(message.reply, TERM)
            return
        known = self._attempts.get(attempt.key)
        if known is not None:
            if known.acked:
                await self._link.publish(message.reply, ACK)
            else:
                known.replies.append(message.reply)
            return
        older = self._newest.get(attempt.task.task_id)
        if attempt.key in self._finished or (older is not None and older.task.attempt > attempt.task.attempt):
            await self._link.publish(message.reply, ACK)
            return
        if older is not None:
            self._give_up(older, "a newer attempt came")
        self._attempts[attempt.key] = self._newest[attempt.task.task_id] = attempt
        if self._running < self._settings.concurrency:
            self._start(attempt)
        else:
            self._ready.append(attempt)

    def _read(self, message: Msg) -> Attempt:
        """ValueError when it is not a delivery to this agent."""
        if message.subject != subjects.deliveries(self._settings.token):
            raise BadDelivery("it was sent to another subject")
        envelope = orjson.loads(message.data)
        if not isinstance(envelope, dict):
            raise BadDelivery("it is not an object")
        reply_subject = envelope.get("reply_subject")
        if not isinstance(reply_subject, str):
            raise BadDelivery("reply_subject is missing")
        named = subjects.parse_report(reply_subject)
        if (named.org_id, named.sender_subject_id) != (self._org_id, self._subject_id):
            raise BadDelivery("its reports belong to another agent")
        task = read_task(envelope, org_id=named.org_id, task_id=named.task_id)
        return Attempt(task, subject=reply_subject, reply=message.reply)

    async def _controlled(self, message: Msg) -> None:
        try:
            order = orjson.loads(message.data)
        except orjson.JSONDecodeError:
            order = None
        if not isinstance(order, dict) or order.get("type") != "cancel":
            log.warning("control.unknown", extra={"size": len(message.data)})
            return
        task_id, number = order.get("task_id"), order.get("attempt")
        if not isinstance(task_id, str) or not isinstance(number, int):
            return
        attempt = self._attempts.get((task_id, number))
        if attempt is not None:
            self._give_up(attempt, str(order.get("reason", "")))
        else:
            self._remember((task_id, number))  # its delivery may be on the way

    def _give_up(self, attempt: Attempt, reason: str) -> None:
        """Nobody wants the result: stop, say nothing, do not ask for it again."""
        log.info("task.cancelled", extra={"task": attempt.task.task_id, "attempt": attempt.task.attempt, "reason": reason})
        attempt.cancelled.set()
        attempt.over = True
        if attempt.timer is not None:
            attempt.timer.cancel()
        if attempt in self._ready:
            self._ready.remove(attempt)
        if self._is_async and attempt.job is not None:
            attempt.job.cancel()
        self._forget(attempt)
        self._loop.create_task(self._answer(attempt, ACK))

    # Work

    def _start(self, attempt: Attempt) -> None:
        self._running += 1
        self._idle.clear()
        attempt.started_at = time.time()
        attempt.timer = self._loop.call_later(ACCEPT_AFTER_SECONDS, self._accept, attempt)
        attempt.job = self._loop.create_task(self._work(attempt))
        attempt.job.add_done_callback(self._freed)

    def _accept(self, attempt: Attempt) -> None:
        self._reporter.put(attempt, "accepted", {"started_at": iso(attempt.started_at)})

    async def _work(self, attempt: Attempt) -> None:
        context = Context(attempt, self._reporter.put, self._loop, self._loop_thread)
        try:
            if self._was_silent():
                await self._link.caught_up()
                if attempt.over:
                    return
            with tracing.handling(attempt.task, self._subject_id) as attempt.trace:
                if self._is_async:
                    result = await self._handler(attempt.task, context)
                else:
                    # The thread sees what is bound here, the span among it.
                    bound = contextvars.copy_context()
                    result = await self._threads.run(lambda: bound.run(self._handler, attempt.task, context))
            kind, fields = outcome_of(result)
        except Decline as answer:
            kind, fields = "declined", {"reason": clip(answer.reason)}
        except Retryable as error:
            kind, fields = "failed", {"error": clip(str(error) or "Retryable"), "retryable": True}
        except asyncio.CancelledError:
            # Ours, and reported by whoever cancelled; or the handler's own doing.
            kind, fields = "failed", {"error": "The handler was cancelled.", "retryable": True}
        except BaseException as error:  # the boundary of foreign code
            log.warning("task.failed", extra={"task": attempt.task.task_id, "attempt": attempt.task.attempt}, exc_info=error)
            kind, fields = "failed", {"error": clip(f"{type(error).__name__}: {error}".rstrip(": ")), "retryable": False}
        self._end(attempt, kind, fields)

    def _freed(self, _job: asyncio.Task[None]) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()
        while self._ready and self._running < self._settings.concurrency and not self._stop.is_set():
            self._start(self._ready.popleft())
        self._make_room()

    def _end(self, attempt: Attempt, kind: str, fields: dict[str, Any]) -> None:
        if attempt.timer is not None:
            attempt.timer.cancel()
        times = {"started_at": iso(attempt.started_at), "ended_at": iso(time.time())}
        self._reporter.put(attempt, kind, times | fields, last=True)

    async def _stored(self, attempt: Attempt, last: bool) -> None:
        if not attempt.acked:
            await self._answer(attempt, ACK)
        if last:
            self._forget(attempt)
            self._make_room()

    async def _answer(self, attempt: Attempt, answer: bytes) -> None:
        """To JetStream. One that gets lost brings the delivery again, and is repeated then."""
        attempt.acked = True
        for reply in attempt.replies:
            await self._link.publish(reply, answer)

    def _forget(self, attempt: Attempt) -> None:
        if self._attempts.get(attempt.key) is attempt:
            del self._attempts[attempt.key]
        if self._newest.get(attempt.task.task_id) is attempt:
            del self._newest[attempt.task.task_id]
        self._remember(attempt.key)

    def _remember(self, key: Key) -> None:
        self._finished[key] = None
        if len(self._finished) > REMEMBERED:
            self._finished.popitem(last=False)

    # Heartbeats

    def _was_silent(self) -> bool:
        """Frozen, or held up by a handler: what we hold may have been given to others, and the word of it lies unread."""
        return time.monotonic() - self._beaten_at > SILENT_BEATS * self._settings.heartbeat_seconds

    async def _beat(self) -> None:
        """At the start, at regular times, after every reconnection, and when leaving."""
        while True:
            await self._link.wait_up()
            if self._was_silent():
                await self._link.caught_up()
            self._beaten_at = time.monotonic()
            self._beat_now.clear()
            keys = list(self._attempts)
            for start in range(0, max(1, len(keys)), RUNNING_PER_HEARTBEAT):
                await self._link.publish(
                    subjects.heartbeat(self._settings.token), self._heartbeat(keys[start : start + RUNNING_PER_HEARTBEAT])
                )
            try:
                async with asyncio.timeout(self._settings.heartbeat_seconds):
                    await self._beat_now.wait()
            except TimeoutError:
                continue

    def _heartbeat(self, running: list[Key]) -> bytes:
        beat: dict[str, Any] = {
            "subject_id": self._subject_id,
            "instance": self._instance,
            "slots": self._settings.concurrency,
            "running": running,
            "capabilities": self._settings.card.get("capabilities", []),
            "version": VERSION,
            "intake": self._intake,
            "leaving": self._stop.is_set(),
        }
        # The card with the first beat of a connection, and now and then: one that was lost is not missed for long.
        if self._settings.card and not self._beats_to_card:
            beat["card"] = self._settings.card
        self._beats_to_card = (self._beats_to_card or CARD_EVERY) - 1
        return orjson.dumps(beat)
