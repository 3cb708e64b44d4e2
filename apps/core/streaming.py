"""Server-sent events, and how many requests may hold a thread for them (or for waiting) in one process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.conf import settings

from apps.core.errors import Unavailable

BEAT_SECONDS = 15.0
"""A silent stream shows a sign of life this often, and looks at the truth in case news was lost."""


class Crowded(Unavailable):
    code, sentence = "too_many_waiting", "Too many requests are waiting or streaming here right now."


class Seats:
    """How many requests may wait at once in this process."""

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)

    def take(self) -> Seat | None:
        return Seat(self._free) if self._free.acquire(blocking=False) else None


class Seat(AbstractContextManager["Seat"]):
    def __init__(self, free: threading.BoundedSemaphore) -> None:
        self._free: threading.BoundedSemaphore | None = free

    def release(self) -> None:
        if self._free is not None:
            self._free, free = None, self._free
            free.release()

    def __exit__(self, *_: object) -> None:
        self.release()


@lru_cache(maxsize=1)
def seats() -> Seats:
    return Seats(settings.WEB_MAX_WAITING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Happening:
    """One thing to tell a follower."""

    name: str
    data: dict[str, Any]
    id: str = field(default="")
    """Where to go on after (the transition's id); "" when there is no such place."""


class Stream:
    """An iterator with a seat. Whoever iterates it, or never starts to, must close it."""

    def __init__(self, chunks: Generator[bytes], seat: Seat, *, first: bytes) -> None:
        self._chunks, self._seat, self._first = chunks, seat, first

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        return next(self._chunks)

    def close(self) -> None:
        self._chunks.close()
        self._seat.release()


def stream(happenings: Iterator[Happening | None], *, away: type[Exception] | tuple[type[Exception], ...]) -> Stream:
    """Happenings as server-sent events. Crowded when no seat is free; `away`, raised before the first, is Unavailable: no news
    is to be had."""
    seat = seats().take()
    if seat is None:
        raise Crowded()
    chunks = encoded(happenings)
    try:
        # The first one now, while an error can still be an answer.
        first = next(chunks, b"")
    except away:
        seat.release()
        raise Unavailable() from None
    except BaseException:
        seat.release()
        raise
    return Stream(chunks, seat, first=first)


def encoded(happenings: Iterator[Happening | None]) -> Generator[bytes]:
    for happening in happenings:
        if happening is None:
            yield b": beat\n\n"
        else:
            place = b"id: %s\n" % happening.id.encode() if happening.id else b""
            yield b"%sevent: %s\ndata: %s\n\n" % (place, happening.name.encode(), orjson.dumps(happening.data))


def closing(chunks: Stream) -> Iterator[bytes]:
    """For a server that iterates in a thread and knows no `close` of ours."""
    try:
        yield from chunks
    finally:
        chunks.close()


async def as_async(chunks: Stream) -> AsyncIterator[bytes]:
    """For a server on an event loop: each step is waited for in a thread."""
    step: asyncio.Future[bytes | None] | None = None
    try:
        while True:
            step = asyncio.ensure_future(sync_to_async(next, thread_sensitive=False)(chunks, None))
            chunk = await asyncio.shield(step)
            if chunk is None:
                return
            yield chunk
    finally:
        # The client may have gone while the thread still waits for news; then the thread's end closes.
        if step is None or step.done():
            chunks.close()
        else:
            step.add_done_callback(lambda _: chunks.close())
