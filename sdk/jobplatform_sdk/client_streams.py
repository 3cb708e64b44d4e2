"""Server-sent events: from bytes to `TaskEvent`s, and what to ask for after the connection broke."""

from __future__ import annotations

import re
from typing import Any

import orjson

from jobplatform_sdk.client_calls import TASKS, Answer, Call, path_of
from jobplatform_sdk.client_errors import BadAnswer, Unreachable
from jobplatform_sdk.client_values import TaskEvent, read_event

SILENCE_SECONDS = 45.0
"""The server says at least `: beat` every 15 s; after three times that it is gone."""
LINE_MAX = 64 * 1024 * 1024
_END = re.compile(rb"\r\n|\n|\r")


class Lines:
    """Cuts bytes that come in any pieces into lines, without their ends."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def take(self, chunk: bytes) -> list[bytes]:
        if self._after_cr:  # CR LF is one end, also when it comes in two pieces
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > LINE_MAX:
            raise BadAnswer("The platform sent a line without end.", code="bad_answer")
        if b"\n" not in chunk and b"\r" not in chunk:
            return []
        *lines, rest = _END.split(b"".join(self._parts))
        self._parts, self._size = [rest], len(rest)
        return lines


class EventParser:
    """(event, id, data) of each complete event, by the rules of the HTML standard. `id` is the last one given."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._event, self._data = "", []
        self._id = ""
        self._first = True

    def take(self, chunk: bytes) -> list[tuple[str, str, bytes]]:
        found = []
        for line in self._lines.take(chunk):
            if self._first:
                self._first, line = False, line.removeprefix(b"\xef\xbb\xbf")
            if line:
                self._field(line)
            else:
                if self._data:
                    found.append((self._event or "message", self._id, b"\n".join(self._data)))
                self._event, self._data = "", []
        return found

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode(errors="replace")


class Following:
    """Where we are in the stream of one task (`task_id`) or of all ("")."""

    def __init__(self, task_id: str = "") -> None:
        self._path = path_of(task_id, "stream") if task_id else f"{TASKS}/stream"
        self._one = bool(task_id)
        self._last_id = ""
        self._parser = EventParser()
        self.ended = False
        """The task will not move any more: there is nothing left to wait for."""

    def call(self, *, silence_seconds: float = SILENCE_SECONDS) -> Call[Any]:
        """The next connection; forgets the half-read event of the last one."""
        self._parser = EventParser()
        # Compressed, an event could sit in the compressor of a proxy until the next one.
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-cache"}
        if self._one and self._last_id:
            headers["Last-Event-ID"] = self._last_id
        return Call(method="GET", path=self._path, read=self._not_a_stream, headers=headers, silence_seconds=silence_seconds)

    def _not_a_stream(self, answer: Answer) -> None:
        if answer.status != 204:
            raise answer.error()
        self.ended = True  # there is nothing after the last event we had

    def take(self, chunk: bytes) -> list[TaskEvent]:
        """The events that `chunk` completes. Those we had before the connection broke are left out."""
        found = []
        for kind, event_id, raw in self._parser.take(chunk):
            if event_id and kind in ("task", "status"):
                if event_id == self._last_id and kind == "status":
                    continue
                self._last_id = event_id
            try:
                data = orjson.loads(raw)
            except orjson.JSONDecodeError:
                raise BadAnswer("The platform sent an event that is not JSON.", code="bad_answer") from None
            event = read_event(kind, data)
            if event is not None:
                found.append(event)
                if self._one and event.ended:
                    self.ended = True
                    break
        return found

    def cut(self, origin: str) -> Unreachable:
        """The server closed the stream and the task has not ended."""
        return Unreachable(f"{origin} closed the stream.", code="unreachable")
