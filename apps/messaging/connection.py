"""The platform's side of the wire: one NATS connection per process, kept by a background thread, usable from any
thread of synchronous code. It reconnects for ever; what cannot be sent is said, never raised by surprise.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from django.conf import settings
from nats.aio.msg import Msg

from apps.messaging import streams, subjects
from apps.messaging.asking import Asker, Round
from apps.messaging.credentials import platform_credentials
from apps.messaging.streams import Standing
from jobplatform_sdk.link import Link, LinkDown, Listening, NobodyThere, NotStored, Outgoing

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Delivery = Outgoing
"""`Delivery(subject=, payload=, msg_id=)`"""
WireDown = LinkDown

CALL_SECONDS = 5.0
CLOSE_SECONDS = 3.0
OUTBOX_MAX = 20_000
AGENTS_FRESH_SECONDS = 30.0
"""How long an agent's consumer is believed to be there: another process may have seen its stream vanish."""

__all__ = ["Delivery", "NotStored", "Subscription", "Wire", "WireDown", "reset", "wire"]


class Subscription:
    """`close()` ends it; safe to call twice and from any thread."""

    def __init__(self, on: Wire, listening: Listening) -> None:
        self._wire, self._listening = on, listening

    def close(self) -> None:
        self._wire.soon(self._listening.close())


class Wire:
    def __init__(self, url: str, *, name: str = "platform", options: dict[str, Any] | None = None) -> None:
        self.dropped = 0
        """Core messages that were not sent because NATS was away or the outbox full."""
        self._loop = asyncio.new_event_loop()
        self._link = Link(url, name=f"{name}@{socket.gethostname()}:{os.getpid()}", options=options)
        self._link.on_up(self._came_up)
        self._asker = Asker(self._link)
        self._outbox: deque[tuple[str, bytes]] = deque()
        self._flushing = False
        self._agents_seen: dict[str, float] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._thread.start()
        self._wait_for(self._link.open(), CALL_SECONDS)

    @property
    def link(self) -> Link:
        """For code that runs on the wire's own loop."""
        return self._link

    def healthy(self) -> bool:
        return self._link.is_up

    def wait_up(self, timeout_seconds: float) -> bool:
        return self._wait_for(self._link.wait_up(timeout_seconds), timeout_seconds + CALL_SECONDS)

    # Streams

    def deliver(self, deliveries: Sequence[Delivery], *, timeout_seconds: float = CALL_SECONDS) -> list[int | Exception]:
        """Store all of them; per message its stream sequence, WireDown (try again later) or NotStored (do not).

        A missing stream is made and the message sent again. Raises nothing for a message.
        """
        try:
            return self._wait_for(self._deliver(deliveries, timeout_seconds), 3 * timeout_seconds + CALL_SECONDS)
        except WireDown as error:
            return [error] * len(deliveries)

    def ensure_streams(self) -> None:
        """Raises WireDown."""
        self._wait_for(streams.ensure_streams(self._link), 2 * CALL_SECONDS)

    def ensure_agents(self, tokens: Iterable[str]) -> None:
        """A durable consumer for each agent. Cheap when they were seen lately. Raises WireDown."""
        now = time.monotonic()
        unseen = [token for token in set(tokens) if self._agents_seen.get(token, 0.0) <= now]
        if unseen:
            self._wait_for(streams.ensure_agents(self._link, unseen), 4 * CALL_SECONDS + len(unseen) / 100)
            self._agents_seen.update(dict.fromkeys(unseen, now + AGENTS_FRESH_SECONDS))

    def delete_delivery(self, sequences: Iterable[int]) -> None:
        """Take deliveries out of the stream: cancelled, or given to another agent. Raises WireDown."""
        self._wait_for(streams.delete_messages(self._link, subjects.DELIVERIES, sequences), 4 * CALL_SECONDS)

    def forget_org(self, org_id: str) -> None:
        """Its messages and its agents' consumers. Raises WireDown."""
        self.wait_up(CALL_SECONDS)  # a command at its terminal has made the connection just now
        self._wait_for(streams.forget_org(self._link, org_id), 12 * CALL_SECONDS)
        self._agents_seen.clear()

    def deliveries_of(self, token: str) -> Standing:
        """How far this agent is with its deliveries. Raises WireDown."""
        return self._wait_for(streams.standing(self._link, subjects.DELIVERIES, token), 4 * CALL_SECONDS)

    def reports(self) -> Standing:
        """How far the listeners are with what agents reported. Raises WireDown."""
        return self._wait_for(streams.standing(self._link, subjects.REPORTS, subjects.LISTENER), 4 * CALL_SECONDS)

    async def _deliver(self, deliveries: Sequence[Delivery], timeout_seconds: float) -> list[int | Exception]:
        results = await self._link.store(deliveries, timeout_seconds=timeout_seconds)
        again = [index for index, result in enumerate(results) if isinstance(result, NobodyThere)]
        if again:
            # The store was lost. The ids keep a message from being stored twice should the first have made it after all.
            self._agents_seen.clear()
            try:
                await streams.ensure_streams(self._link)
                lost = {deliveries[index].subject for index in again}
                await streams.ensure_agents(self._link, (subjects.parse_agent(subject) for subject in lost if subject.endswith(".tasks")))
            except LinkDown as error:
                log.warning("nats.streams_missing", extra={"error": str(error)})
                return results
            repeated = await self._link.store([deliveries[index] for index in again], timeout_seconds=timeout_seconds)
            for index, result in zip(again, repeated, strict=True):
                results[index] = result
        return results

    # Core NATS

    def publish(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """(subject, payload) each; fire and forget, in order. Dropped and counted while NATS is away."""
        self._outbox.extend(messages)
        if not self._flushing:
            self._flushing = True
            try:
                self._loop.call_soon_threadsafe(self._start_flush)
            except RuntimeError:  # closed: the process is ending
                self._flushing = False

    def _start_flush(self) -> None:
        self._loop.create_task(self._flush())

    async def _flush(self) -> None:
        while True:
            while self._outbox:
                subject, payload = self._outbox.popleft()
                if len(self._outbox) >= OUTBOX_MAX or not await self._link.publish(subject, payload):
                    self.dropped += 1
            self._flushing = False
            if not self._outbox or self._flushing:  # whoever adds from now on starts a flush of their own
                return
            self._flushing = True

    def ask(self, rounds: Sequence[Round]) -> list[float]:
        """Ask many at once (`asking.py`): back when each round is complete or its time is up; milliseconds each took. WireDown."""
        longest = max((each.seconds for each in rounds), default=0.0)
        return self._wait_for(self._asker.ask(rounds), longest + 2 * CALL_SECONDS)

    def subscribe(
        self,
        subject: str,
        callback: Callable[[str, bytes], None],
        queue: str = "",
        *,
        on_gap: Callable[[], None] | None = None,
    ) -> Subscription:
        """`callback(subject, payload)` and `on_gap()` run on the wire thread and must not block. When NATS is up, the
        subscription is in force on return. `on_gap`: messages may have been missed, the connection was away."""

        async def receive(message: Msg) -> None:
            callback(message.subject, message.data)

        listening = self._wait_for(self._link.subscribe(subject, receive, queue=queue, on_gap=on_gap), 2 * CALL_SECONDS)
        return Subscription(self, listening)

    # The thread

    def close(self) -> None:
        """Safe to call twice. What `publish` was given is sent first when NATS is up."""
        if self._closed:
            return
        self._closed = True
        try:
            self._wait_for(self._shut(), CLOSE_SECONDS)
        except WireDown:
            log.info("nats.close_timed_out")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)

    async def _shut(self) -> None:
        await self._flush()
        await self._link.close()

    def soon(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run it on the loop; nobody waits."""
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # closed
            work.close()

    def call(self, work: Coroutine[Any, Any, Answer], timeout_seconds: float) -> Answer:
        """Run it on the loop and wait. WireDown when it takes too long."""
        return self._wait_for(work, timeout_seconds)

    def _wait_for(self, work: Coroutine[Any, Any, Answer], timeout_seconds: float) -> Answer:
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("The wire thread must not wait for itself.")
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise WireDown("The connection was closed.") from None
        try:
            return future.result(timeout_seconds)
        except FutureTimeout:
            future.cancel()
            raise WireDown("No answer came in time.") from None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self._loop.close()

    def _came_up(self) -> None:
        # The server may have lost its disk: look again at what must be there.
        self._agents_seen.clear()
        self._loop.create_task(self._ensure_streams_quietly())

    async def _ensure_streams_quietly(self) -> None:
        try:
            await streams.ensure_streams(self._link)
        except LinkDown as error:
            log.warning("nats.streams_missing", extra={"error": str(error)})


_lock = threading.Lock()
_wire: Wire | None = None
_inherited: list[Wire] = []


def wire() -> Wire:
    """This process's connection, made at the first call. It may not be up yet: nothing waits here for NATS."""
    global _wire
    with _lock:
        if _wire is None:
            _wire = Wire(settings.NATS_URL, options=platform_credentials().options())
        return _wire


def reset() -> None:
    """Close and forget it (tests that move to another server)."""
    global _wire
    with _lock:
        current, _wire = _wire, None
    if current is not None:
        current.close()


def _forget_in_child() -> None:
    """After a fork the thread is not there, and the sockets are the parent's. The object is kept, not collected:
    collecting its transports would take their descriptors out of the poll set shared with the parent."""
    global _wire, _lock
    _lock = threading.Lock()
    if _wire is not None:
        _inherited.append(_wire)
        _wire = None


os.register_at_fork(after_in_child=_forget_in_child)
atexit.register(reset)
