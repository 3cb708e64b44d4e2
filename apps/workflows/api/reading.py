"""Reading the documents of sessions that come with a request."""

from __future__ import annotations

from typing import Any

import orjson

from apps.core.errors import Invalid, Problem
from apps.core.http import Limits, parse_json, read_bytes
from apps.workflows.document.spec import LIMITS as SPEC

DOCUMENT = Limits(body=8 * 1024 * 1024, depth=64, keys=10_000, string=1024 * 1024, items=100_000, problems=100)
"""A session's document may be far bigger than a task: it carries its graph, its data and its first context."""
STEPS_MAX = 1000
COUNTED_FROM = 256 * 1024


def document_of(request: Any) -> dict[str, Any]:
    """The body of a request that hands in a session. What is far too much is refused before it is read strictly, which
    takes a second for some megabytes."""
    raw = read_bytes(request, DOCUMENT)
    _countable(raw)
    found = parse_json(raw, DOCUMENT)
    if not isinstance(found, dict):
        raise Invalid([Problem(field="", code="wrong_type", message="must be an object")])
    return found


def _countable(raw: bytes) -> None:
    try:
        pending = [orjson.loads(raw)] if len(raw) > COUNTED_FROM else []
    except orjson.JSONDecodeError:
        return  # what is wrong with it is told by who reads it strictly
    tasks = groups = 0
    while pending:
        group = pending.pop()
        if not isinstance(group, dict):
            continue
        own, below = group.get("tasks"), group.get("task_groups")
        tasks += len(own) if isinstance(own, list) else 0
        groups += len(below) if isinstance(below, list) else 0
        if tasks > SPEC.tasks:
            raise Invalid([Problem(field="", code="too_many_tasks", message=f"more than {SPEC.tasks} tasks")])
        if groups > SPEC.groups:
            raise Invalid([Problem(field="", code="too_many_groups", message=f"more than {SPEC.groups} groups")])
        pending += below if isinstance(below, list) else []
