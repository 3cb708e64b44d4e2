"""How a run looks: on a narrow screen, a wide one, and in a file."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from demo.board import Board, Progress
from demo.tables import Row, ending, milliseconds

ROW = Row(
    name="apps/core/" + "deeply/" * 9 + "buried [module].py", status="completed", accepted=True,
    verdict="a text file of 2048 bytes", priority=162, agent="python-metrics",
    because="python-metrics is the least loaded of 1 (0 of 8 open)", result="12 functions", queued=1.2, dispatch=3.4, run=12_345.0,
)  # fmt: skip
REFUSED = Row(
    name="dot.png", status="rejected", accepted=False, verdict="dot.png is a binary file", priority=0, agent="", because="", result=""
)


def printed(renderable, width):
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(renderable)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_the_last_table_fits_its_screen_and_keeps_every_column(width):
    text = printed(ending([ROW, REFUSED], width=width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "12345" in text
    assert ".py" in text
    assert "\x1b" not in text


def test_at_160_columns_the_reasons_are_readable():
    text = printed(ending([ROW, REFUSED], width=160), 160)
    assert "✓ a text file of 2048 bytes" in text
    assert "✗ is a binary file" in text
    assert "python-metrics least loaded of 1" in text


def heard():
    progress = Progress(total=4)
    progress.hear("1", "assigned", agent="ada")
    progress.hear("1", "completed", agent="ada", name="a.py", said="12 functions")
    progress.hear("1", "running", agent="ada")  # news may overtake one another: an end stays an end
    progress.hear("2", "rejected", name="b.png", said="binary")
    progress.hear("3", "queued")
    return progress


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_live_board_fits_its_screen(width):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True)
    board = Board(console, heard(), title="demo · tree", agents={"ada": "Python"})
    text = printed(board.render(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "2 of 4 ended" in text
    assert "1 completed" in text


def test_piped_progress_is_plain_lines():
    out = io.StringIO()
    board = Board(Console(file=out, width=100), heard(), title="demo", agents={})
    with board:
        board.show()
        board.show()
    assert "2/4 ended" in out.getvalue()
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()


def test_a_clock_that_is_a_little_behind_gives_no_negative_time():
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert milliseconds(now, now - timedelta(milliseconds=3)) == 0.0
    assert milliseconds(now, now + timedelta(milliseconds=3)) == 3.0
    assert milliseconds(None, now) is None
