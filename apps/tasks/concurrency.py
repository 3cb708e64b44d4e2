"""Concurrency keys: which tasks share a limit. Computed once, at birth, and kept on the task's row.

A task may bring its own, in its steering data: `"concurrency": {"key": "customer-7", "limit": 2, "mode": "queue"}`. Else the
org's configuration names a fact of the task (`concurrency_key`, a dotted path such as `payload.customer`): tasks with the
same value share the limit. docs/queue.md tells what the modes mean.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from apps.core.errors import Problem
from apps.orgs.config_keys import CONCURRENCY_MODES
from apps.orgs.config_store import OrgConfig

KEY_LENGTH = 200
LIMIT_MAX = 10_000
MEMBERS = frozenset({"key", "limit", "mode"})


def check(value: Any, field: str, problems: list[Problem]) -> None:
    """What is wrong with a `concurrency` that a task brings."""

    def wrong(name: str, code: str, message: str) -> None:
        problems.append(Problem(field=f"{field}.{name}" if name else field, code=code, message=message))

    if type(value) is not dict:
        wrong("", "wrong_type", "must be an object with key, limit and mode")
        return
    for name in value.keys() - MEMBERS:
        shown = name if len(name) <= 80 and name.isprintable() else ascii(name[:80])[1:-1]
        wrong(shown, "unknown", "is not one of key, limit and mode")
    key, limit, mode = value.get("key"), value.get("limit", 1), value.get("mode", "queue")
    if "key" not in value:
        wrong("key", "missing", "is required")
    elif type(key) is not str or not 0 < len(key) <= KEY_LENGTH or not key.isprintable():
        wrong("key", "wrong", f"must be a printable string of 1 to {KEY_LENGTH} characters")
    if type(limit) is not int or not 1 <= limit <= LIMIT_MAX:
        wrong("limit", "out_of_range", f"must be a whole number from 1 to {LIMIT_MAX}")
    if type(mode) is not str or mode not in CONCURRENCY_MODES:
        wrong("mode", "not_allowed", f"must be one of {', '.join(CONCURRENCY_MODES)}")


def fields(steering: dict[str, Any], facts: dict[str, Any], config: OrgConfig) -> dict[str, Any]:
    """The fields of a new task's row; none when it shares no limit. `facts` are those that policies see."""
    own = steering.get("concurrency")
    if own:
        return _row(f"={own['key']}", own.get("limit", 1), own.get("mode", "queue"))
    value = _fact(facts, config.concurrency_key) if config.concurrency_key else None
    if value is None:
        return {}
    return _row(f"{config.concurrency_key}={value}", config.concurrency_limit, config.concurrency_mode)


def _row(key: str, limit: int, mode: str) -> dict[str, Any]:
    if len(key) > KEY_LENGTH:
        key = f"{key[: KEY_LENGTH - 17]}~{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    return {"concurrency_key": key, "concurrency_limit": limit, "concurrency_mode": mode}


def _fact(facts: dict[str, Any], path: str) -> str | None:
    """The value at a dotted path as text. None when there is none, or it is null, empty, an object or a list."""
    value: Any = facts
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None or value == "" or isinstance(value, (dict, list)):
        return None
    return value if isinstance(value, str) else orjson.dumps(value).decode()
