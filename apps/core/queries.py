"""Query strings: filters that say all that is wrong with them at once, and the cursors of pages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from apps.core import clock
from apps.core.errors import Invalid, Malformed, Problem

LIMIT_DEFAULT, LIMIT_MAX = 50, 200


class BadQuery(Invalid):
    status, code, sentence = 400, "bad_query", "The query string is not valid."


class BadCursor(Malformed):
    code, sentence = "bad_cursor", "The cursor is not one of ours."


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

    def time(self, name: str) -> datetime | None:
        at = clock.read(self.params[name]) if name in self.params else None
        if name in self.params and at is None:
            self.wrong(name, "must be an ISO 8601 time with its zone")
        return at

    def flag(self, name: str) -> bool:
        value = self.params.get(name, "false")
        if value not in ("true", "false"):
            self.wrong(name, "must be true or false")
        return value == "true"

    def limit(self, most: int = LIMIT_MAX, default: int = LIMIT_DEFAULT) -> int:
        return self.whole("limit", most, default)

    def whole(self, name: str, most: int, default: int) -> int:
        text = self.params.get(name, str(default))
        if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= most:
            return int(text)
        self.wrong(name, f"must be a whole number from 1 to {most}")
        return default

    @property
    def cursor(self) -> str | None:
        return self.params.get("cursor")

    def done(self) -> None:
        if self.problems:
            raise BadQuery(self.problems)


def cursor_of(*parts: int | str) -> str:
    """Where a page ends: what its last row is sorted by."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).rstrip(b"=").decode()


def read_cursor(text: str, kinds: tuple[type, ...]) -> list[Any]:
    """Its parts, of these kinds; whole numbers are at least -1. Raises BadCursor."""
    try:
        parts = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise BadCursor() from None
    if type(parts) is not list or tuple(map(type, parts)) != kinds or any(type(one) is int and not -1 <= one < 2**63 for one in parts):
        raise BadCursor()
    return parts
