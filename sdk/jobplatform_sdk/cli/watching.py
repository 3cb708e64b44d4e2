"""`watch`: from a stream of news to a bar, a live table, plain lines or NDJSON."""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections.abc import Iterator

from rich.live import Live
from rich.text import Text

from jobplatform_sdk.cli.board import KEPT, WORKING, Board
from jobplatform_sdk.cli.screen import Exit, Screen, clock, status_text
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_errors import NotFound, Unavailable
from jobplatform_sdk.client_values import TaskEvent, snapshot

LOOK_AGAIN_SECONDS = 30.0
FEW = 20
"""So many tasks are looked at one by one; more through the list."""


def watch(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    if not options.task_ids:
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to leave
            show_news(news_of_all(client, _seconds(options.timeout)), Board(None), screen)
        return Exit.FINE
    return watch_these(Board(dict.fromkeys(options.task_ids)), client, screen, timeout=options.timeout)


def watch_these(board: Board, client: Client, screen: Screen, *, timeout: float | None, only_ends: bool = False) -> int:
    """Until all of them have ended, or `timeout` seconds are over. `only_ends`: lines for what ended, not for every move."""
    ids = list(board.rows)
    news = client.follow(ids[0], timeout) if len(ids) == 1 else news_of_several(client, board, _seconds(timeout))
    show_news(news, board, screen, only_ends=only_ends)
    for task_id, error in board.missing.items():
        screen.error(error, task_id=task_id)
    if not board.done:
        left = ids[0] if len(ids) == 1 else f"{len(board.open)} of {len(ids)} tasks"
        screen.note(f"{left} had not ended after {timeout:g} s")
    if board.missing:
        return Exit.REFUSED
    return Exit.FINE if board.done and board.completed else Exit.NOT_COMPLETED


def show_news(news: Iterator[TaskEvent], board: Board, screen: Screen, *, only_ends: bool = False) -> None:
    if screen.lively:
        with Live(board, console=screen.out, refresh_per_second=8):
            for event in news:
                board.take(event)
        return
    for event in news:
        is_new = board.take(event)
        if only_ends and not event.ended:
            continue
        if screen.json:
            if is_new:
                screen.document({"event": event.kind, **{name: value for name, value in event.data.items() if name != "type"}})
        elif is_new:
            _line(event, board, screen)


def _line(event: TaskEvent, board: Board, screen: Screen) -> None:
    at = Text(clock(event.at), style="dim")
    if event.kind == "summary":
        counts = ", ".join(f"{count} {status}" for status, count in event.counts.items() if count)
        screen.line(counts or "no tasks yet")
    elif event.kind == "progress":
        screen.line(at, event.task_id, f"{event.percent:g}%", event.message)
    else:
        agent = f"agent {event.agent}" if event.agent else ""
        screen.line(at, event.task_id, status_text(event.status), agent, event.reason)


def news_of_all(client: Client, timeout: float) -> Iterator[TaskEvent]:
    """The counts, who is at work, and then whatever moves."""
    for event in _slices(client, timeout):
        if event.kind == "lagged":
            yield TaskEvent(kind="summary", counts=client.summary())
            continue
        yield event
        if event.kind == "summary":
            working = list(client.tasks(status=WORKING, limit=KEPT, page_size=KEPT))
            yield from map(snapshot, reversed(working))


def _slices(client: Client, timeout: float) -> Iterator[TaskEvent]:
    """All news, begun anew every now and then: the summary at each beginning sets right what was missed or counted twice."""
    until = time.monotonic() + timeout
    while (left := until - time.monotonic()) > 0:
        yield from client.follow_all(min(left, LOOK_AGAIN_SECONDS))


def news_of_several(client: Client, board: Board, timeout: float) -> Iterator[TaskEvent]:
    """One stream of all news serves any number of tasks; a look at those still open tells what it did not."""
    until = time.monotonic() + timeout
    while not board.done and (left := until - time.monotonic()) > 0:
        try:
            for event in _slices(client, left):
                if event.kind in ("summary", "lagged"):
                    yield from _look(client, board)
                elif event.task_id in board.rows:
                    yield event
                if board.done:
                    return
        except Unavailable:  # too many are streaming, perhaps; a platform that is away makes the look fail too
            yield from _look(client, board)


def _look(client: Client, board: Board) -> Iterator[TaskEvent]:
    """The open tasks as they are now."""
    wanted = set(board.open)
    if len(wanted) > FEW:
        enough = 3 * len(wanted) + 1000
        for scanned, task in enumerate(client.tasks(page_size=200)):
            if task.task_id in wanted:
                wanted.discard(task.task_id)
                yield snapshot(task)
            if not wanted or scanned > enough:
                break
    for task_id in wanted:
        try:
            yield snapshot(client.get(task_id))
        except NotFound as error:
            board.lose(task_id, error)


def _seconds(timeout: float | None) -> float:
    return math.inf if timeout is None else timeout
