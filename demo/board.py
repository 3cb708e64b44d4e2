"""Progress of a run, and how it looks: a live board on a terminal, a line now and then when piped."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

LINE_EVERY_SECONDS = 1.0
RECENT = 8
STYLE = {
    "completed": "green", "failed": "red", "rejected": "yellow", "cancelled": "magenta", "expired": "magenta",
    "running": "cyan", "dispatched": "blue", "assigned": "blue", "queued": "bright_black", "awaiting_approval": "yellow",
}  # fmt: skip
ENDED = ("completed", "failed", "rejected", "cancelled", "expired")
_MOVING = ("running", "dispatched", "assigned", "queued", "awaiting_approval", "awaiting_assignment", "awaiting_verification")


@dataclass(kw_only=True)
class Ended:
    name: str
    status: str
    agent: str
    said: str


@dataclass(kw_only=True)
class Progress:
    """What we heard so far. `total` tasks are expected; those nobody spoke of yet are `unsent`."""

    total: int
    began: float = field(default_factory=time.monotonic)
    status: dict[str, str] = field(default_factory=dict)
    """task id → the latest status heard."""
    by_agent: dict[str, Counter[str]] = field(default_factory=dict)
    recent: deque[Ended] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.status.values())

    @property
    def ended(self) -> int:
        counts = self.counts
        return sum(counts[status] for status in ENDED)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def rate(self) -> float:
        """Ends a second since the start."""
        return self.ended / max(self.seconds, 0.05)

    def hear(self, task_id: str, status: str, *, agent: str = "", name: str = "", said: str = "") -> None:
        before = self.status.get(task_id)
        if before in ENDED:
            return
        self.status[task_id] = status
        if agent:
            self.by_agent.setdefault(agent, Counter())[status] += 1
        if status in ENDED:
            self.recent.appendleft(Ended(name=name or task_id, status=status, agent=agent, said=said))


class Board:
    """`with Board(console, progress, title) as board: … board.show()`. `agents`: subject → what it reads."""

    def __init__(self, console: Console, progress: Progress, *, title: str, agents: dict[str, str]) -> None:
        self._console, self._progress, self._title, self._agents = console, progress, title, agents
        self._live = (
            Live(console=console, get_renderable=self.render, refresh_per_second=12, transient=True) if console.is_terminal else None
        )
        self._said_at = 0.0

    def __enter__(self) -> Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def show(self) -> None:
        """Called as often as one likes."""
        now = time.monotonic()
        if self._live is None and now - self._said_at >= LINE_EVERY_SECONDS:
            self._said_at = now
            self._console.print(self.line(), soft_wrap=True)

    def line(self) -> str:
        progress, counts = self._progress, self._progress.counts
        parts = ", ".join(f"{counts[status]} {status.replace('_', ' ')}" for status in (*ENDED, *_MOVING) if counts[status])
        return f"{progress.seconds:5.1f} s  {progress.ended}/{progress.total} ended  {parts or 'submitting'}"

    def render(self) -> RenderableType:
        width = min(self._console.width, 160)
        return Group(self._heading(), self._bar(width - 2), self._legend(), Text(), self._people(width), Text(), self._recent(width))

    def _heading(self) -> Text:
        progress = self._progress
        left = progress.total - progress.ended
        eta = f" · about {left / progress.rate:.0f} s left" if progress.ended and left else ""
        return Text.assemble(
            (self._title, "bold"), f"  {progress.ended} of {progress.total} ended · {progress.rate:.0f}/s · {progress.seconds:.1f} s{eta}"
        )

    def _bar(self, width: int) -> Text:
        counts, bar, drawn, before = self._progress.counts, Text(), 0, 0
        for status in (*ENDED, *_MOVING):
            before += counts[status]
            until = round(width * before / max(1, self._progress.total))
            bar.append("━" * (until - drawn), style=STYLE.get(status, "white"))
            drawn = max(drawn, until)
        bar.append("─" * (width - drawn), style="bright_black")
        return bar

    def _legend(self) -> Text:
        counts, legend = self._progress.counts, Text()
        for status in (*ENDED, *_MOVING):
            if counts[status]:
                legend.append("● ", style=STYLE.get(status, "white")).append(f"{counts[status]} {status.replace('_', ' ')}   ")
        return legend

    def _people(self, width: int) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", width=min(width, 100))
        for title, how in (("agent", "left"), ("reads", "left"), ("has", "right"), ("done", "right"), ("per second", "right")):
            table.add_column(title, justify=how, no_wrap=True)
        for agent, reads in self._agents.items():
            heard = self._progress.by_agent.get(agent, Counter())
            done = sum(heard[status] for status in ENDED)
            has = max(0, heard["assigned"] - done)
            table.add_row(agent, reads, str(has), str(done), f"{done / max(self._progress.seconds, 0.05):.0f}")
        return table

    def _recent(self, width: int) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, width=width)
        table.add_column(no_wrap=True, width=9)
        table.add_column(no_wrap=True, ratio=2, overflow="ellipsis")
        table.add_column(no_wrap=True, ratio=3, overflow="ellipsis")
        for end in list(self._progress.recent):
            table.add_row(Text(end.status, style=STYLE.get(end.status, "white")), Text(end.name), Text(end.said, style="bright_black"))
        for _ in range(RECENT - len(self._progress.recent)):
            table.add_row("", "", "")
        return table


def watch(ended: Callable[[], bool], board: Board, *, seconds: float = 0.05) -> None:
    """Show the board until `ended()`."""
    while not ended():
        board.show()
        time.sleep(seconds)
