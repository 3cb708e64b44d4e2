"""Asking many agents at once and waiting until all have answered or time is up: core NATS request-many.

Each question goes out with an answer subject of its own that nobody can guess, so the subject an answer comes on tells
whose it is, whatever the answer says. With agents' credentials NATS rewrites it on the way and lets each agent answer once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nats.aio.msg import Msg

from jobplatform_sdk.link import NO_RESPONDERS, Link, LinkDown, status

PAUSE_EVERY = 200
"""Questions sent before what came in meanwhile is looked at."""
LATE_SECONDS = 60.0
"""How long an answer to a closed round is still recognized."""
REMEMBERED = 200_000

Heard = Callable[[str, bytes | None, float], bool]
"""(whom we asked, answer or None when nobody listens there, milliseconds since asking) → all are in. Runs on the wire
thread, as does `Late`: it must not block."""
Late = Callable[[str, bytes, float], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One question to many."""

    payload: bytes
    to: Sequence[tuple[str, str]]
    """(name, subject) of each."""
    seconds: float
    heard: Heard
    late: Late


class _Open:
    __slots__ = ("closed", "done", "round", "since")

    def __init__(self, asked: Round) -> None:
        self.round = asked
        self.since = time.monotonic()
        self.closed = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Asker:
    """On one link, on its loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._prefix = f"{link.inbox}.bid."
        self._listening = False
        self._open: dict[str, tuple[_Open, str]] = {}
        self._past: dict[str, tuple[_Open, str, float]] = {}

    async def ask(self, rounds: Sequence[Round]) -> list[float]:
        """All rounds at the same time; back when each is complete or its time is up. Milliseconds each took. LinkDown when
        NATS is away."""
        if not self._listening:
            self._listening = True
            await self._link.subscribe(f"{self._prefix}*", self._answered)
        if not self._link.is_up:
            raise LinkDown("NATS is away.")
        self._forget()
        return list(await asyncio.gather(*(self._hold(each) for each in rounds)))

    async def _hold(self, asked: Round) -> float:
        this = _Open(asked)
        tokens = []
        try:
            for number, (name, subject) in enumerate(asked.to, 1):
                token = secrets.token_hex(10)
                tokens.append(token)
                self._open[token] = (this, name)
                await self._link.publish(subject, asked.payload, self._prefix + token)
                if number % PAUSE_EVERY == 0:
                    await asyncio.sleep(0)
            # The last to be asked has the whole window too.
            async with asyncio.timeout(asked.seconds):
                await this.done
        except TimeoutError:
            pass
        finally:
            this.closed = True
            until = time.monotonic() + LATE_SECONDS
            for token in tokens:
                if (entry := self._open.pop(token, None)) is not None:
                    self._past[token] = (*entry, until)
        return (time.monotonic() - this.since) * 1000

    async def _answered(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        nobody = status(message) == NO_RESPONDERS
        entry = self._open.get(token)
        if entry is not None:
            this, name = entry
            if this.round.heard(name, None if nobody else message.data, _ms_since(this)) and not this.done.done():
                this.done.set_result(None)
        elif not nobody and (past := self._past.get(token)) is not None:
            past[0].round.late(past[1], message.data, _ms_since(past[0]))

    def _forget(self) -> None:
        now = time.monotonic()
        while self._past:
            token = next(iter(self._past))  # the oldest
            if self._past[token][2] > now and len(self._past) <= REMEMBERED:
                break
            del self._past[token]


def _ms_since(this: _Open) -> float:
    return (time.monotonic() - this.since) * 1000
