"""What a watcher knows: news and looks at the truth overtake each other, and the board keeps its head."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from jobplatform_sdk.cli import board as boards
from jobplatform_sdk.cli.board import Board
from jobplatform_sdk.cli.screen import clean, duration
from jobplatform_sdk.client_values import Task, TaskEvent, Times, snapshot

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)


def at(seconds):
    return T0 + timedelta(seconds=seconds)


def moved(task_id, status, old, seconds, **more):
    return TaskEvent(kind="status", task_id=task_id, status=status, old=old, at=at(seconds), **more)


def seen(task_id, status, seconds, **more):
    return snapshot(Task(task_id=task_id, status=status, times=Times(created=T0, updated=at(seconds)), **more))


def test_old_news_after_a_look_is_no_news():
    board = Board(["t1"])
    assert board.take(seen("t1", "running", 5))
    assert not board.take(moved("t1", "assigned", "queued", 2))
    assert board.rows["t1"].status == "running"


def test_an_end_counts_even_when_a_clock_is_behind():
    board = Board(["t1"])
    board.take(seen("t1", "running", 5))
    assert board.take(moved("t1", "completed", "running", 4))
    assert board.done and board.completed


def test_what_has_ended_stays_so():
    board = Board(["t1"])
    board.take(moved("t1", "failed", "running", 4))
    assert not board.take(moved("t1", "queued", "running", 5))
    assert board.done and not board.completed


def test_a_new_attempt_begins_at_nothing():
    board = Board(["t1"])
    board.take(seen("t1", "running", 1, progress=80.0, agent="ada"))
    board.take(moved("t1", "queued", "running", 2, reason="the lease was lost"))
    row = board.rows["t1"]
    assert (row.percent, row.agent, row.message) == (0.0, "", "the lease was lost")


def test_the_same_again_is_nothing_new():
    board = Board(["t1"])
    assert board.take(seen("t1", "running", 1))
    assert not board.take(seen("t1", "running", 1))
    assert not board.take(moved("t2", "failed", "running", 2))


def test_watching_everybody_counts_and_keeps_the_latest_movers(monkeypatch):
    monkeypatch.setattr(boards, "KEPT", 2)
    board = Board(None)
    board.take(TaskEvent(kind="summary", counts={"queued": 3, "completed": 1}))
    for task_id in ("t1", "t2", "t3", "t2"):
        board.take(moved(task_id, "assigned", "queued", 1))
    board.take(moved("t9", "queued", "", 2))
    assert list(board.rows) == ["t2", "t9"]
    assert board.counts["assigned"] == 4 and board.counts["queued"] == 0


@pytest.mark.parametrize("height", [10, 40])
@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_drawing_fits_the_terminal(width, height):
    board = Board(f"task-{'x' * 60}-{number}" for number in range(100))
    for number, task_id in enumerate(board.rows):
        board.take(seen(task_id, ("running", "queued", "failed", "completed")[number % 4], 1, agent="a" * 50, progress=33.0))
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, legacy_windows=False)
    console.print(board)
    lines = console.file.getvalue().splitlines()
    assert len(lines) <= height
    assert "running" in "".join(lines) or width == 40


def test_a_table_of_nothing_but_completed_tasks_is_not_drawn_when_it_does_not_fit():
    board = Board(f"t{number}" for number in range(100))
    for task_id in board.rows:
        board.take(seen(task_id, "completed", 1))
    console = Console(file=io.StringIO(), width=100, height=20)
    console.print(board)
    assert "100 of 100 ended" in console.file.getvalue() and "TASK" not in console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.00 s"),
        (0.123, "0.12 s"),
        (12.34, "12.3 s"),
        (59.9, "59.9 s"),
        (60, "1m 00s"),
        (3599, "59m 59s"),
        (3600, "1h 00m"),
        (200000, "2d 07h"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert duration(seconds) == text


def test_clean_text_is_one_harmless_line():
    assert clean("a\tb\r\nc\x1b[0m\x00\u202e\u2066é漢👩‍🚀") == "a b c�[0m���é漢👩‍🚀"
