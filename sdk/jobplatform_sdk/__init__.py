"""Agents, clients and the command line of the job platform."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Agent": "agent",
    "Context": "attempt",
    "Decline": "attempt",
    "Retryable": "attempt",
    "Task": "task",
    "BadKey": "credentials",
    "AccessRefused": "runtime",
    "Client": "client",
    "AsyncClient": "client_async",
    "Patience": "client_calls",
    "ClientError": "client_errors",
}
"""Where each name lives. Imported when first used: an agent needs no HTTP, a client no NATS."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
