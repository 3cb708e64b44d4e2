"""Ids. Made ones are random or time-ordered; derived ones follow from their parts, so making them twice is harmless."""

from __future__ import annotations

import os
import re
import secrets
import threading
import time

ORG_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

_POOL = 4096

_lock = threading.Lock()
_last = 0
_random = b""


def time_ordered() -> str:
    """32 hex characters that sort by time of making, strictly within one process (the layout of a UUIDv7)."""
    global _last, _random
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1_000_000 << 12)
        tick = _last
        if not _random:
            _random = os.urandom(_POOL)  # one call to the system for many ids
        tail, _random = int.from_bytes(_random[:8], "big"), _random[8:]
    ms, counter = tick >> 12, tick & 0xFFF
    return f"{(ms & ((1 << 48) - 1)) << 16 | 7 << 12 | counter:016x}{tail & ((1 << 62) - 1) | (2 << 62):016x}"


def _after_fork() -> None:
    """A child must not draw from the same pool as its parent."""
    global _lock, _random
    _lock, _random = threading.Lock(), b""


os.register_at_fork(after_in_child=_after_fork)


def secret(nbytes: int = 32) -> str:
    return secrets.token_urlsafe(nbytes)


def task_key(org_id: str, task_id: str) -> str:
    """Two orgs may use the same task id, so the store's key carries both."""
    return f"{org_id}/{task_id}"


def split_task_key(key: str) -> tuple[str, str]:
    """(org_id, task_id); an org id holds no slash."""
    org_id, _, task_id = key.partition("/")
    return org_id, task_id


def assignment_id(key: str, attempt: int) -> str:
    return f"{key}#{attempt}"
