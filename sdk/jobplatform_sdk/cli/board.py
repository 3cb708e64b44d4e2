"""What a watcher knows of the tasks he watches, and how it looks on a terminal."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobplatform_sdk.cli.screen import clean, duration, fitted, status_text
from jobplatform_sdk.client_errors import Refused
from jobplatform_sdk.client_values import STATUSES, TERMINAL, TaskEvent

KEPT = 200
"""Watching all tasks, only the latest movers are kept."""
WORKING = ("assigned", "dispatched", "running", "awaiting_verification")
MISSING = "not found"


def bar_width(width: int) -> int:
    return 20 if width >= 100 else 10


@dataclass(kw_only=True)
class Row:
    task_id: str
    status: str = ""
    percent: float = 0.0
    message: str = ""
    agent: str = ""
    created: datetime | None = None
    at: datetime | None = None
    """of the last thing known"""

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL or self.status == MISSING

    def took(self, now: datetime) -> str:
        end = self.at if self.ended else now
        return duration((end - self.created).total_seconds()) if self.created and end else ""


class Board:
    """`task_ids`: who is watched; None is everybody. One thread tells it news while another draws it."""

    def __init__(self, task_ids: Iterable[str] | None) -> None:
        self._lock = threading.Lock()
        self.everybody = task_ids is None
        self.rows = {task_id: Row(task_id=task_id) for task_id in task_ids or ()}
        self._open = set(self.rows)
        self.counts: Counter[str] = Counter()
        self.missing: dict[str, Refused] = {}

    @property
    def open(self) -> frozenset[str]:
        """Who has not ended, as far as we know."""
        return frozenset(self._open)

    @property
    def done(self) -> bool:
        return not self._open

    @property
    def completed(self) -> bool:
        return all(row.status == "completed" for row in self.rows.values())

    # ---- news ----

    def take(self, event: TaskEvent) -> bool:
        """Whether it tells anything new about a task that is watched."""
        with self._lock:
            if event.kind == "summary":
                before, self.counts = self.counts, Counter(event.counts)
                return self.everybody and before != self.counts
            if event.kind == "status" and self.everybody:
                self.counts[event.status] += 1
                if event.old:
                    self.counts[event.old] -= 1
            row = self._row(event.task_id)
            return row is not None and self._apply(event, row)

    def add(self, task_id: str, status: str) -> None:
        """One more to watch; where it is now."""
        with self._lock:
            row = self.rows.setdefault(task_id, Row(task_id=task_id))
            row.status = status
            (self._open.discard if row.ended else self._open.add)(task_id)

    def lose(self, task_id: str, error: Refused) -> None:
        """The platform knows no such task."""
        with self._lock:
            self.missing[task_id] = error
            self.rows[task_id].status = MISSING
            self._open.discard(task_id)

    def _row(self, task_id: str) -> Row | None:
        if not task_id:
            return None
        if self.everybody:
            # The latest mover stands last.
            self.rows[task_id] = self.rows.pop(task_id, None) or Row(task_id=task_id)
            while len(self.rows) > KEPT:
                del self.rows[next(iter(self.rows))]
        return self.rows.get(task_id)

    def _apply(self, event: TaskEvent, row: Row) -> bool:
        # News and looks at the truth overtake each other: what ended stays so, and old news of a start is no news.
        late = row.at is not None and event.at is not None and event.at < row.at
        if row.ended or (late and not event.ended):
            return False
        before = (row.status, row.percent, row.message, row.agent)
        if event.kind == "progress":
            row.percent, row.message = event.percent, event.message
        else:
            moved = row.status != event.status
            row.status = event.status
            row.agent = event.agent
            row.message = event.message if event.kind == "task" and event.message and not event.ended else event.reason
            if event.kind == "task" or moved:
                row.percent = event.percent
            if event.task is not None:
                row.created = event.task.times.created
            elif not event.old:
                row.created = event.at
        if event.ended:
            row.at = (event.task and event.task.times.finished) or event.at
            self._open.discard(row.task_id)
        else:
            row.at = event.at or row.at
        return before != (row.status, row.percent, row.message, row.agent)

    # ---- looks ----

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = datetime.now(UTC)
        with self._lock:
            yield self._drawing(now, height=console.size.height, width=options.max_width)

    def _drawing(self, now: datetime, *, height: int, width: int) -> RenderableType:
        if len(self.rows) == 1 and not self.everybody:
            return self._table(list(self.rows.values()), now, width, titles=False)
        rows = list(self.rows.values())
        room = max(height - 5, 3)
        if self.everybody:
            shown = rows[::-1][:room]
        elif len(rows) > room:
            shown = sorted((row for row in rows if row.status != "completed"), key=_interest)[:room]
        else:
            shown = rows
        drawn: list[RenderableType] = [self._head(width)]
        if shown:
            drawn += [Text(""), self._table(shown, now, width, titles=True)]
        if not self.everybody and 0 < len(shown) < len(rows):
            drawn.append(Text(f"… and {len(rows) - len(shown):,} more", style="dim"))
        return Group(*drawn)

    def _head(self, width: int) -> RenderableType:
        if self.everybody:
            counts = {status: self.counts[status] for status in STATUSES if self.counts[status] > 0}
        else:
            found = Counter(row.status for row in self.rows.values())
            counts = {status: found[status] for status in (*STATUSES, MISSING) if found[status]}
        parts = [Text.assemble((f"{count:,} ", "bold"), status_text(status)) for status, count in counts.items()]
        line = Text("  ").join(parts) if parts else Text("no tasks yet", style="dim")
        if self.everybody:
            return line
        ended, total = len(self.rows) - len(self._open), len(self.rows)
        bar = ProgressBar(total=total, completed=ended, width=bar_width(width))
        return fitted(("bar", "ended", "counts"), [(bar, Text(f"{ended:,} of {total:,} ended"), line)], ("counts",), header=False)

    def _table(self, rows: list[Row], now: datetime, width: int, *, titles: bool) -> Table:
        cells = [
            (
                Text(clean(row.task_id)), status_text(row.status or "…"), _bar(row, width), Text(clean(row.agent)),
                Text(row.took(now), justify="right"), Text(clean(row.message), style="dim"),
            )
            for row in rows
        ]  # fmt: skip
        return fitted(("TASK", "STATUS", "PROGRESS", "AGENT", "TIME", ""), cells, ("TASK", "AGENT", ""), header=titles)


def _interest(row: Row) -> int:
    """Who is worth a line when there are too few: those at work, then what went wrong, then those who wait."""
    return 0 if row.status in WORKING else 1 if row.ended else 2


def _bar(row: Row, width: int) -> RenderableType:
    percent = 100.0 if row.status == "completed" else row.percent
    if row.status not in (*WORKING, "completed"):
        return Text("")
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(ProgressBar(total=100, completed=percent, width=bar_width(width)), Text(f"{percent:3.0f}%"))
    return grid
