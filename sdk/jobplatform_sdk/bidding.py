"""Bidding: an agent says what it would take to do a task, and the platform chooses.

    @agent.bidder
    async def bid(call: Call) -> Bid | None:
        if "translate" not in call.goal:
            return None                                   # not for us
        return Bid(price=2.5, eta_s=30, confidence=0.9)

A bid is a promise: what was promised is compared with what happens, and an agent whose promises hold wins more.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from nats.aio.msg import Msg

from jobplatform_sdk import subjects
from jobplatform_sdk.link import Link
from jobplatform_sdk.threads import Threads

log = logging.getLogger("jobplatform_sdk.agent")

THREADS = 4
"""For bidders that are ordinary functions: they should take milliseconds."""
WAITING_MAX = 1_000
"""Calls looked at at once; further ones are passed on, so that the auction need not wait for us."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call for bids. `brief` is whatever the org's script tells bidders; `raw` is everything that came."""

    auction_id: str
    org_id: str
    task_id: str
    goal: str = ""
    intent: str = ""
    priority: int = 0
    job_space_id: str = ""
    due: str = ""
    capabilities: tuple[str, ...] = ()
    rule: str = "first_price"
    reserve_price: float | None = None
    """The most that will be paid; None: not said."""
    bid_window_ms: int = 200
    """A later answer does not count."""
    load: float = 0.0
    """Our own, as the call came: tasks running or ready per slot, 0…1."""
    brief: dict[str, Any] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bid:
    """`price` in the org's unit; `eta_s` seconds from getting the task to its end; `confidence` that it succeeds and `load`
    from 0 to 1. `load` is filled in when left out. ValueError when a number is none, or out of its range."""

    price: float
    eta_s: float = 0.0
    confidence: float = 1.0
    load: float | None = None

    def __post_init__(self) -> None:
        for name, most in (("price", math.inf), ("eta_s", math.inf), ("confidence", 1.0), ("load", 1.0)):
            value = getattr(self, name)
            if value is None and name == "load":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= most:
                raise ValueError(f"{name} must be a number from 0" + (f" to {most:g}" if most < math.inf else ""))


Bidder = Callable[[Call], "Bid | None | Awaitable[Bid | None]"]


class BadCall(ValueError):
    """The message is not a call for bids."""


class Bidding:
    """Answers calls for one agent, on its link and loop. Whatever a bidder does, the call is answered or its time is up."""

    def __init__(self, link: Link, token: str, bidder: Bidder, load: Callable[[], float]) -> None:
        self._link, self._token, self._bidder, self._load = link, token, bidder, load
        self._is_async = inspect.iscoroutinefunction(bidder) or inspect.iscoroutinefunction(type(bidder).__call__)
        self._threads = Threads(THREADS)
        self._open: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await self._link.subscribe(subjects.bids(self._token), self._called)

    def close(self) -> None:
        for task in self._open:
            task.cancel()
        self._threads.close()

    async def _called(self, message: Msg) -> None:
        try:
            call = read_call(orjson.loads(message.data), load=self._load())
        except ValueError as error:  # orjson's included
            log.error("call.malformed", extra={"error": str(error)})
            return
        if len(self._open) >= WAITING_MAX:
            await self._answer(message.reply, call, None)
            return
        task = asyncio.create_task(self._bid(call, message.reply))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _bid(self, call: Call, reply: str) -> None:
        answer: Bid | None = None
        try:
            async with asyncio.timeout(call.bid_window_ms / 1000):
                made = await (self._bidder(call) if self._is_async else self._threads.run(lambda: self._bidder(call)))  # type: ignore[misc]
            if made is not None and not isinstance(made, Bid):
                raise TypeError(f"a bidder returns a Bid or None, not {type(made).__name__}")
            answer = made
        except TimeoutError:
            log.warning("bid.too_slow", extra={"task": call.task_id, "window_ms": call.bid_window_ms})
            return
        except Exception as error:  # the boundary of foreign code: the task is not for us then
            log.warning("bid.failed", extra={"task": call.task_id}, exc_info=error)
        await self._answer(reply, call, answer)

    async def _answer(self, reply: str, call: Call, bid: Bid | None) -> None:
        body: dict[str, Any] = {"auction_id": call.auction_id, "task_id": call.task_id}
        if bid is None:
            body["pass"] = True
        else:
            load = call.load if bid.load is None else bid.load
            body |= {"price": bid.price, "eta_s": bid.eta_s, "confidence": bid.confidence, "load": load}
        await self._link.publish(reply, orjson.dumps(body))


def read_call(body: Any, *, load: float = 0.0) -> Call:
    """BadCall when it is not one."""
    if not isinstance(body, dict) or body.get("type") != "call_for_bids":
        raise BadCall("it is not a call for bids")
    names = ("auction_id", "org_id", "task_id")
    if any(not isinstance(body.get(name), str) for name in names):
        raise BadCall(f"it needs {', '.join(names)}")
    window = body.get("bid_window_ms")
    reserve = body.get("reserve_price")
    brief, wanted = body.get("brief"), body.get("capabilities")
    return Call(
        **{name: body[name] for name in names},
        goal=_text(body, "goal"),
        intent=_text(body, "intent"),
        priority=body["priority"] if isinstance(body.get("priority"), int) else 0,
        job_space_id=_text(body, "job_space_id"),
        due=_text(body, "due"),
        capabilities=tuple(word for word in wanted if isinstance(word, str)) if isinstance(wanted, list) else (),
        rule=_text(body, "rule") or "first_price",
        reserve_price=reserve if isinstance(reserve, int | float) else None,
        bid_window_ms=window if isinstance(window, int) and window > 0 else 200,
        load=load,
        brief=brief if isinstance(brief, dict) else {},
        raw=body,
    )


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""
