import logging
from dataclasses import dataclass

import pytest

from apps.core import events


@dataclass(frozen=True)
class Happened:
    what: str


@dataclass(frozen=True)
class SomethingElse:
    what: str


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch):
    monkeypatch.setattr(events, "_handlers", type(events._handlers)(list))


def test_news_reaches_everyone_who_asked_for_that_kind():
    heard = []
    events.subscribe(Happened, heard.append)
    events.subscribe(SomethingElse, lambda event: heard.append("wrong"))
    events.publish(Happened("rain"))
    assert heard == [Happened("rain")]


def test_asking_twice_is_hearing_once():
    heard = []
    events.subscribe(Happened, heard.append)
    events.subscribe(Happened, heard.append)
    events.publish(Happened("rain"))
    assert heard == [Happened("rain")]


def test_a_handler_that_fails_is_logged_and_stops_neither_publisher_nor_the_others(caplog):
    heard = []

    def broken(event):
        raise ValueError("no")

    events.subscribe(Happened, broken)
    events.subscribe(Happened, heard.append)
    with caplog.at_level(logging.ERROR):
        events.publish(Happened("rain"))
    assert heard == [Happened("rain")]
    assert [record.message for record in caplog.records] == ["event.handler_failed"]


def test_news_nobody_asked_for_is_no_problem():
    events.publish(Happened("rain"))
