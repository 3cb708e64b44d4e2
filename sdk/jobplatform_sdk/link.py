"""A NATS connection that stays: it comes back by itself for ever, and its subscriptions with it.

Both the platform and the agents stand on it. nats-py speaks the protocol; its own reconnection is off, because
it gives up after an authorization error and cannot say what was lost. Everything here runs on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.nuid import NUID

from jobplatform_sdk.acknowledgements import NO_RESPONDERS, Acknowledgements, LinkDown, NobodyThere, NotStored, Outgoing, TooBig, status

__all__ = ["NO_RESPONDERS", "Link", "LinkDown", "Listening", "NobodyThere", "NotStored", "Outgoing", "TooBig", "round_trip", "status"]

log = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
PING_SECONDS = 5
WATCH_SECONDS = 0.5
FLUSH_SECONDS = 5
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.05, 2.0

Receive = Callable[[Msg], Awaitable[None]]


class Listening:
    """A subscription that outlives connections. `await close()` ends it."""

    def __init__(self, link: Link, subject: str, receive: Receive, queue: str, on_gap: Callable[[], None] | None) -> None:
        self._link, self.subject, self.receive, self.queue, self.on_gap = link, subject, receive, queue, on_gap
        self.current: Subscription | None = None

    async def close(self, *, drain: bool = False) -> None:
        """With `drain`, what the server sent before it knew is still received."""
        self._link.listening.discard(self)
        current, self.current = self.current, None
        client = self._link.client
        if current is None or client is None:
            return
        try:
            if drain:
                # First the server forgets it: nats-py's own drain may forget it before that.
                await client._send_unsubscribe(current._id)
                await round_trip(client)
                await current.drain()
            else:
                await current.unsubscribe()
        except (NatsError, OSError) as error:
            log.debug("nats.unsubscribe_failed", extra={"subject": self.subject, "error": str(error)})


class Link:
    def __init__(self, url: str, *, name: str, options: dict[str, Any] | None = None, inbox_prefix: str = "_INBOX") -> None:
        """`url`: one or several, joined by commas. `options`: credentials for nats-py's `connect`."""
        self._servers = [part.strip() for part in url.split(",") if part.strip()]
        places = [urlsplit(server if "://" in server else f"nats://{server}") for server in self._servers]
        for server, place in zip(self._servers, places, strict=True):
            if not place.hostname:
                raise ValueError(f"Not the address of a NATS server: {server!r}")
        self._at = ", ".join(place.netloc.rpartition("@")[2] for place in places)  # a password may stand in front of it
        self._options = {"name": name, **(options or {})}
        self.inbox = f"{inbox_prefix}.{NUID().next().decode()}"
        self.listening: set[Listening] = set()
        self._refusals = 0
        self._on_up: list[Callable[[], None]] = []
        self._on_refused: list[Callable[[int], None]] = []
        self.client: Client | None = None
        """nats-py's, while the connection is there."""
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False
        self._up = asyncio.Event()
        self._acks = Acknowledgements(f"{self.inbox}.ack")
        self._answers: dict[str, asyncio.Future[Msg]] = {}
        self._count = 0

    # Life

    async def open(self) -> None:
        """Start keeping the connection; returns at once."""
        if self._keeper is None:
            await self.subscribe(self._acks.subjects, self._acks.received)
            await self.subscribe(f"{self.inbox}.answer.*", self._answered)
            self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        self._closing = True
        if self._keeper is not None:
            keeper, self._keeper = self._keeper, None
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    @property
    def max_payload(self) -> int:
        """Bytes; a guess until first connected."""
        return self.client.max_payload if self.client is not None else 1024 * 1024

    def on_up(self, callback: Callable[[], None]) -> None:
        """Call it on the loop each time the connection is there (again), subscriptions included."""
        self._on_up.append(callback)

    def on_refused(self, callback: Callable[[int], None]) -> None:
        """Call it with how often in a row the server refused our credentials, each time it does."""
        self._on_refused.append(callback)

    async def wait_up(self, timeout_seconds: float | None = None) -> bool:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._up.wait()
        except TimeoutError:
            return False
        return True

    async def _keep(self) -> None:
        wait = FIRST_WAIT_SECONDS
        was_up = True
        while not self._closing:
            try:
                await self._connect_and_stay(was_up)
                wait, was_up = FIRST_WAIT_SECONDS, True
            except (NatsError, OSError, TimeoutError) as error:
                self._count_refusal(str(error).lower())
                if was_up:
                    log.warning("nats.away", extra={"at": self._at, "error": str(error) or type(error).__name__})
                was_up = False
            except Exception:  # the boundary of a foreign library: whatever it trips over, a new connection starts afresh
                log.exception("nats.tripped")
            await asyncio.sleep(wait * random.uniform(0.7, 1.3))
            if not was_up:
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    async def _connect_and_stay(self, was_up: bool) -> None:
        """Returns when a connection that was there is lost; raises when there is none to be had."""
        closed = asyncio.Event()
        client = await self._connect(closed)
        try:
            await self._start(client)
            self._refusals = 0
            if not was_up:
                log.warning("nats.back")
            await self._watch(client, closed)
            log.info("nats.lost")
        finally:
            self._lost()
            await _quietly_close(client)

    async def _watch(self, client: Client, closed: asyncio.Event) -> None:
        """Until the connection is lost. nats-py does not always say so: an error while closing keeps its callback from
        being called. And its waiting may swallow our cancellation on Python 3.11, hence `_closing`."""
        while client.is_connected and not closed.is_set() and not self._closing:
            try:
                async with asyncio.timeout(WATCH_SECONDS):
                    await closed.wait()
            except TimeoutError:
                continue

    def _count_refusal(self, error: str) -> None:
        if "authorization" in error or "authentication" in error:
            self._refusals += 1
            for callback in self._on_refused:
                callback(self._refusals)
        else:
            self._refusals = 0

    async def _connect(self, closed: asyncio.Event) -> Client:
        async def on_closed() -> None:
            closed.set()

        client = Client()
        try:
            await client.connect(
                self._servers,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_SECONDS,  # type: ignore[arg-type]
                ping_interval=PING_SECONDS,
                max_outstanding_pings=2,
                error_cb=_log_error,
                closed_cb=on_closed,
                **self._options,
            )
        except BaseException:
            await _quietly_close(client)
            raise
        return client

    async def _start(self, client: Client) -> None:
        """Subscriptions first, then say that we are up."""
        self.client = client
        gaps = [listening.on_gap for listening in self.listening if listening.on_gap]
        # Somebody may subscribe while we wait for the server: until all are known to it.
        while missing := [listening for listening in self.listening if listening.current is None]:
            for listening in missing:
                listening.current = await client.subscribe(listening.subject, listening.queue, listening.receive)
            await round_trip(client)
        self._up.set()
        for callback in gaps + self._on_up:
            callback()

    def _lost(self) -> None:
        self.client = None
        self._up.clear()
        for listening in self.listening:
            listening.current = None
        self._acks.lost()
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(LinkDown("The connection broke before the answer."))

    # Core NATS

    async def subscribe(self, subject: str, receive: Receive, *, queue: str = "", on_gap: Callable[[], None] | None = None) -> Listening:
        """When up, returns after the server knows of it. `on_gap` is called on the loop whenever messages may have
        been missed: the connection was away and the subscription is there again."""
        listening = Listening(self, subject, receive, queue, on_gap)
        self.listening.add(listening)
        client = self.client
        if client is not None and self._up.is_set():
            try:
                listening.current = await client.subscribe(subject, queue, receive)
                await round_trip(client)
            except (NatsError, OSError) as error:
                # A late answer to a given-up ping would confuse nats-py; a new connection subscribes again.
                log.info("nats.subscribe_failed", extra={"subject": subject, "error": str(error)})
                await _quietly_close(client)
        return listening

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> bool:
        """Fire and forget; False when it could not even be tried."""
        client = self.client
        if client is None:
            return False
        try:
            await client.publish(subject, payload, reply)
        except (NatsError, OSError) as error:
            log.info("nats.not_published", extra={"subject": subject, "error": str(error) or type(error).__name__})
            return False
        return True

    async def caught_up(self) -> None:
        """When up, what the server had sent by now has been received."""
        client = self.client
        if client is None or not self._up.is_set():
            return
        try:
            await round_trip(client)
        except (NatsError, OSError, TimeoutError) as error:
            # A late answer to a given-up ping would confuse nats-py; a new connection starts afresh.
            log.info("nats.no_round_trip", extra={"error": str(error) or type(error).__name__})
            await _quietly_close(client)

    async def request(self, subject: str, payload: bytes = b"", *, timeout_seconds: float = 5.0) -> bytes:
        """One answer. LinkDown, or NobodyThere."""
        self._count += 1
        token = str(self._count)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        try:
            if not await self.publish(subject, payload, f"{self.inbox}.answer.{token}"):
                raise LinkDown("NATS is away.")
            async with asyncio.timeout(timeout_seconds):
                message = await answer
        except TimeoutError:
            raise LinkDown("No answer came.") from None
        finally:
            self._answers.pop(token, None)
        if status(message) == NO_RESPONDERS:
            raise NobodyThere("Nobody listens there.")
        return message.data

    async def _answered(self, message: Msg) -> None:
        answer = self._answers.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)

    # Streams

    async def store(self, messages: Sequence[Outgoing], *, timeout_seconds: float = 5.0) -> list[int | Exception]:
        """Publish to JetStream, all acknowledgements in flight at once. Per message its sequence in the stream, or
        LinkDown (NobodyThere: no stream) or NotStored. Raises nothing."""
        return await self._acks.store(self.client, messages, timeout_seconds)


async def round_trip(client: Client) -> None:
    """Everything sent before has reached the server, and what it had sent by then is here."""
    await client.flush(FLUSH_SECONDS)  # its ping overtakes what nats-py has not written yet…
    await client.flush(FLUSH_SECONDS)  # …which by now is written


async def _quietly_close(client: Client) -> None:
    try:
        await client.close()
    except (NatsError, OSError, TimeoutError) as error:
        log.debug("nats.close_failed", extra={"error": str(error)})


async def _log_error(error: Exception) -> None:
    """nats-py's asynchronous errors: a refused subject matters, so does a fault of whoever received a message; a broken
    connection is reported by the keeper."""
    if "permissions violation" in str(error):
        log.error("nats.refused", extra={"error": str(error)})
    elif not isinstance(error, NatsError | OSError | TimeoutError):
        log.error("nats.receiver_failed", exc_info=error)
    else:
        log.debug("nats.error", extra={"error": str(error) or type(error).__name__})
