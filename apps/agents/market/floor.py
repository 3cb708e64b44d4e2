"""The auction floor: carries a batch's questions out, all at the same time, and brings the answers back.

Blocks for the longest window of the batch at most, or until everybody has answered. One floor per process: it also hears
the answers that come too late, and keeps them until somebody writes them down.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

import orjson
from django.db import models

from apps.agents.market import paperwork
from apps.agents.market.bids import BidBook
from apps.agents.market.questions import Answer, CallForBids, Question, ServiceRequest
from apps.agents.market.records import Auction, Bid
from apps.agents.market.service_door import post
from apps.core import bulk
from apps.dsl.models import PolicyRun
from apps.messaging import subjects
from apps.messaging.asking import Round
from apps.messaging.connection import WireDown, wire

log = logging.getLogger(__name__)

LATE_KEPT = 10_000
SAID_KEPT = 20_000
SERVICE_THREADS = 8

Result = TypeVar("Result")


class Floor:
    def __init__(self) -> None:
        self._late: deque[tuple[str, BidBook, str, bytes, float]] = deque(maxlen=LATE_KEPT)
        """(org, book, agent, what it said, ms after the call) of answers to closed calls; filled by the wire thread."""
        self._said: OrderedDict[tuple[Any, ...], None] = OrderedDict()

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """An answer each, in order; nothing is raised."""
        calls = [question for question in questions if isinstance(question, CallForBids)]
        requests = [question for question in questions if isinstance(question, ServiceRequest)]
        if not requests:
            return self._call(calls)
        with ThreadPoolExecutor(SERVICE_THREADS, thread_name_prefix="auction-service") as threads:
            posted = threads.map(post, requests)
            called = iter(self._call(calls) if calls else ())
            served = iter(list(posted))
        return [next(called) if isinstance(question, CallForBids) else next(served) for question in questions]

    def _call(self, calls: Sequence[CallForBids]) -> list[Answer]:
        try:
            took = wire().ask([self._round(call) for call in calls])
        except WireDown as error:
            log.warning("auction.no_wire", extra={"auctions": len(calls), "error": str(error)})
            return [Answer(problem=str(error))] * len(calls)
        return [Answer(took_ms=ms) for ms in took]

    def _round(self, call: CallForBids) -> Round:
        book = call.book

        def heard(agent: str, data: bytes | None, after_ms: float) -> bool:
            if data is None:
                book.not_there(agent)
            else:
                book.hear(agent, data, after_ms)
            return book.complete

        def late(agent: str, data: bytes, after_ms: float) -> None:
            self._late.append((call.org_id, book, agent, data, after_ms))

        return Round(
            payload=orjson.dumps(call.call),
            to=[(agent, subjects.bids(subjects.agent_token(call.org_id, agent))) for agent in book.called],
            seconds=call.window_ms / 1000,
            heard=heard,
            late=late,
        )

    def worth_keeping(self, records: Sequence[models.Model]) -> list[models.Model]:
        """Without what says nothing new: for a task that waits for an agent, scripts are asked and auctions held every second.
        That nobody answered is kept once an attempt, and of a script that goes on saying the same, the first run."""
        kept = []
        for row in records:
            which: tuple[Any, ...] = ()
            if isinstance(row, Auction) and row.outcome == "no_bids" and not row.ignored:
                which = (row.task_key, row.attempt)
            elif isinstance(row, PolicyRun):
                which = (row.task_key, row.hook, row.script_id, row.script_version, row.error, orjson.dumps(row.output))
            if which in self._said:
                continue
            if which:
                self._said[which] = None
                if len(self._said) > SAID_KEPT:
                    self._said.popitem(last=False)
            kept.append(row)
        return kept

    def record_late(self, *, now: datetime) -> int:
        """Write down what came after the close; answers how much. Not much is lost when nobody comes to do it."""
        rows: list[Bid] = []
        while self._late:
            org_id, book, agent, data, after_ms = self._late.popleft()
            ignored = book.hear(agent, data, after_ms, late=True)
            if ignored is not None:
                auction = Auction(id=book.auction_id, org_id=org_id, task_key=f"{org_id}/{book.task_id}")
                rows.append(paperwork.ignored_row(auction, f"late-{book.ignored_count:06}", ignored, at=now))
        bulk.insert_missing(rows)
        return len(rows)


@lru_cache(maxsize=1)
def floor() -> Floor:
    """This process's floor."""
    return Floor()


Asking = Generator[list[Question], list[Answer], Result]


def together(several: Sequence[Asking[Result]]) -> Asking[list[Result]]:
    """Run them side by side: what they ask at the same time goes out at the same time."""
    results: dict[int, Result] = {}
    asking: dict[int, list[Question]] = {}
    for index, each in enumerate(several):
        _step(index, each, None, asking, results)
    while asking:
        owners = [index for index, questions in asking.items() for _ in questions]
        answers = yield [question for questions in asking.values() for question in questions]
        sorted_out: dict[int, list[Answer]] = {index: [] for index in asking}
        for index, answer in zip(owners, answers, strict=True):
            sorted_out[index].append(answer)
        asking = {}
        for index, mine in sorted_out.items():
            _step(index, several[index], mine, asking, results)
    return [results[index] for index in range(len(several))]


def _step(
    index: int, each: Asking[Result], answers: list[Answer] | None, asking: dict[int, list[Question]], results: dict[int, Result]
) -> None:
    try:
        asking[index] = each.send(answers)  # type: ignore[arg-type]
    except StopIteration as end:
        results[index] = end.value


def carried_out(asking: Asking[Result], by: Floor) -> tuple[Result, float]:
    """Run one to its end on this floor; its result, and the seconds it waited."""
    waited, answers = 0.0, None
    while True:
        try:
            questions = asking.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value, waited
        began = time.monotonic()
        answers = by.ask(questions)
        waited += time.monotonic() - began


def begun(asking: Asking[Result]) -> Result | Asking[Result]:
    """Its result when it asks nobody; else the same asking, about to ask."""
    try:
        questions = next(asking)
    except StopIteration as end:
        return end.value
    return _resumed(asking, questions)


def _resumed(asking: Asking[Result], questions: list[Question]) -> Asking[Result]:
    while True:
        answers = yield questions
        try:
            questions = asking.send(answers)
        except StopIteration as end:
            return end.value
