"""Fitting the mixin to a class: whatever its framework, its other parents and their order, `?job_id=` is answered first.

A class body may bring its own `get`, inherit one from a parent that stands before the mixin, be async, or be a view set whose
`get` is only known per route. So the question is asked in front of whatever `get` the class has, when the class is made.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from apps.jobs import adapters, offloading
from apps.jobs.marks import mark_of

ASKED = {"get": "status", "delete": "cancel"}
VERBS = ("get", "post", "put", "patch", "delete", "head", "trace")
_FLAG = "_asks_for_job_id"


def before(what: str, *, is_async: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a handler: a request with `job_id` in its query is answered by `_handle_job_<what>_request`."""

    def decorate(handler: Callable[..., Any]) -> Callable[..., Any]:
        name = f"_handle_job_{what}_request"

        @functools.wraps(handler)
        def ask(self: Any, request: Any = None, *args: Any, **kwargs: Any) -> Any:
            if (job_id := _asked(request)) is not None:
                return offloading.run(adapters.of(request), getattr(self, name), job_id, request)
            return handler(self, request, *args, **kwargs)

        @functools.wraps(handler)
        async def ask_async(self: Any, request: Any = None, *args: Any, **kwargs: Any) -> Any:
            if (job_id := _asked(request)) is not None:
                return await offloading.arun(adapters.of(request), getattr(self, name), job_id, request)
            answer = handler(self, request, *args, **kwargs)
            return await answer if inspect.isawaitable(answer) else answer

        asking = ask_async if is_async else ask
        setattr(asking, _FLAG, True)
        return asking

    return decorate


def _asked(request: Any) -> str | None:
    adapter = None if request is None else adapters.of(request)
    return None if adapter is None else adapter.query(request, "job_id")


def fit(cls: type, submitter: Callable[..., Any]) -> None:
    """Called when a class with the mixin is made."""
    is_drf = _is("rest_framework.views", "APIView", cls)
    if is_drf and not hasattr(cls, "async_dispatch"):
        # DRF dispatches synchronously: an async method is submitted so, and awaited in the worker.
        for name, method in list(vars(cls).items()):
            if (mark := mark_of(method)) is not None and inspect.iscoroutinefunction(method):
                setattr(cls, name, submitter(mark, is_async=False))
    own = [method for verb in VERBS if not _flagged(method := getattr(cls, verb, None)) and method is not None]
    is_async = any(inspect.iscoroutinefunction(method) for method in own)
    for verb, what in ASKED.items():
        # A class of DRF has functions of its own, because each is described for itself.
        _fit_verb(cls, verb, what, is_async, anew=is_drf)
    if is_drf:
        from apps.jobs import fitting_drf

        fitting_drf.fit(cls)


def _fit_verb(cls: type, verb: str, what: str, is_async: bool, *, anew: bool) -> None:
    if verb in vars(cls):
        handler = vars(cls)[verb]
        setattr(cls, verb, before(what, is_async=inspect.iscoroutinefunction(handler))(handler))
        return
    found = getattr(cls, verb)
    if _flagged(found) and inspect.iscoroutinefunction(found) == is_async and not anew:
        return

    def inherited(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(cls, self), verb)(request, *args, **kwargs)

    inherited.__name__, inherited.__qualname__ = verb, f"{cls.__qualname__}.{verb}"
    inherited._inherits = True  # type: ignore[attr-defined]
    setattr(cls, verb, before(what, is_async=is_async)(inherited))


def has_own(cls: type, mixin: type, verb: str) -> bool:
    """Whether some class above the mixin brought a `verb` that knows nothing of jobs."""
    found = [vars(parent)[verb] for parent in cls.__mro__ if parent is not mixin and verb in vars(parent)]
    return any(not hasattr(method, "_inherits") for method in found)


def _flagged(handler: Any) -> bool:
    return getattr(handler, _FLAG, False)


def _is(module: str, name: str, cls: type) -> bool:
    """Whether `cls` descends from a class of a library that may not be there."""
    base = getattr(sys.modules.get(module), name, None)
    return base is not None and issubclass(cls, base)
