"""Bulk submission: any number of entries, in requests of bounded size.

One request at a time is in memory. httpx sends a body whole before it reads the answer, so a single endless request
would stop for ever once both sides' buffers are full; many of a bounded size cannot, and each may be sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from jobplatform_sdk.client_calls import TASKS, Answer, Call, complete, written
from jobplatform_sdk.client_errors import BadAnswer, ClientError, Unavailable, Unreachable
from jobplatform_sdk.client_streams import Lines
from jobplatform_sdk.client_values import Verdict, read_verdict

LINES_MAX = 500
BYTES_MAX = 1_000_000
SLOW_SECONDS = 0.05
"""A source that takes this long for one entry is a slow one: what we have goes out instead of waiting for more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    number: int
    task_id: str
    raw: bytes


class Batch:
    """The lines of one request that have no verdict yet."""

    def __init__(self, lines: list[_Line]) -> None:
        self._left = {line.number: line for line in lines}
        self._sent: list[_Line] = []
        self._lines = Lines()
        self._trouble: ClientError | None = None

    @property
    def done(self) -> bool:
        return not self._left

    def call(self) -> Call[Any]:
        self._sent = list(self._left.values())
        self._lines, self._trouble = Lines(), None
        body = b"".join(line.raw + b"\n" for line in self._sent)
        headers = {"Content-Type": "application/x-ndjson", "Accept": "application/x-ndjson", "Accept-Encoding": "identity"}
        return Call(
            method="POST", path=f"{TASKS}/bulk", read=lambda answer: answer.json(), body=body, headers=headers, silence_seconds=60.0
        )

    def take(self, chunk: bytes) -> list[Verdict]:
        return [verdict for raw in self._lines.take(chunk) if (verdict := self._verdict(raw)) is not None]

    def check(self, origin: str) -> None:
        """After the last chunk of an answer: raises what kept the platform from a verdict on every line."""
        if not self.done:
            raise self._trouble or Unreachable(f"{origin} broke off in the middle of its verdicts.", code="unreachable")

    def _verdict(self, raw: bytes) -> Verdict | None:
        if not raw.strip():
            return None
        try:
            data = orjson.loads(raw)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            raise BadAnswer("The platform sent a verdict that is not JSON.", code="bad_answer")
        if "line" not in data:
            if "error" in data:  # its stores failed midway; the summary, otherwise
                self._trouble = Answer(status=503, headers={}, body=raw).error()
            return None
        number = data["line"]
        if type(number) is not int or not 1 <= number <= len(self._sent):
            raise BadAnswer("The platform sent a verdict on a line that it was not given.", code="bad_answer")
        line = self._sent[number - 1]
        if data.get("status") == "invalid" and data.get("code") == "unavailable":
            self._trouble = Unavailable(str(data.get("message") or "The platform cannot answer right now."), status=503, code="unavailable")
            return None
        if data.get("status") == "invalid" and isinstance(wait := data.get("retry_after_seconds"), int | float):
            # Too fast, or too much at once: this line comes again when there is room for it. Who is refused first waits least.
            if self._trouble is None:
                said = str(data.get("message") or "Too many tasks.")
                self._trouble = Unavailable(said, status=429, code=str(data.get("code")), retry_after=float(wait))
            return None
        verdict = read_verdict(data, line=line.number, task_id=line.task_id)
        return verdict if self._left.pop(line.number, None) else None


class Cutter:
    """Cuts a stream of entries into batches."""

    def __init__(self) -> None:
        self._number, self._lines, self._bytes = 0, [], 0

    def add(self, entry: Mapping[str, Any], seconds: float) -> Batch | None:
        """`seconds` is how long the source took for this entry. TypeError when it is no mapping, ValueError when JSON cannot say it."""
        self._number += 1
        if not isinstance(entry, Mapping):
            raise TypeError(f"Entry {self._number} is a {type(entry).__name__}, not a mapping.")
        whole = complete(entry)
        raw = written(whole, f"Entry {self._number}")
        self._lines.append(_Line(number=self._number, task_id=str(whole["task_id"]), raw=raw))
        self._bytes += len(raw)
        full = len(self._lines) >= LINES_MAX or self._bytes >= BYTES_MAX or seconds >= SLOW_SECONDS
        return self.rest() if full else None

    def rest(self) -> Batch | None:
        lines, self._lines, self._bytes = self._lines, [], 0
        return Batch(lines) if lines else None
