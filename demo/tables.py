"""The tables a run ends with. Pure: rows in, something rich can print out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from demo.board import STYLE


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file and everything that was decided about it."""

    name: str
    status: str
    accepted: bool
    verdict: str
    """The approval policy's reason."""
    priority: int
    agent: str
    because: str
    """Why that agent."""
    result: str
    """One line: what the agent found, or why there is nothing."""
    queued: float | None = None
    """Milliseconds from queued to assigned; None: it never got there."""
    dispatch: float | None = None
    """Milliseconds from assigned to the agent's start."""
    run: float | None = None
    """Milliseconds from start to end, as the agent measured."""


def milliseconds(since: datetime | None, until: datetime | None) -> float | None:
    """Agents have clocks of their own, so a small negative difference is none."""
    return None if since is None or until is None else max(0.0, (until - since).total_seconds() * 1000)


WIDE = 130
"""Columns from which a file fits on one line; below, it takes two."""


def ending(rows: Sequence[Row], *, width: int) -> Table:
    """Every decision about every file. What is too long is cut at the end, paths at their start."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold", width=width, pad_edge=False)
    wide = width >= WIDE
    room = (width - 30) * 6 // 32 if wide else (width - 30) // 2
    for title, share in (("file", 6), ("verdict, and why", 7), ("agent, and why", 10), ("result", 9)) if wide else (
        ("file\nresult", 1), ("verdict, and why\nagent, and why", 1)
    ):  # fmt: skip
        table.add_column(title, no_wrap=True, ratio=share)
    for title in ("prio", "queue", "send", "run"):
        table.add_column(title, justify="right", no_wrap=True, min_width=5)
    table.caption, table.caption_justify = "queue, send, run: milliseconds", "right"
    for row in rows:
        name = _tail(row.name, room - 1)
        texts = [name, _verdict(row), _choice(row), _result(row)]
        if not wide:
            texts = [Text("\n").join([name, texts[3]]), Text("\n").join(texts[1:3])]
        table.add_row(*texts, str(row.priority) if row.accepted else "", *map(_time, (row.queued, row.dispatch, row.run)))
    return table


def reorderings(moved: Sequence[tuple[str, int, int]], priorities: dict[str, int]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black")
    for title, how in (("submitted", "right"), ("started", "right"), ("priority", "right"), ("file", "left")):
        table.add_column(title, justify=how, no_wrap=True)
    for name, submitted, started in moved:
        arrow = "[green]↑[/]" if started < submitted else "[yellow]↓[/]" if started > submitted else " "
        table.add_row(f"{submitted}", f"{arrow} {started}", str(priorities.get(name, "")), Text(name))
    return table


def _verdict(row: Row) -> Text:
    """A reason that begins with the file's name need not say it again."""
    why = row.verdict.removeprefix(row.name.rpartition("/")[2]).strip()
    return Text.assemble(("✓ ", "green") if row.accepted else ("✗ ", "yellow"), why)


def _choice(row: Row) -> Text:
    """The sentence names the agent; no need to say it twice."""
    if not row.agent:
        return Text()
    why = row.because.removeprefix(row.agent).removeprefix(" is the ").strip()
    return Text.assemble(row.agent, (f" {why}", "bright_black"))


def _result(row: Row) -> Text:
    return Text(row.result, style="bright_black" if row.status == "completed" else STYLE.get(row.status, ""))


def _tail(name: str, room: int) -> Text:
    """Of a long path the end tells most."""
    return Text(name if len(name) <= room else f"…{name[-room + 1 :]}")


def _time(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
