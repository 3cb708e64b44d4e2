"""Batches from a durable pull consumer, for synchronous code (the listener)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from nats.aio.msg import Msg

from apps.messaging import streams
from apps.messaging.connection import CALL_SECONDS, Wire, wire
from jobplatform_sdk.link import LinkDown
from jobplatform_sdk.pull import Pull

BUFFER_SECONDS = 10.0
"""Messages held longer than this were not asked for in time; the server gives them to somebody else soon."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """`ack_token` is where its acknowledgement goes; `arrived` is on the monotonic clock, seconds."""

    subject: str
    data: bytes
    headers: dict[str, str]
    ack_token: str
    arrived: float = field(repr=False)


class PullConsumer:
    """Survives server restarts and lost stores. One thread fetches; any may acknowledge."""

    def __init__(self, stream: str, durable: str, *, on: Wire | None = None) -> None:
        self._wire = on or wire()
        self._ready: deque[Message] = deque()
        self._some = threading.Condition()
        self._asked = 0
        self._pull = Pull(self._wire.link, stream, durable, self._receive, on_missing=self._make_again)
        self._wire.call(self._pull.open(), 2 * CALL_SECONDS)

    def fetch(self, max_messages: int, timeout_seconds: float) -> list[Message]:
        """What is there now, at most `max_messages`; waits up to `timeout_seconds` for the first. [] when none came,
        or NATS is away."""
        deadline = time.monotonic() + timeout_seconds
        self._want(max_messages)
        with self._some:
            while not self._fresh():
                left = deadline - time.monotonic()
                if left <= 0 or not self._some.wait(left):
                    break
            batch = [self._ready.popleft() for _ in range(min(max_messages, len(self._ready)))]
        if batch:
            self._want(max_messages)  # the next ones come while these are worked on
        return batch

    def ack(self, messages: Iterable[Message]) -> None:
        """Done with them. One whose acknowledgement gets lost comes again."""
        self._wire.publish((message.ack_token, b"+ACK") for message in messages)

    def close(self) -> None:
        """Messages not handed out yet are given back."""
        self._wire.call(self._pull.close(), 2 * CALL_SECONDS)
        with self._some:
            left, self._ready = list(self._ready), deque()
        self._wire.publish((message.ack_token, b"-NAK") for message in left)

    def _fresh(self) -> bool:
        """Drops what waited here so long that the server is about to send it again."""
        while self._ready and self._ready[0].arrived < time.monotonic() - BUFFER_SECONDS:
            self._ready.popleft()
        return bool(self._ready)

    def _want(self, messages: int) -> None:
        self._asked = messages
        self._wire.soon(self._make_room())

    async def _make_room(self) -> None:
        self._pull.room(max(0, self._asked - len(self._ready)))

    async def _receive(self, message: Msg) -> None:
        with self._some:
            self._ready.append(
                Message(
                    subject=message.subject,
                    data=message.data,
                    headers=message.headers or {},
                    ack_token=message.reply,
                    arrived=time.monotonic(),
                )
            )
            self._some.notify()
        await self._make_room()

    async def _make_again(self) -> None:
        try:
            await streams.ensure_streams(self._wire.link)
        except LinkDown:
            return  # the pull tries again, and comes back here
