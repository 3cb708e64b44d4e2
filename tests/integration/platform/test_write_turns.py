"""Whoever writes to SQLite takes his turn: first come, first served, and nobody waits for ever."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from django.db import OperationalError
from django.db.utils import ConnectionHandler

from jobplatform.settings.databases import database


class Writer:
    """A connection of its own to one file."""

    def __init__(self, path, *, patience: float = 20) -> None:
        config = database(f"sqlite:///{path}")
        config["OPTIONS"]["timeout"] = patience
        self.connection = ConnectionHandler({"default": config}).create_connection("default")
        self.connection.inc_thread_sharing()

    def begin(self) -> None:
        self.connection.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)

    def end(self) -> None:
        self.connection.commit()
        self.connection.set_autocommit(True)

    def patience_ms(self) -> int:
        return self.connection.connection.execute("PRAGMA busy_timeout").fetchone()[0]


@pytest.fixture
def writer(tmp_path, django_db_blocker):
    """Of a file that is not the tests' database."""
    made = []

    def make(**how) -> Writer:
        made.append(Writer(tmp_path / "turns.sqlite3", **how))
        return made[-1]

    with django_db_blocker.unblock():
        yield make
        for one in made:
            one.connection.close()


def test_nobody_overtakes_who_waits_not_even_the_writer_that_has_just_finished(writer):
    busy, waiting, order = writer(), writer(), []
    busy.begin()

    def wait() -> None:
        waiting.begin()
        order.append("waited")
        waiting.end()

    thread = threading.Thread(target=wait)
    thread.start()
    while not waiting.connection.connection or waiting.patience_ms():  # until it stands first in line
        thread.join(0.001)
    busy.end()
    busy.begin()  # at once
    order.append("again")
    busy.end()
    thread.join(30)
    assert order == ["waited", "again"]
    assert waiting.patience_ms() == busy.patience_ms() == 20_000  # for what is written outside transactions


def test_whoever_waits_too_long_is_told_and_so_are_those_behind(writer):
    busy, told = writer(), []
    busy.begin()

    def wait(one: Writer) -> None:
        try:
            one.begin()
        except OperationalError as error:
            told.append(str(error))

    threads = [threading.Thread(target=wait, args=(writer(patience=0.05),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert told == ["database is locked"] * 3
    busy.end()
    late = writer(patience=0.05)
    late.begin()
    late.end()


def test_who_dies_in_line_holds_up_nobody(writer, tmp_path):
    here = writer()
    here.begin()
    here.end()
    program = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX); print('in line', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "turns.sqlite3-turn"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "in line\n"
    other.kill()
    other.communicate()
    here.begin()
    here.end()
