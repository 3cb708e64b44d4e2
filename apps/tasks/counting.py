"""News of tasks, counted."""

from __future__ import annotations

from collections import Counter

from apps.core import observe
from apps.tasks.events import TasksMoved


def moved(news: TasksMoved) -> None:
    for (old, new), number in Counter((move.old, move.new) for move in news.moves).items():
        observe.TASK_MOVES.inc(old, new, by=number)
