"""Taking messages from a durable pull consumer, never more than there is room for.

Requests stand open at the server, so a message is here the moment it is stored. A request may get lost (the server
was killed, the consumer deleted): each has an end, and is made again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import orjson
from nats.aio.msg import Msg

from jobplatform_sdk.link import NO_RESPONDERS, Link, Listening, status

log = logging.getLogger(__name__)

EXPIRES_SECONDS = 10.0
GRACE_SECONDS = 3.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 5.0

_ENDED = {"404", "408"}
"""Statuses of a request that ended as it should: nothing there, time is up."""


class _Request:
    __slots__ = ("left", "timer")

    def __init__(self, left: int, timer: asyncio.TimerHandle) -> None:
        self.left, self.timer = left, timer


class Pull:
    """`room(n)` says how many more messages may come; `receive` gets each of them on the loop."""

    def __init__(
        self,
        link: Link,
        stream: str,
        durable: str,
        receive: Callable[[Msg], Awaitable[None]],
        *,
        on_missing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`on_missing` is awaited when the consumer does not exist, before the next try."""
        self._link, self._durable, self._receive, self._on_missing = link, durable, receive, on_missing
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._inbox = f"{link.inbox}.pull.{id(self):x}"
        self._listening: Listening | None = None
        self._requests: dict[str, _Request] = {}  # in the order made: the server serves them in that order
        self._count = 0
        self._room = 0
        self._most = 1
        self._wait = FIRST_WAIT_SECONDS
        self._paused: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[bool] | None = None

    async def open(self) -> None:
        self._listening = await self._link.subscribe(f"{self._inbox}.*", self._arrived, on_gap=self._start_over)

    async def close(self) -> None:
        """What the server sent before it knew is still received; nothing after."""
        self._room = 0
        self._forget_requests()
        if self._paused is not None:
            self._paused.cancel()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        if self._listening is not None:
            await self._listening.close(drain=True)

    def room(self, messages: int) -> None:
        """From now on at most so many messages may arrive, until said otherwise."""
        self._room = messages
        self._most = max(self._most, messages)
        self._ask()

    def _outstanding(self) -> int:
        return sum(request.left for request in self._requests.values())

    def _ask(self) -> None:
        """Top up, but in portions: one request for each place that gets free would cost as much as the message."""
        if self._asking is not None or self._paused is not None or not self._link.is_up or self._listening is None:
            return
        outstanding = self._outstanding()
        missing = self._room - outstanding
        if missing > 0 and (not outstanding or missing * 2 >= self._most):
            self._asking = asyncio.create_task(self._request(missing))
            self._asking.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[bool]) -> None:
        self._asking = None
        if not task.cancelled() and task.result():
            self._ask()  # there may be more room by now

    async def _request(self, batch: int) -> bool:
        self._count += 1
        token = str(self._count)
        loop = asyncio.get_running_loop()
        # The server tells when a request ends; this is for the request, or the word of its end, that got lost.
        timer = loop.call_later(EXPIRES_SECONDS + GRACE_SECONDS, self._ended, token)
        self._requests[token] = _Request(batch, timer)
        payload = orjson.dumps({"batch": batch, "expires": int(EXPIRES_SECONDS * 1e9)})
        if await self._link.publish(self._next, payload, f"{self._inbox}.{token}"):
            return True
        self._drop(token)
        return False

    async def _arrived(self, message: Msg) -> None:
        if message.subject.startswith(self._inbox):
            code = status(message)
            token = message.subject.rpartition(".")[2]
            if code in _ENDED:
                self._ended(token)
            elif code:
                await self._failed(token, code, message)
            return
        self._wait = FIRST_WAIT_SECONDS
        token = next(iter(self._requests), None)
        if token is not None:
            self._requests[token].left -= 1
            if not self._requests[token].left:
                self._drop(token)
        await self._receive(message)

    async def _failed(self, token: str, code: str, message: Msg) -> None:
        """409: the consumer is gone, the server is going, too many requests wait. 503: nobody answers for it."""
        self._drop(token)
        missing = code == NO_RESPONDERS or "Consumer" in (message.headers or {}).get("Description", "")
        log.info("pull.refused", extra={"consumer": self._durable, "status": code})
        self._pause()
        if missing and self._on_missing is not None:
            await self._on_missing()

    def _pause(self) -> None:
        if self._paused is None:
            self._paused = asyncio.get_running_loop().call_later(self._wait, self._go_on)
            self._wait = min(self._wait * 2, LONGEST_WAIT_SECONDS)

    def _go_on(self) -> None:
        self._paused = None
        self._ask()

    def _ended(self, token: str) -> None:
        self._drop(token)
        self._ask()

    def _drop(self, token: str) -> None:
        request = self._requests.pop(token, None)
        if request is not None:
            request.timer.cancel()

    def _forget_requests(self) -> None:
        for token in list(self._requests):
            self._drop(token)

    def _start_over(self) -> None:
        """A new connection knows nothing of the old requests."""
        self._forget_requests()
        self._wait = FIRST_WAIT_SECONDS
        self._ask()
