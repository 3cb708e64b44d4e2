"""Beside thousands of lines a single task goes first."""

from __future__ import annotations

import threading
import time

from apps.tasks.api import courtesy as room
from apps.tasks.api.courtesy import Courtesy


def test_lines_wait_until_the_single_task_is_done(monkeypatch):
    monkeypatch.setattr(room, "GIVE_WAY_SECONDS", 30.0)
    courtesy, came, order = Courtesy(), threading.Event(), []

    def lines() -> None:
        came.wait(30)
        courtesy.give_way()
        order.append("lines")

    bulk = threading.Thread(target=lines)
    bulk.start()
    with courtesy.single("acme"):
        came.set()
        bulk.join(0.05)
        order.append("single")
    bulk.join(30)
    assert order == ["single", "lines"]


def test_lines_never_wait_for_long_and_not_at_all_when_they_are_alone(monkeypatch):
    monkeypatch.setattr(room, "GIVE_WAY_SECONDS", 0.01)
    courtesy = Courtesy()
    assert not courtesy.company
    courtesy.give_way()
    with courtesy.single("acme"):
        courtesy.give_way()
        assert courtesy.company
    monkeypatch.setattr(room, "COMPANY_SECONDS", -1.0)
    assert not courtesy.company


def test_a_single_task_that_fails_is_done_too():
    courtesy = Courtesy()
    try:
        with courtesy.single("acme"):
            raise RuntimeError
    except RuntimeError:
        began = time.monotonic()
        courtesy.give_way()
    assert time.monotonic() - began < room.GIVE_WAY_SECONDS


def test_after_a_chunk_of_lines_there_is_a_rest_while_single_tasks_come_and_none_otherwise(monkeypatch):
    rests = []
    monkeypatch.setattr(room.Lot, "rest", lambda _lot, least: rests.append(least))
    courtesy = Courtesy()
    with courtesy.many():
        pass
    assert not rests
    with courtesy.single("acme"):
        pass
    with courtesy.many():
        pass
    assert rests == [1.0]
