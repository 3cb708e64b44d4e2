"""What a watcher knows of a session, and how its tree looks on a terminal: groups, the steps in them, how far each is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobplatform_sdk.cli.board import bar_width
from jobplatform_sdk.cli.screen import clean, duration, fitted, status_text
from jobplatform_sdk.client_sessions import ENDED, Session, SessionNews, Step

GOING = frozenset({"expanding", "running", "retrying"})
WRONG = frozenset({"failed", "timed_out"})
MARKS = {
    "waiting": "·", "expanding": "◇", "running": "▶", "retrying": "↻", "completed": "✓", "failed": "✗", "timed_out": "✗",
    "skipped": "-", "cancelled": "-",
}  # fmt: skip
ITEM_ENDS = ("completed", "failed", "timed_out", "cancelled", "skipped")


@dataclass(frozen=True, kw_only=True)
class Line:
    depth: int
    step: Step | None = None
    hidden: int = 0
    """Members that are not shown, when there is no room for them."""
    said: str = ""


class Tree:
    """One thread tells it news while another draws it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.session: Session | None = None
        self.steps: dict[str, Step] = {}
        self.ended = False

    def take(self, news: SessionNews) -> bool:
        """Whether it tells anything new."""
        with self._lock:
            if news.session is not None:
                before, self.session = self.session, news.session
                self.ended = self.ended or news.ended
                return before is None or before.status != news.session.status or news.ended
            if news.step is not None:
                before_step = self.steps.get(news.step.path)
                self.steps[news.step.path] = news.step
                return before_step is None or (before_step.status, before_step.attempt) != (news.step.status, news.step.attempt)
            return news.kind == "move"

    # ---- looks ----

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            yield self.drawing(datetime.now(UTC), room=max(console.size.height - 4, 5), width=options.max_width)

    def drawing(self, now: datetime, *, room: int, width: int) -> RenderableType:
        if self.session is None:
            return Text("…", style="dim")
        rows = [_cells(line, now, width) for line in self.lines(room)]
        table = fitted(("step", "status", "items", "time", ""), rows, ("step", ""), header=False)
        return Group(_head(self.session, now, width), table)

    def lines(self, room: int) -> list[Line]:
        """The tree, in document order, in at most about `room` lines: what is under way and what went wrong stays, members
        of groups that are done or have not begun give way, then what waits."""
        for keep in (_everything, _open_groups, _lively):
            found = list(self._walk("", 0, keep))
            if len(found) <= room:
                return found
        return [*found[: room - 1], Line(depth=0, hidden=len(found) - room + 1, said="more")]

    def _walk(self, parent: str, depth: int, keep: object) -> Iterator[Line]:
        members = sorted((step for step in self.steps.values() if step.parent == parent), key=lambda step: step.position)
        left: list[Step] = []
        for step in members:
            if not keep(step, self.steps):  # type: ignore[operator]
                left.append(step)
                continue
            yield Line(depth=depth, step=step)
            if step.kind == "group":
                yield from self._walk(step.path, depth + 1, keep)
        if left:
            counts = {status: sum(step.status == status for step in left) for status in dict.fromkeys(step.status for step in left)}
            yield Line(depth=depth, hidden=len(left), said=", ".join(f"{count:,} {status}" for status, count in counts.items()))


def _everything(_step: Step, _all: dict[str, Step]) -> bool:
    return True


def _open_groups(step: Step, steps: dict[str, Step]) -> bool:
    """A group stands for its members while nothing happens in it."""
    group = steps.get(step.parent)
    return group is None or group.status in GOING or group.status in WRONG or step.status in WRONG


def _lively(step: Step, steps: dict[str, Step]) -> bool:
    return _open_groups(step, steps) and (step.status in GOING or step.status in WRONG or (step.kind == "group" and not step.parent))


def _head(session: Session, now: datetime, width: int) -> RenderableType:
    took = duration(((session.finished or now) - session.created).total_seconds()) if session.created else ""
    said = [f"{session.items.get('completed', 0):,} of {session.items.get('total', 0):,} items"]
    said += [f"{session.items[name]:,} {name}" for name in ("failed", "timed_out", "cancelled") if session.items.get(name)]
    status = status_text(session.status)
    if session.partial:
        status.append(" (partial)", style="yellow")
    bar = ProgressBar(total=100, completed=session.progress, width=bar_width(width))
    name = Text(clean(session.name or session.session_id), style="bold")
    return fitted(
        ("name", "status", "bar", "said"), [(name, status, bar, Text(f"{session.progress}%  {', '.join(said)}  {took}"))], ("name",),
        header=False,
    )  # fmt: skip


def _cells(line: Line, now: datetime, width: int) -> tuple[RenderableType, ...]:
    indent = "  " * line.depth
    step = line.step
    if step is None:
        return (Text(f"{indent}… {line.hidden:,} more: {line.said}" if line.said else f"{indent}…", style="dim"), *[Text("")] * 4)
    mark = MARKS.get(step.status, "?")
    style = "bold" if step.kind == "group" else ""
    name = Text(f"{indent}{mark} ") + Text(clean(step.name or step.key or step.path), style=style)
    status = status_text(step.status)
    if step.partial and step.status == "completed":
        status.append(" (partial)", style="yellow")
    end = step.finished or now
    took = duration((end - step.started).total_seconds()) if step.started else ""
    return name, status, _progress(step, width), Text(took, justify="right"), Text(clean(_why(step)), style="dim")


def _progress(step: Step, width: int) -> RenderableType:
    total = step.counts.get("total", 0)
    if step.kind == "group" or not total:
        return Text("")
    done = sum(step.counts.get(name, 0) for name in ITEM_ENDS)
    wrong = step.counts.get("failed", 0) + step.counts.get("timed_out", 0)
    if total == 1 and not wrong:
        return Text("")
    grid = Table.grid(padding=(0, 1, 0, 0))
    text = Text(f"{done:,}/{total:,}")
    if wrong:
        text.append(f" {wrong:,} failed", style="red")
    grid.add_row(ProgressBar(total=total, completed=done, width=bar_width(width) // 2), text)
    return grid


def _why(step: Step) -> str:
    if step.status == "retrying":
        return f"attempt {step.attempt + 1} soon: {step.reason}"
    return step.reason if step.status not in ("completed", "running", "waiting", "expanding") or step.partial else ""


def ended_well(session: Session) -> bool:
    return session.status in ENDED and session.completed
