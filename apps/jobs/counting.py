"""Jobs as metrics."""

from __future__ import annotations

from collections import Counter

from apps.core import observe
from apps.jobs.events import JobsMoved
from apps.jobs.states import JobStatus


def moved(news: JobsMoved) -> None:
    for (queue, new), number in Counter((move.queue, move.new) for move in news.moves).items():
        observe.JOB_MOVES.inc(queue, new, by=number)
    for move in news.moves:
        if move.seconds is None:
            continue
        if move.new == JobStatus.STARTED:
            observe.JOB_WAITED.observe(move.seconds, move.queue)
        elif move.old == JobStatus.STARTED:
            observe.JOB_RAN.observe(move.seconds, move.queue, move.new)
