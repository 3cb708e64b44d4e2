"""Who hears which news. Events travel upward along this one table."""

from __future__ import annotations

from apps.core import events

TABLE: tuple[tuple[type, object], ...] = ()


def connect() -> None:
    for event, handler in TABLE:
        events.subscribe(event, handler)
