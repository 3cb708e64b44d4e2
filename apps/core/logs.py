"""Ids that every log line of one entry carries: bound once, where a request, a message or a report comes in.

    with logs.bind(request_id=this):        # the entry
        logs.add(org=principal.org_id)      # known a little later
        log.info("task.cancelled")          # … request_id=… org=…

What a line itself says (`extra=`) goes before what is bound. Names: `request_id`, `org`, `work` (a Celery task), `trace`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_bound: ContextVar[dict[str, str] | None] = ContextVar("log_ids", default=None)


def bound() -> Mapping[str, str]:
    return _bound.get() or {}


@contextmanager
def bind(**ids: str) -> Iterator[None]:
    token = _bound.set({**bound(), **ids})
    try:
        yield
    finally:
        _bound.reset(token)


def add(**ids: str) -> None:
    """To the entry we are in; nothing outside of one."""
    known = _bound.get()
    if known is not None:
        known.update(ids)


def start(**ids: str) -> None:
    """A new entry where there is no block to bind around (signals). The next one ends it."""
    _bound.set(dict(ids))
