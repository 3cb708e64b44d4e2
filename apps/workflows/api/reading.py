"""Reading what comes with a request about sessions: documents, small bodies, filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from apps.core.errors import Invalid, Problem
from apps.core.http import Limits, parse_json, read_bytes
from apps.tasks.listing import BadQuery
from apps.workflows.document.spec import LIMITS as SPEC

DOCUMENT = Limits(body=8 * 1024 * 1024, depth=64, keys=10_000, string=1024 * 1024, items=100_000, problems=100)
"""A session's document may be far bigger than a task: it carries its graph, its data and its first context."""
LIMIT_DEFAULT, LIMIT_MAX = 50, 200
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


class Query:
    """A query string: `Query(request, {"status": …}).limit()` and so on, then `done()`."""

    def __init__(self, params: Any, known: set[str], several: frozenset[str] = frozenset()) -> None:
        self.params = params
        self.problems = [Problem(field=name[:80], code="unknown", message="is not a filter") for name in params.keys() - known]
        for name in params.keys() & known - several:
            if len(params.getlist(name)) > 1:
                self.problems.append(Problem(field=name, code="repeated", message="may be given once"))

    def wrong(self, name: str, message: str, code: str = "bad_value") -> None:
        self.problems.append(Problem(field=name, code=code, message=message))

    def choices(self, name: str, allowed: Sequence[str]) -> tuple[str, ...]:
        chosen = tuple(one for value in self.params.getlist(name) for one in value.split(","))
        if wrong := [one for one in chosen if one not in allowed]:
            self.wrong(name, f"must be one of {', '.join(allowed)}, not {wrong[0][:40]}", "not_allowed")
        return chosen

    def text(self, name: str, most: int = 255) -> str:
        value = self.params.get(name, "")
        if name in self.params and (not 0 < len(value) <= most or "\x00" in value):
            self.wrong(name, f"must have 1 to {most} characters")
        return value

    def flag(self, name: str) -> bool:
        value = self.params.get(name, "false")
        if value not in ("true", "false"):
            self.wrong(name, "must be true or false")
        return value == "true"

    def limit(self, most: int = LIMIT_MAX, default: int = LIMIT_DEFAULT) -> int:
        text = self.params.get("limit", str(default))
        if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= most:
            return int(text)
        self.wrong("limit", f"must be a whole number from 1 to {most}")
        return default

    @property
    def cursor(self) -> str | None:
        return self.params.get("cursor")

    def done(self) -> None:
        if self.problems:
            raise BadQuery(self.problems)
