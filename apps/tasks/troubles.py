"""What an operator should read in the log without having asked for it: attempts that failed, and tasks that are dead letters now."""

from __future__ import annotations

import logging

from apps.tasks.events import TaskMoved, TasksMoved
from apps.tasks.states import Cause, TaskStatus

log = logging.getLogger(__name__)

DEAD = frozenset({TaskStatus.FAILED, TaskStatus.EXPIRED})
FAILURES = frozenset({Cause.FAILED, Cause.SILENT, Cause.UNFETCHED})
"""Of attempts. An agent that declines does what it may."""


def moved(news: TasksMoved) -> None:
    for move in news.moves:
        if move.new in DEAD:
            _say(f"task.{move.new}", move)
        elif move.new == TaskStatus.QUEUED and move.cause in FAILURES:
            _say("task.retried", move)


def _say(fact: str, move: TaskMoved) -> None:
    ids = {"org": move.org_id, "task": move.key, "attempt": move.attempt, "agent": move.agent}
    log.warning(fact, extra={**ids, "was": move.old, "cause": move.cause, "reason": move.reason})
