"""Frameworks. An adapter reads a request of its framework, answers in it, and builds the request again in a worker.

A framework that nobody has imported cannot have made a request: its adapter is loaded when it is needed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from apps.jobs.adapters.base import Adapter

ADAPTERS = {
    # name: (module, class, the module whose requests it takes)
    "drf": ("apps.jobs.adapters.drf", "DrfAdapter", "rest_framework.request"),
    "django": ("apps.jobs.adapters.django", "DjangoAdapter", "django.http.request"),
    "fastapi": ("apps.jobs.adapters.fastapi", "FastApiAdapter", "starlette.requests"),
    "plain": ("apps.jobs.adapters.plain", "PlainAdapter", "builtins"),
}
"""In the order in which they are asked; the last takes what looks like a request."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of a decorated method, and the request in it."""

    adapter: Adapter
    request: Any
    """None: there is none"""
    place: str
    """as `RequestSnapshot.place`"""


@lru_cache(maxsize=8)
def named(kind: str) -> Adapter:
    module, name, _ = ADAPTERS[kind]
    return getattr(importlib.import_module(module), name)()


def loaded() -> Iterator[Adapter]:
    return (named(kind) for kind, (_, _, source) in ADAPTERS.items() if source in sys.modules)


def of(request: Any) -> Adapter | None:
    """Whose request this is."""
    return next((adapter for adapter in loaded() if adapter.takes(request)), None)


def find(view: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """The request among the arguments, else the one that the view was set up with, else none."""
    places = [("request", kwargs["request"])] if "request" in kwargs else []
    places += [(str(index), value) for index, value in enumerate(args)]
    places += [(name, value) for name, value in kwargs.items() if name != "request"]
    for place, value in [*places, ("", getattr(view, "request", None))]:
        if value is not None and (adapter := of(value)) is not None:
            return Call(adapter=adapter, request=value, place=place)
    return Call(adapter=named("plain"), request=None, place="")
