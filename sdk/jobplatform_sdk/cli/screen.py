"""Everything that leaves `jobctl`: JSON for programs, tables and lines for people, errors on standard error.

Text that others wrote (goals, reasons, messages, ids) is cleaned before a terminal sees it, so it cannot move the
cursor, recolour the screen or reverse the reading direction; in JSON the same characters are escaped.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, TextIO

import orjson
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from jobplatform_sdk.client_errors import ClientError, Refused

_SPACES = re.compile(r"[\t\n\r\x0b\x0c\x85\u2028\u2029]+")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

COLOURS = {
    "awaiting_approval": "yellow", "awaiting_assignment": "yellow", "assigned": "cyan", "dispatched": "cyan", "running": "cyan",
    "awaiting_verification": "yellow",
    "completed": "green", "failed": "bold red", "rejected": "red", "cancelled": "magenta", "expired": "red", "invalid": "bold red",
    "waiting": "dim", "pending": "dim", "expanding": "cyan", "retrying": "yellow", "paused": "yellow", "skipped": "dim",
    "timed_out": "bold red", "started": "cyan", "finished": "green",
}  # fmt: skip


RESULT_LINES = 30


class Exit(IntEnum):
    FINE = 0
    NOT_COMPLETED = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    INTERRUPTED = 130
    BROKEN_PIPE = 141


def clean(text: Any) -> str:
    """One line, printable, harmless."""
    return _UNSAFE.sub("�", _SPACES.sub(" ", str(text)))


def json_text(value: Any, *, indent: bool = False) -> str:
    options = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", orjson.dumps(value, option=options).decode())


def status_text(status: str) -> Text:
    return Text(clean(status), style=COLOURS.get(status, ""))


def duration(seconds: float) -> str:
    """Two significant units: 0.12 s, 12.3 s, 4m 05s, 3h 20m, 2d 04h."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, below, names in ((86400, 3600, "dh"), (3600, 60, "hm"), (60, 1, "ms")):
        if whole >= size:
            return f"{whole // size}{names[0]} {whole % size // below:02}{names[1]}"
    raise AssertionError(seconds)


def between(start: datetime | None, end: datetime | None) -> str:
    return duration((end - start).total_seconds()) if start and end else ""


def age(at: datetime | None) -> str:
    if at is None:
        return ""
    seconds = (datetime.now(UTC) - at).total_seconds()
    return f"{max(seconds, 0):.0f} s" if seconds < 60 else duration(seconds)


def clock(at: datetime | None, *, date: bool = False) -> str:
    """Local time, to the millisecond."""
    if at is None:
        return ""
    local = at.astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S") + f".{local.microsecond // 1000:03}"


def fitted(titles: Sequence[str], rows: Iterable[Sequence[RenderableType]], flexible: Collection[str], *, header: bool = True) -> Table:
    """A table whose `flexible` columns are cut until it fits; the others keep their width."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=header)
    for title in titles:
        # Only columns that may wrap are narrowed; the texts in them are told to be cut instead.
        made.add_column(title, no_wrap=title not in flexible)
    for row in rows:
        for title, cell in zip(titles, row, strict=True):
            if title in flexible and isinstance(cell, Text):
                cell.no_wrap, cell.overflow = True, "ellipsis"
        made.add_row(*row)
    return made


class Screen:
    def __init__(self, *, json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.json = json
        self._out, self._err = out or sys.stdout, err or sys.stderr
        for stream in (self._out, self._err):
            if isinstance(stream, io.TextIOWrapper):  # a terminal of another encoding shall not stop us
                stream.reconfigure(errors="backslashreplace")
        options: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": False}
        self.out = Console(file=self._out, **options)
        self.err = Console(file=self._err, stderr=err is None, **options)

    @property
    def lively(self) -> bool:
        """Standard output is a terminal that can redraw."""
        return not self.json and self._out.isatty() and not self.out.is_dumb_terminal

    @property
    def bar_is_welcome(self) -> bool:
        """Standard error can show a bar, and nothing else is being written to the same terminal."""
        return self._err.isatty() and not self.err.is_dumb_terminal and not (self.json and self._out.isatty())

    # ---- for programs ----

    def document(self, value: Any) -> None:
        """One line of JSON, at once, so that a reader behind a pipe sees it."""
        self._out.write(json_text(value) + "\n")
        self._out.flush()

    def text(self, text: str) -> None:
        """As it is."""
        self._out.write(text)
        self._out.flush()

    # ---- for people ----

    def line(self, *parts: str | Text) -> None:
        """The parts that are not empty, two spaces between. Plain strings are cleaned, so whoever calls need not think of it."""
        text = Text("  ").join(part if isinstance(part, Text) else Text(clean(part)) for part in parts if part)
        if self._out.isatty():
            self.out.print(text, soft_wrap=True)
        else:
            self._out.write(text.plain.rstrip() + "\n")
            self._out.flush()

    def result(self, value: Any) -> None:
        """A task's result, or the beginning of a long one."""
        lines = json_text(value, indent=True).splitlines()
        for one in lines[:RESULT_LINES]:
            self.line(Text(f"  {one}"))
        if len(lines) > RESULT_LINES:
            self.line(Text(f"  … {len(lines) - RESULT_LINES} lines more: --json", style="dim"))

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str | Text]], *, flexible: str, shorten: Collection[str]) -> None:
        """Fitted to a terminal by cutting the `flexible` column, and those of `shorten` that take very much; behind a
        pipe aligned and whole."""
        cells = [[cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row] for row in rows]
        lines = [[Text(title) for title in titles], *cells]
        widths = [max(cell.cell_len for cell in column) for column in zip(*lines, strict=True)]
        if self._out.isatty():
            wide = {title for title, width in zip(titles, widths, strict=True) if width > self.out.width * 0.4}
            self.out.print(fitted(titles, cells, {flexible, *wide.intersection(shorten)}))
            return
        for row in lines:
            padded = (cell.plain + " " * (width - cell.cell_len) for cell, width in zip(row, widths, strict=True))
            self._out.write("  ".join(padded).rstrip() + "\n")
        self._out.flush()

    # ---- what went wrong ----

    def error(self, error: ClientError, *, task_id: str = "") -> None:
        if self.json:
            self.document({"error": error.json(), **({"task_id": task_id} if task_id else {})})
        self.note(f"{task_id + ': ' if task_id else ''}{error.sentence}")
        for one in error.errors:
            if one.message not in error.sentence:
                self._complain(f"  {one}")
        if error.status >= 500 and error.request_id:
            self._complain(f"  request id: {error.request_id}")

    def note(self, text: str) -> None:
        self._complain(f"jobctl: {text}")

    def _complain(self, text: str) -> None:
        self._err.write(clean(text) + "\n")
        self._err.flush()


def each_task(task_ids: Sequence[str], one: Callable[[str], None], screen: Screen) -> int:
    """`one` for each; a refusal is said and the others go on."""
    refused = 0
    for task_id in task_ids:
        try:
            one(task_id)
        except Refused as error:
            screen.error(error, task_id=task_id)
            refused += 1
    return Exit.REFUSED if refused else Exit.FINE
