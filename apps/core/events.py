"""News. An event is a frozen past fact; whoever may know less publishes, whoever may know more subscribes
(`jobplatform/wiring.py`). Handlers run in the publisher's thread; one that fails is logged and does not
stop the others, because the truth is already written and news is only a hint."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)
_handlers: dict[type, list[Callable[[Any], None]]] = defaultdict(list)


def subscribe(event: type, handler: Callable[[Any], None]) -> None:
    if handler not in _handlers[event]:
        _handlers[event].append(handler)


def publish(event: Any) -> None:
    for handler in _handlers[type(event)]:
        try:
            handler(event)
        except Exception:  # the boundary of a hint: a subscriber's fault must not undo the publisher's work
            log.exception("event.handler_failed", extra={"event": type(event).__name__, "handler": handler.__qualname__})
