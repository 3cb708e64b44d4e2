"""Failpoints: named places where a process can be made to die, to show that it may.

Off unless the setting `FAILPOINTS` names one: `FAILPOINTS=items.flushed:kill@2,finish.joined:kill@1` kills this process,
as SIGKILL does, the second time it passes the first place and the first time it passes the other. With `FAILPOINTS_ONCE`
(a directory) each fires once over all processes that share it, so that a restarted process gets on.
"""

from __future__ import annotations

import os
import signal
import threading
from functools import lru_cache
from pathlib import Path

from django.conf import settings

_lock = threading.Lock()
_passed: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Here a process may die. Nothing happens unless the setting says so."""
    at = _armed().get(name)
    if at is None:
        return
    with _lock:
        _passed[name] = count = _passed.get(name, 0) + 1
    if count == at and _mine(name):
        os.kill(os.getpid(), signal.SIGKILL)


def reset() -> None:
    _armed.cache_clear()
    _passed.clear()


@lru_cache(maxsize=1)
def _armed() -> dict[str, int]:
    return parse(settings.FAILPOINTS)


def parse(text: str) -> dict[str, int]:
    """`name:kill@n,…` → {name: n}. ValueError for anything else: a typing error must not pass for a quiet run."""
    found: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, action = part.partition(":")
        verb, _, count = action.partition("@")
        if not name or verb != "kill" or not (count or "1").isdigit():
            raise ValueError(f"FAILPOINTS: {part!r} is not of the form name:kill@n")
        found[name] = int(count or "1")
    return found


def _mine(name: str) -> bool:
    """True for the first process that gets here."""
    if not settings.FAILPOINTS_ONCE:
        return True
    try:
        with open(Path(settings.FAILPOINTS_ONCE) / name, "x"):
            return True
    except FileExistsError:
        return False
