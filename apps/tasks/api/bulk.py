"""Bulk submission: NDJSON in, one verdict a line out, in order, in memory that does not grow with the body.

Lines are taken in chunks; each chunk goes down the same road as a single task. Verdicts leave while later lines still
arrive, but only up to `FLOWING_BYTES`: a client that sends everything before it reads anything would otherwise wait for
us to take more while we wait for him to read. What is beyond goes to a spool (memory, then disk) until the body has ended.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, BinaryIO

import orjson
from django.http import StreamingHttpResponse
from drf_spectacular.utils import extend_schema

from apps.core import clock
from apps.core.auth import Principal
from apps.core.errors import Invalid, PlatformError, TooLarge
from apps.core.http import LIMITS, as_platform_error, body_stream, parse_json
from apps.tasks.api import docs
from apps.tasks.api.courtesy import courtesy
from apps.tasks.api.tasks import TaskView, enveloped
from apps.tasks.entries import TaskEntry
from apps.tasks.intake import TaskIntake, Verdict
from apps.tasks.parser import InitialJobParser
from apps.tasks.states import TaskStatus

log = logging.getLogger(__name__)

NDJSON = "application/x-ndjson"
READ_BYTES = 64 * 1024
CHUNK_LINES, CHUNK_LINES_IN_COMPANY = 500, 50
CHUNK_BYTES = 4 * 1024 * 1024
FLOWING_BYTES = 512 * 1024
SPOOL_BYTES = 1024 * 1024
ID_SHOWN = 180


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    number: int
    raw: bytes | None
    """None: longer than a submission may be; it was passed over."""


class BulkSubmit(TaskView):
    @extend_schema(**docs.BULK)
    def post(self, request: Any) -> StreamingHttpResponse:
        verdicts = BulkRun(request.user).verdicts(body_stream(request, media_type=NDJSON))
        # The first chunk now: while nothing has been said, a store that is away is still a plain 503.
        first = next(verdicts)
        return StreamingHttpResponse(_flowing(first, verdicts), content_type=NDJSON)


def read_lines(stream: BinaryIO) -> Iterator[Line]:
    """The lines of a stream as they arrive, blank ones left out. Not `readline`: not every WSGI server's works."""
    number, rest, skipping = 0, b"", False
    while part := stream.read(READ_BYTES):
        *ended, rest = (rest + part).split(b"\n")
        for raw in ended:
            number += 1
            if skipping:
                skipping = False
                yield Line(number=number, raw=None)
            elif raw.strip():
                yield Line(number=number, raw=raw)
        if len(rest) > LIMITS.body:
            skipping, rest = True, b""
    if skipping or rest.strip():
        yield Line(number=number + 1, raw=None if skipping else rest)


def _chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    chunk: list[Line] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line.raw or b"")
        if len(chunk) >= (CHUNK_LINES_IN_COMPANY if courtesy.company else CHUNK_LINES) or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


@dataclass(kw_only=True)
class Tally:
    """The last line of the answer. A client that did not get one knows that it did not get all."""

    lines: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    repeated: int = 0

    def summary(self) -> dict[str, Any]:
        invalid = self.statuses["invalid"]
        rejected = self.statuses[TaskStatus.REJECTED.value]
        return {
            "summary": {
                "lines": self.lines,
                "accepted": self.lines - invalid - rejected,
                "rejected": rejected,
                "repeated": self.repeated,
                "invalid": invalid,
                "statuses": dict(self.statuses),
            }
        }


class BulkRun:
    def __init__(self, principal: Principal, *, intake: TaskIntake | None = None) -> None:
        self.principal = principal
        self.parser = InitialJobParser()
        self.intake = intake or TaskIntake()
        self.tally = Tally()

    def verdicts(self, stream: BinaryIO) -> Iterator[bytes]:
        """NDJSON, a piece per chunk of lines, then the summary. What fails before the first piece is raised; later it is
        the last line instead of a summary: nothing is known about the lines that have no verdict."""
        for chunk in _chunks(read_lines(stream)):
            try:
                with courtesy.many():
                    piece = self._chunk(chunk)
            except Exception as raised:  # the boundary: the status line is sent, the answer must still say what happened
                if not self.tally.lines:
                    raise
                error = as_platform_error(raised)
                log.warning("bulk.stopped", exc_info=raised, extra={"lines_done": self.tally.lines})
                yield orjson.dumps({"error": error.sentence, "code": error.code, "lines_done": self.tally.lines}) + b"\n"
                return
            yield piece
        yield orjson.dumps(self.tally.summary()) + b"\n"

    def _chunk(self, lines: list[Line]) -> bytes:
        answers: list[dict[str, Any] | None] = []
        entries: list[TaskEntry] = []
        for line in lines:
            parsed = self._parse(line)
            if isinstance(parsed, TaskEntry):
                entries.append(parsed)
                answers.append(None)
            else:
                answers.append(parsed)
        submitted = iter(self.intake.submit_many(entries, self.principal, now=clock.now()) if entries else ())
        told = [said or self._said(next(submitted)) for said in answers]
        self.tally.lines += len(lines)
        self.tally.statuses.update(said["status"] for said in told)
        return b"".join(orjson.dumps({"line": line.number, **said}) + b"\n" for line, said in zip(lines, told, strict=True))

    def _parse(self, line: Line) -> TaskEntry | dict[str, Any]:
        data: Any = None
        try:
            if line.raw is None:
                raise TooLarge(f"The line is larger than {LIMITS.body} bytes.")
            data = parse_json(line.raw)
            kind = ""
            if isinstance(data, dict) and data.keys() == {"type", "data"}:
                kind, data = enveloped(data)
            return self.parser.parse(data, kind=kind, submitter=self.principal.submitter)
        except PlatformError as error:
            task_id = data.get("sub_task_id", data.get("task_id")) if isinstance(data, dict) else None
            return _refused(task_id[:ID_SHOWN] if isinstance(task_id, str) else None, error)

    def _said(self, verdict: Verdict) -> dict[str, Any]:
        if verdict.status is None:
            assert verdict.error is not None
            return _refused(verdict.task_id, verdict.error)
        said: dict[str, Any] = {"task_id": verdict.task_id, "status": verdict.status.value, "reason": verdict.reason}
        if verdict.error is not None:
            said["code"] = verdict.error.code
        if verdict.repeated:
            self.tally.repeated += 1
            said["repeated"] = True
        return said


def _refused(task_id: str | None, error: PlatformError) -> dict[str, Any]:
    said: dict[str, Any] = {"task_id": task_id, "status": "invalid", "code": error.code, "message": error.sentence}
    if error.status == 429:
        said["retry_after_seconds"] = error.facts["retry_after_seconds"]
    if isinstance(error, Invalid):
        said["errors"] = [problem.json() for problem in error.problems]
    return said


def _flowing(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    flowed = 0
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        for piece in chain([first], rest):
            if flowed < FLOWING_BYTES:
                flowed += len(piece)
                yield piece
            else:
                spool.write(piece)
        spool.seek(0)
        while piece := spool.read(READ_BYTES):
            yield piece
