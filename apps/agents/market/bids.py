"""Bids as they come in: what counts, what does not and why. Pure: the wire tells who answered, never the answer itself.

One book per auction. Of each agent the first valid bid stands; whatever comes after it, or after the close, is kept with
its reason and changes nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

BID_BYTES = 4096
PRICE_MAX = 1e12
ETA_MAX_S = 365 * 86_400.0
IGNORED_KEPT = 1000
"""Of one auction; more are counted only."""
IGNORED_KEPT_PER_AGENT = 3
SHOWN_CHARACTERS = 200


class Why(StrEnum):
    """Why an answer does not count."""

    MALFORMED = "malformed"
    OTHER_TASK = "bid for another task"
    WRONG_BIDDER = "names another bidder"
    DUPLICATE = "duplicate: the first bid stands"
    CHANGED = "changed: the first bid stands"
    LATE = "late: the auction was closed"
    OVER_RESERVE = "over the reserve price"
    TOO_SLOW = "promises to end too late"
    NOT_CONFIDENT = "not confident enough"
    NOT_REPUTED = "not enough reputation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bid:
    """A valid bid. `price` in the org's unit, `eta_s` seconds until done, `confidence` and `load` 0…1."""

    agent: str
    price: float
    eta_s: float
    confidence: float
    load: float
    after_ms: float
    """Since the call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignored:
    agent: str
    why: str
    detail: str
    after_ms: float
    said: str
    """The beginning of what came, printable."""


class BadBid(ValueError):
    def __init__(self, why: Why, detail: str) -> None:
        self.why, self.detail = why, detail
        super().__init__(detail)


PASS = None


def read_bid(data: bytes, *, agent: str, auction_id: str, task_id: str, after_ms: float) -> Bid | None:
    """The bid in an answer; PASS when the agent does not want the task. BadBid.

    The wire has authenticated `agent`. An answer may repeat auction, task and bidder; what it repeats must be right.
    """
    if len(data) > BID_BYTES:
        raise BadBid(Why.MALFORMED, f"more than {BID_BYTES} bytes")
    try:
        body = orjson.loads(data)  # refuses NaN, Infinity and what is not UTF-8
    except orjson.JSONDecodeError:
        raise BadBid(Why.MALFORMED, "not JSON") from None
    if type(body) is not dict:
        raise BadBid(Why.MALFORMED, "not an object")
    if body.get("task_id", task_id) != task_id or body.get("auction_id", auction_id) != auction_id:
        raise BadBid(Why.OTHER_TASK, "it answers another call")
    if body.get("subject_id", agent) != agent:
        raise BadBid(Why.WRONG_BIDDER, "subject_id is not the sender's")
    if body.get("pass") is True:
        return PASS
    return Bid(
        agent=agent,
        price=_number(body, "price", 0.0, PRICE_MAX),
        eta_s=_number(body, "eta_s", 0.0, ETA_MAX_S, default=0.0),
        confidence=_number(body, "confidence", 0.0, 1.0, default=1.0),
        load=_number(body, "load", 0.0, 1.0, default=0.0),
        after_ms=after_ms,
    )


def _number(body: dict[str, Any], name: str, low: float, high: float, *, default: float | None = None) -> float:
    value = body.get(name, default)
    if type(value) not in (int, float):
        raise BadBid(Why.MALFORMED, f"{name} must be a number")
    number = float(value) if abs(value) < 1e300 else math.inf
    if not math.isfinite(number) or not low <= number <= high:
        raise BadBid(Why.MALFORMED, f"{name} must be from {low:g} to {high:g}")
    return number + 0.0  # no negative zero


class BidBook:
    """What became of one call for bids."""

    def __init__(self, *, auction_id: str, task_id: str, called: Iterable[str]) -> None:
        self.auction_id, self.task_id = auction_id, task_id
        self.called = frozenset(called)
        self.bids: dict[str, Bid] = {}
        self.passed: set[str] = set()
        self.absent: set[str] = set()
        """Nobody listens there: the agent has no bidder, or is gone."""
        self.ignored: list[Ignored] = []
        self.ignored_count = 0
        self._answered: dict[str, bytes] = {}
        self._kept: Counter[str] = Counter()

    @property
    def complete(self) -> bool:
        return len(self._answered) + len(self.absent) >= len(self.called)

    @property
    def silent(self) -> frozenset[str]:
        return self.called - self._answered.keys() - self.absent

    def not_there(self, agent: str) -> None:
        if agent in self.called and agent not in self._answered:
            self.absent.add(agent)

    def hear(self, agent: str, data: bytes, after_ms: float, *, late: bool = False) -> Ignored | None:
        """An answer came from `agent`. Gives back what is to be kept of it when it does not count."""
        if agent not in self.called:
            return self._ignore(agent, Why.WRONG_BIDDER, "it was not called", data, after_ms)
        if late:
            return self._ignore(agent, Why.LATE, "", data, after_ms)
        if agent in self._answered:
            same = self._answered[agent] == data
            return self._ignore(agent, Why.DUPLICATE if same else Why.CHANGED, "", data, after_ms)
        try:
            bid = read_bid(data, agent=agent, auction_id=self.auction_id, task_id=self.task_id, after_ms=after_ms)
        except BadBid as bad:
            self._answered[agent] = data
            return self._ignore(agent, bad.why, bad.detail, data, after_ms)
        self._answered[agent] = data
        self.absent.discard(agent)
        if bid is PASS:
            self.passed.add(agent)
        else:
            self.bids[agent] = bid
        return None

    def _ignore(self, agent: str, why: Why, detail: str, data: bytes, after_ms: float) -> Ignored | None:
        self.ignored_count += 1
        if len(self.ignored) >= IGNORED_KEPT or self._kept[agent] >= IGNORED_KEPT_PER_AGENT:
            return None
        self._kept[agent] += 1
        said = data[: SHOWN_CHARACTERS * 4].decode("utf-8", "replace")[:SHOWN_CHARACTERS]
        said = "".join(char if char.isprintable() else "\ufffd" for char in said)
        kept = Ignored(agent=agent, why=why.value, detail=detail, after_ms=after_ms, said=said)
        self.ignored.append(kept)
        return kept
