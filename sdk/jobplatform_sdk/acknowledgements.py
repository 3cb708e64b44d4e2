"""Messages for streams of JetStream, and what became of each: its acknowledgement, or why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

NO_RESPONDERS = "503"
HEADER_BYTES = 64
"""What the header around a message id takes of the server's limit."""


class LinkDown(Exception):
    """The message was not, or not certainly, stored: NATS is away, or did not answer in time. Trying again helps."""


class NobodyThere(LinkDown):
    """Nothing listens there: the stream or the consumer does not exist."""


class NotStored(Exception):
    """The stream refuses this message. Trying again does not help."""


class TooBig(NotStored):
    """More bytes than the server takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outgoing:
    """A message for a stream. Within the stream's window a second one with the same `msg_id` is stored once."""

    subject: str
    payload: bytes
    msg_id: str
    trace: str = ""
    """W3C traceparent, sent as a header."""


class _Batch:
    """Messages on their way to a stream, and what became of each."""

    __slots__ = ("done", "left", "results")

    def __init__(self, size: int) -> None:
        self.left = size
        self.results: list[int | Exception] = [LinkDown("No acknowledgement came.")] * size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, index: int, result: int | Exception) -> None:
        self.results[index] = result
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class Acknowledgements:
    """Of one link: each message asks for its acknowledgement on a subject of its own below `inbox`."""

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox
        self._pending: dict[str, tuple[_Batch, int]] = {}
        self._count = 0

    @property
    def subjects(self) -> str:
        """Where they come; to be subscribed with `received`."""
        return f"{self._inbox}.*"

    async def store(self, client: Client | None, messages: Sequence[Outgoing], timeout_seconds: float) -> list[int | Exception]:
        """As `Link.store`; `client` is None while there is no connection."""
        if not messages:
            return []
        if client is None:
            return [LinkDown("NATS is away.")] * len(messages)
        batch = _Batch(len(messages))
        first = self._count + 1
        self._count += len(messages)
        for index, message in enumerate(messages):
            token = str(first + index)
            self._pending[token] = (batch, index)
            if len(message.payload) + len(message.msg_id) * 4 + HEADER_BYTES > client.max_payload:
                # The server would close the connection over it.
                self._settle(token, TooBig("More bytes than the server takes."))
                continue
            try:
                headers = {"Nats-Msg-Id": message.msg_id, **({"traceparent": message.trace} if message.trace else {})}
                await client.publish(message.subject, message.payload, f"{self._inbox}.{token}", headers)
            except (NatsError, OSError) as error:
                self._settle(token, LinkDown(str(error) or type(error).__name__))
        try:
            async with asyncio.timeout(timeout_seconds):
                await batch.done
        except TimeoutError:
            pass
        finally:
            for token in range(first, first + len(messages)):
                self._pending.pop(str(token), None)
        return batch.results

    async def received(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        if status(message) == NO_RESPONDERS:
            self._settle(token, NobodyThere("No stream takes this subject."))
            return
        answer = orjson.loads(message.data)
        error = answer.get("error")
        if error is None:
            self._settle(token, answer["seq"])
        elif error.get("code") == 503:  # JetStream itself is not ready: starting, or out of space
            self._settle(token, LinkDown(error.get("description", "JetStream is not available.")))
        else:
            self._settle(token, NotStored(error.get("description", "The stream refuses it.")))

    def lost(self) -> None:
        """The connection broke: what is not acknowledged will not be."""
        pending, self._pending = self._pending, {}
        for batch, index in pending.values():
            batch.settle(index, LinkDown("The connection broke before the acknowledgement."))

    def _settle(self, token: str, result: int | Exception) -> None:
        entry = self._pending.pop(token, None)
        if entry is not None:
            entry[0].settle(entry[1], result)


def status(message: Msg) -> str:
    """The status code of a message without content, or ""."""
    return message.headers.get("Status", "") if message.headers and not message.data else ""
