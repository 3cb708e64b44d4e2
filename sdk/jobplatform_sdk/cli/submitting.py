"""`submit` and `bulk`."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from jobplatform_sdk.cli.board import Board
from jobplatform_sdk.cli.screen import Exit, Screen, duration, status_text
from jobplatform_sdk.cli.watching import watch_these
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_calls import SHORT_NAMES
from jobplatform_sdk.client_values import Submission, Verdict

LISTED = 20
"""So many refused lines are listed; --json has them all."""


# ---- submit -----------------------------------------------------------------------------------------------


def submit(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    wait = options.wait
    submission = client.submit_entry(_entry(options), wait=0.0 if wait is not None else 5.0)
    if wait is None or not submission.accepted:
        _say(submission, screen)
        return Exit.FINE if submission.accepted else Exit.NOT_COMPLETED
    timeout = None if wait == float("inf") else wait
    if screen.json:
        task = client.wait(submission.task_id, timeout)
        screen.document(task.data)
        return Exit.FINE if task.completed else Exit.NOT_COMPLETED
    status = watch_these(Board([submission.task_id]), client, screen, timeout=timeout)
    if (task := client.get(submission.task_id)).result is not None:
        screen.result(task.result)
    return status


def _entry(options: argparse.Namespace) -> dict[str, Any]:
    entry = entry_given(options, needed=True, task_id=options.task_id)
    start = options.at or (datetime.now(UTC) + options.delay if options.delay is not None else None)
    if start is not None:
        timeline = entry.get("task_completion_timeline") or {}
        entry["task_completion_timeline"] = {**timeline, "not_before": start.isoformat()}
    return entry


def entry_given(options: argparse.Namespace, *, needed: bool, task_id: str | None = None) -> dict[str, Any]:
    """The file's entry, overridden by the flags. `needed`: with a goal and an intent, or a ValueError."""
    entry = _object(_read(options.file), "the entry") if options.file else {}
    if entry.get("type") == "task" and isinstance(entry.get("data"), dict):
        entry = entry["data"]
    entry = {SHORT_NAMES.get(name, name): value for name, value in entry.items()}
    given = {
        "task_goal": options.goal, "task_intent": options.intent, "task_priority_value": options.priority, "task_id": task_id,
        "job_space_id": options.space,
    }  # fmt: skip
    if options.payload is not None:
        given["task_job_submission_data"] = object_given(options.payload, "--payload")
    for one in options.set:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise ValueError(f"--set takes NAME=VALUE, not {one!r}")
        given[SHORT_NAMES.get(name, name)] = _json_or_text(value)
    entry |= {name: value for name, value in given.items() if value is not None}
    missing = [flag for flag, name in (("--goal", "task_goal"), ("--intent", "task_intent")) if name not in entry]
    if needed and missing:
        raise ValueError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} needed (see jobctl {options.command} --help)")
    return entry


def object_given(text: str, what: str) -> dict[str, Any]:
    """JSON, or @ and a file that holds it."""
    return _object(_read(text[1:]) if text.startswith("@") else text.encode(), what)


def _read(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()


def _object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{what} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{what} is not a JSON object")
    return found


def _json_or_text(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _say(submission: Submission, screen: Screen) -> None:
    if screen.json:
        known = {"task_id": submission.task_id, "status": submission.status, "subject_id": submission.subject_id or None}
        screen.document({**known, "reason": submission.reason, "repeated": submission.repeated})
        return
    agent = f"agent {submission.subject_id}" if submission.subject_id else ""
    repeated = "(submitted before)" if submission.repeated else ""
    screen.line(submission.task_id, status_text(submission.status), agent, submission.reason, repeated)


# ---- bulk -------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Tally:
    started: float
    read: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    listed: list[Verdict] = field(default_factory=list)
    refused: int = 0

    def count(self, verdict: Verdict) -> None:
        kind = "accepted" if verdict.accepted else "invalid" if not verdict.stored else "rejected"
        self.verdicts[kind] += 1
        self.verdicts["repeated"] += verdict.repeated
        if not verdict.accepted:
            self.refused += 1
            if len(self.listed) < LISTED:
                self.listed.append(verdict)

    @property
    def answered(self) -> int:
        return self.verdicts["accepted"] + self.verdicts["rejected"] + self.verdicts["invalid"]

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self.started, 0.001)

    def json(self) -> dict[str, Any]:
        names = ("accepted", "rejected", "invalid", "repeated")
        return {"summary": {"lines": self.answered, **{name: self.verdicts[name] for name in names}, "seconds": round(self.seconds, 3)}}

    def text(self) -> str:
        parts = [f"{self.verdicts['accepted']:,} accepted"]
        parts += [f"{self.verdicts[name]:,} {name}" for name in ("rejected", "invalid") if self.verdicts[name]]
        again = f" ({self.verdicts['repeated']:,} submitted before)" if self.verdicts["repeated"] else ""
        lines = "1 line" if self.answered == 1 else f"{self.answered:,} lines"
        return f"{lines} in {duration(self.seconds)}, {self.answered / self.seconds:,.0f}/s: {', '.join(parts)}{again}"

    @property
    def exit(self) -> Exit:
        if self.verdicts["invalid"]:
            return Exit.REFUSED
        return Exit.NOT_COMPLETED if self.verdicts["rejected"] else Exit.FINE


class Source:
    """The entries of an NDJSON file. Lines that are none become verdicts of our own, and the others keep their numbers."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes_read = 0
        self.sent = 0
        self.bad: list[Verdict] = []
        self._lines: dict[int, int] = {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, raw in enumerate(self._file, 1):
            self.bytes_read += len(raw)
            if not raw.strip():
                continue
            try:
                entry = _object(raw, "the line")
            except ValueError as error:
                self.bad.append(Verdict(line=number, task_id="", status="invalid", code="malformed", message=str(error)))
                continue
            self.sent += 1
            self._lines[self.sent] = number
            yield entry

    def line_of(self, sent: int) -> int:
        return self._lines.pop(sent)

    def take_bad(self) -> list[Verdict]:
        bad, self.bad = self.bad, []
        return bad


def bulk(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    board = Board([])
    tally = Tally(started=time.monotonic())
    with _opened(options.file) as (file, size):
        source = Source(file)
        try:
            with _bar(screen, size) as redraw:
                for verdict in _verdicts(client, source):
                    tally.count(verdict)
                    if screen.json:
                        screen.document(verdict.json())
                    if options.watch and verdict.stored:
                        board.add(verdict.task_id, verdict.status)
                    redraw(source, tally)
        finally:  # interrupted or cut off, what was done is still worth knowing
            _close(tally, screen)
    if not options.watch or board.done:
        return tally.exit
    status = watch_these(board, client, screen, timeout=options.timeout, only_ends=True)
    _ends(board, screen)
    return max(tally.exit, status)


def _verdicts(client: Client, source: Source) -> Iterator[Verdict]:
    for verdict in client.submit_many(source):
        yield from source.take_bad()
        yield Verdict(**{**vars(verdict), "line": source.line_of(verdict.line)})
    yield from source.take_bad()


def _close(tally: Tally, screen: Screen) -> None:
    if screen.json:
        screen.document(tally.json())
        return
    screen.line(tally.text())
    for verdict in sorted(tally.listed, key=lambda verdict: verdict.line):
        screen.line(Text(f"  line {verdict.line}", style="dim"), verdict.task_id, status_text(verdict.status), verdict.why)
    if tally.refused > len(tally.listed):
        screen.line(Text(f"  … and {tally.refused - len(tally.listed):,} more: --json", style="dim"))


def _ends(board: Board, screen: Screen) -> None:
    """How the watched tasks ended."""
    ends = Counter(row.status for row in board.rows.values())
    if screen.json:
        screen.document({"ended": {"tasks": len(board.rows), "statuses": dict(ends)}})
    else:
        screen.line(f"{len(board.rows):,} tasks:", ", ".join(f"{count:,} {status}" for status, count in ends.most_common()))


@contextlib.contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file, and its size in bytes when that is known."""
    if name == "-":
        yield sys.stdin.buffer, None
        return
    path = Path(name)
    with path.open("rb") as file:
        yield file, path.stat().st_size if path.is_file() else None


@contextlib.contextmanager
def _bar(screen: Screen, size: int | None) -> Iterator[Any]:
    """A progress bar on standard error, and the function that brings it up to date."""
    if not screen.bar_is_welcome:
        yield lambda source, tally: None
        return
    columns = [BarColumn(bar_width=30), TextColumn("{task.fields[said]}"), TimeElapsedColumn()]
    with Progress(*columns, console=screen.err, transient=True) as progress:
        task = progress.add_task("", total=size, said="reading")

        def redraw(source: Source, tally: Tally) -> None:
            counts = tally.verdicts
            said = f"{source.sent:,} sent  {counts['accepted']:,} accepted  {counts['rejected']:,} rejected"
            said += f"  {counts['invalid']:,} invalid" if counts["invalid"] else ""
            progress.update(task, completed=source.bytes_read, said=f"{said}  {tally.answered / tally.seconds:,.0f}/s")

        yield redraw
