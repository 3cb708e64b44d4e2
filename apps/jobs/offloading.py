"""Synchronous work of ours, called from an event loop or not: the ORM and a wait must never block one.

`run` from synchronous code, `arun` from async code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import close_old_connections


def on_a_loop() -> bool:
    return asyncio._get_running_loop() is not None


def run(adapter: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Here, unless this thread runs an event loop: then in another thread, while the loop stands still (milliseconds; whoever
    minds declares the method `async def`)."""
    if not on_a_loop():
        return function(*args, **kwargs) if _is_djangos(adapter) else _with_connections(function, *args, **kwargs)
    return _threads().submit(copy_context().run, _with_connections, function, *args, **kwargs).result()


async def arun(adapter: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """In a thread: the one that Django keeps for this request where the adapter says so, else one of ours."""
    if _is_djangos(adapter):
        return await sync_to_async(function)(*args, **kwargs)
    loop = asyncio.get_running_loop()
    context = copy_context()
    return await loop.run_in_executor(_threads(), lambda: context.run(_with_connections, function, *args, **kwargs))


def _is_djangos(adapter: Any) -> bool:
    return getattr(adapter, "same_thread", False)


def _with_connections(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Outside of Django's requests nobody else looks whether a connection is too old."""
    close_old_connections()
    try:
        return function(*args, **kwargs)
    finally:
        close_old_connections()


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    # As many may wait, and some more to answer.
    return ThreadPoolExecutor(settings.WEB_MAX_WAITING + 8, thread_name_prefix="jobs")
