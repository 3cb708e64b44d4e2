"""EventManager: subscribes at the transports, forwards what comes to handlers, sends what is told out.

    manager = EventManager(configured())
    manager.subscribe("agency_action", actions.receive)   # sync or async
    manager.start()
    manager.forward("agency_results", {...}, key="s1", org_id="acme")
    manager.stop()

EventHandler keeps the handlers. One that fails is logged and keeps nobody else from the event. One that says that something it
needs is away (Unavailable, a database or Redis that is gone) gets the event again later, as do the others: handlers are
harmless when called twice.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db.utils import DatabaseError, InterfaceError

from apps.core import observe, redis
from apps.core.errors import Invalid, Malformed, TooLarge, Unavailable
from apps.core.strict_json import Limits, parse_json
from apps.workflows.eventing.transports import Message, Subscription, Transport, TransportDown

log = logging.getLogger(__name__)

LIMITS = Limits(body=8 * 1024 * 1024, depth=64, keys=10_000, string=1024 * 1024, items=100_000, problems=100)
"""Of an event: a session document fits."""
ASYNC_SECONDS = 30.0
"""How long async handlers of one event may take together."""
AWAY = (Unavailable, DatabaseError, InterfaceError, *redis.RedisDown)

ERROR, METRICS_UPDATE, STATE_UPDATE = "error", "metrics_update", "state_update"
RESULT_STORAGE, GROUP_STATE_UPDATE, DEPENDENCY = "result_storage", "group_state_update", "dependency_completion"


@dataclass(frozen=True, kw_only=True)
class Event:
    type: str
    """What handlers are registered for: a topic, or one of the names above."""
    data: Mapping[str, Any] = field(default_factory=dict)
    org_id: str = ""
    """As the transport itself knows it; "" when it does not."""
    transport: str = ""
    """"" for events from within."""


Handler = Callable[[Event], None] | Callable[[Event], Awaitable[None]]


class EventHandler:
    """Who hears what. `look(session_key, paths)` is how it asks for another look at a session; by default the hint that the
    platform itself sends."""

    def __init__(self, look: Callable[[str, Sequence[str]], None] | None = None) -> None:
        self._async_handlers: dict[str, list[Callable[[Event], Awaitable[None]]]] = defaultdict(list)
        self._sync_handlers: dict[str, list[Callable[[Event], None]]] = defaultdict(list)
        self._look = look or _send_hint
        self._register_default_handlers()

    def register_handler(self, event_type: str, handler: Handler) -> None:
        """Twice is once. An `async def` is run to its end, beside the other async ones."""
        handlers: list[Any] = (self._async_handlers if _is_async(handler) else self._sync_handlers)[event_type]
        if handler not in handlers:
            handlers.append(handler)

    def unregister_handler(self, event_type: str, handler: Handler) -> None:
        """One that is not there is fine."""
        for handlers in (self._sync_handlers, self._async_handlers):
            if handler in handlers.get(event_type, ()):
                handlers[event_type].remove(handler)  # type: ignore[arg-type]

    def handle_event(self, event: Event) -> list[Exception]:
        """Every handler in turn, the async ones together after the others; what they raised, logged already. For synchronous
        code; inside an event loop use `handle_event_async`."""
        failed = self._run_sync(event)
        if self._async_handlers.get(event.type):
            failed += asyncio.run(self._run_async(event))
        return failed

    async def handle_event_async(self, event: Event) -> list[Exception]:
        failed = await asyncio.to_thread(self._run_sync, event)
        return failed + await self._run_async(event)

    def _run_sync(self, event: Event) -> list[Exception]:
        failed = []
        for handler in list(self._sync_handlers.get(event.type, ())):
            try:
                handler(event)
            except Exception as error:  # the boundary: one handler's fault is not another's
                failed.append(self._handle_error(event, handler, error))
        return failed

    async def _run_async(self, event: Event) -> list[Exception]:
        async def run(handler: Callable[[Event], Awaitable[None]]) -> Exception | None:
            try:
                async with asyncio.timeout(ASYNC_SECONDS):
                    await handler(event)
            except Exception as error:  # the boundary, as above
                return self._handle_error(event, handler, error)
            return None

        outcomes = await asyncio.gather(*(run(handler) for handler in list(self._async_handlers.get(event.type, ()))))
        return [outcome for outcome in outcomes if outcome is not None]

    # ---- what is heard without anybody asking for it ----

    def _register_default_handlers(self) -> None:
        for event_type, handler in (
            (ERROR, self._log_error),
            (METRICS_UPDATE, self._handle_metrics_update),
            (STATE_UPDATE, self._log_state_update),
            (RESULT_STORAGE, self._log_result_storage),
            (GROUP_STATE_UPDATE, self._log_group_state_update),
            (GROUP_STATE_UPDATE, self._update_group_state),
            (DEPENDENCY, self._check_dependency_completion),
        ):
            self.register_handler(event_type, handler)

    def _handle_error(self, event: Event, handler: Any, error: Exception) -> Exception:
        name = getattr(handler, "__qualname__", repr(handler))
        away = isinstance(error, AWAY)
        log.log(
            logging.WARNING if away else logging.ERROR,
            "event.handler_failed",
            exc_info=None if away else error,
            extra={"event_type": event.type, "handler": name, "error": str(error)[:200]},
        )
        return error

    def _log_error(self, event: Event) -> None:
        log.error("event.error", extra=_facts(event, "session_id", "path", "error"))

    def _handle_metrics_update(self, event: Event) -> None:
        """`{"outcome": …, "count": n}` into the counter of events."""
        count = event.data.get("count", 1)
        if isinstance(count, int) and not isinstance(count, bool) and count > 0:
            outcome = event.data.get("outcome")
            observe.EVENTS.inc(event.transport or "none", outcome if outcome in OUTCOMES else "handled", by=count)

    def _log_state_update(self, event: Event) -> None:
        log.info("session.step_moved", extra=_facts(event, "session_id", "path", "old", "new"))

    def _log_result_storage(self, event: Event) -> None:
        log.info("session.result_stored", extra=_facts(event, "session_id", "path", "keys"))

    def _log_group_state_update(self, event: Event) -> None:
        log.info("session.moved", extra=_facts(event, "session_id", "path", "status", "partial", "reason"))

    def _check_dependency_completion(self, event: Event) -> None:
        """Something that others wait for has ended: look at what follows from it. The rows decide, not the event."""
        self._look_at(event)

    def _update_group_state(self, event: Event) -> None:
        self._look_at(event)

    def _look_at(self, event: Event) -> None:
        # Only the platform itself asks for that: an event from outside could wake, never move, but need not even wake.
        session_key, path = event.data.get("session_key"), event.data.get("path")
        if not event.transport and isinstance(session_key, str) and session_key:
            self._look(session_key, [path] if isinstance(path, str) and path else [])


OUTCOMES = ("handled", "failed", "retried", "malformed", "refused", "forwarded", "lost")


class EventManager:
    def __init__(self, transports: Sequence[Transport], handler: EventHandler | None = None) -> None:
        self.transports = list(transports)
        self.handler = handler or EventHandler()
        self._topics: list[str] = []
        self._subscriptions: list[Subscription] = []

    # ---- in ----

    def subscribe(self, topic: str, handler: Handler) -> None:
        """Before `start`."""
        if self._subscriptions:
            raise RuntimeError("Subscribe before the manager is started.")
        self.handler.register_handler(topic, handler)
        if topic not in self._topics:
            self._topics.append(topic)

    def start(self) -> None:
        """Twice is once. Does not wait for brokers: see `wait_in_force`."""
        if self._subscriptions or not self._topics:
            return
        for transport in self.transports:
            gap = _gap(transport.name)
            self._subscriptions.append(transport.subscribe(self._topics, self._deliver, on_gap=gap))
            log.info("events.subscribed", extra={"transport": transport.name, "topics": ",".join(self._topics)})

    def wait_in_force(self, timeout_seconds: float) -> bool:
        """Whether every subscription is."""
        return all(subscription.wait_in_force(timeout_seconds) for subscription in self._subscriptions)

    def stop(self) -> None:
        """No event is handled after it; what was forwarded is sent first. Twice is harmless."""
        while self._subscriptions:
            self._subscriptions.pop().close()
        for transport in self.transports:
            transport.close()

    def _deliver(self, message: Message) -> None:
        """Raises Unavailable when the event is to come again."""
        try:
            data = parse_json(message.payload, LIMITS)
            if not isinstance(data, dict):
                raise Malformed("An event is a JSON object.")
        except (Malformed, Invalid, TooLarge) as error:
            # Dropped and said: it can never become better.
            observe.EVENTS.inc(message.transport, "malformed")
            log.warning("event.malformed", extra={"transport": message.transport, "topic": message.topic, "error": str(error)[:200]})
            return
        event = Event(type=message.topic, data=data, org_id=message.org_id, transport=message.transport)
        failed = self.handler.handle_event(event)
        for error in failed:
            if isinstance(error, AWAY):
                raise error
        observe.EVENTS.inc(message.transport, "failed" if failed else "handled")

    # ---- out ----

    def forward(self, topic: str, body: Mapping[str, Any], *, key: str, org_id: str) -> list[str]:
        """To every transport; the names of those that took it. Never raises because one is away."""
        payload = orjson.dumps(body)
        took = []
        for transport in self.transports:
            try:
                transport.publish(topic, payload, key=key, org_id=org_id)
            except TransportDown as error:
                observe.EVENTS.inc(transport.name, "lost")
                log.warning("event.not_sent", extra={"transport": transport.name, "topic": topic, "error": str(error)[:200]})
                continue
            observe.EVENTS.inc(transport.name, "forwarded")
            took.append(transport.name)
        return took

    def healthy(self) -> dict[str, bool]:
        return {transport.name: transport.healthy() for transport in self.transports}


def _gap(transport: str) -> Callable[[], None]:
    return lambda: log.warning("events.maybe_missed", extra={"transport": transport})


def _is_async(handler: Any) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def _facts(event: Event, *names: str) -> dict[str, str]:
    return {name: str(event.data[name])[:200] for name in names if name in event.data}


def _send_hint(session_key: str, paths: Sequence[str]) -> None:
    from apps.core import background

    background.send("workflows.advance", session_key=session_key, paths=list(paths))
