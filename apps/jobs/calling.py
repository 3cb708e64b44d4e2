"""In the worker: a job's row becomes a call again. A fresh instance, the request rebuilt, the permissions asked once more."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from apps.jobs import adapters, people
from apps.jobs.marks import Found
from apps.jobs.snapshot import RequestSnapshot

PLAIN = frozenset({type(None), bool, int, float, str, list, tuple, dict})
"""No responses: no framework is loaded to find that out."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    run: Callable[[], Any]
    """the method; call it outside of an event loop, and run what it hands back when that is a coroutine"""
    is_async: bool
    instance: Any


@dataclass(frozen=True, kw_only=True)
class Answered:
    value: Any
    status: int | None
    """HTTP status, when the method returned a response"""


def prepare(found: Found, *, request: Mapping[str, Any] | None, arguments: Mapping[str, Any]) -> Prepared:
    """`request` and `arguments` as in the job's row. Raises Forbidden when whoever asked may no longer."""
    snapshot = RequestSnapshot.of(request or {"kind": "plain"})
    adapter = adapters.named(snapshot.kind)
    user = people.load(snapshot.user)
    view, rebuilt = adapter.rebuild(found.owner_class, snapshot, user)
    args, kwargs = list(arguments.get("args", ())), dict(arguments.get("kwargs", {}))
    if request is not None:
        adapter.permit(view, rebuilt)
        kwargs = {name: adapter.typed(rebuilt, name, value) for name, value in kwargs.items()}
    if request is not None and not snapshot.place and view is not None:
        view.request = rebuilt  # it was the view's own
    if snapshot.place.isdigit():
        args[int(snapshot.place)] = rebuilt
    elif snapshot.place:
        kwargs[snapshot.place] = rebuilt
    if found.owner_class is not None:
        args.insert(0, view)
    args, kwargs = _as_annotated(found.mark.body, args, kwargs)
    close = getattr(rebuilt, "close", None) if request is not None else None

    def run() -> Any:
        value = None
        try:
            value = found.mark.body(*args, **kwargs)
        finally:
            if not inspect.iscoroutine(value):
                _close(close)
        return _closing(value, close) if inspect.iscoroutine(value) else value

    return Prepared(run=run, is_async=found.mark.is_async, instance=view)


def answered(value: Any) -> Answered:
    """What the method returned, without the response around it."""
    if type(value) in PLAIN:
        return Answered(value=value, status=None)
    for adapter in adapters.loaded():
        found, status = adapter.result(value)
        if status is not None:
            return Answered(value=found, status=status)
    return Answered(value=value, status=None)


def _as_annotated(body: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments that are declared as pydantic models are such models again."""
    if not any(isinstance(value, dict) for value in (*args, *kwargs.values())):
        return args, kwargs
    try:
        hints = get_type_hints(body)
    except (NameError, TypeError):
        return args, kwargs
    bound = inspect.signature(body).bind(*args, **kwargs)
    for name, value in bound.arguments.items():
        if isinstance(value, dict) and (validate := getattr(hints.get(name), "model_validate", None)):
            bound.arguments[name] = validate(value)
    return list(bound.args), dict(bound.kwargs)


async def _closing(method: Coroutine[Any, Any, Any], close: Callable[[], Any] | None) -> Any:
    try:
        return await method
    finally:
        _close(close)


def _close(close: Callable[[], Any] | None) -> None:
    """Files that the method has opened. Starlette's own `close` is a coroutine and has nothing of ours to close."""
    if close is not None and not inspect.iscoroutinefunction(close):
        close()
