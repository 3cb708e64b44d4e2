"""Which lines of the audit trail are shown: filters from a query string, pages by cursor, and whole exports.

Newest first; a cursor is the last line's number, so pages neither skip nor repeat while lines come in.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.db.models import QuerySet

from apps.core import clock
from apps.core.errors import Invalid, Problem
from apps.core.pages import page_of
from apps.orgs.models import Change

LIMIT_DEFAULT, LIMIT_MAX = 50, 200
TEXT_MAX = 255
CHUNK = 500
COLUMNS = ("id", "at", "org_id", "kind", "key", "by", "old", "new", "request_id")
FILTERS = {"kind", "key", "by", "since", "until"}


class BadQuery(Invalid):
    status, code, sentence = 400, "bad_query", "The query string is not valid."


@dataclass(frozen=True, kw_only=True)
class AuditQuery:
    lookups: dict[str, Any]
    limit: int
    before: int | None

    @classmethod
    def of(cls, params: Any, *, others: frozenset[str] = frozenset({"limit", "cursor"})) -> AuditQuery:
        """From a QueryDict. Raises BadQuery with every problem."""
        strange = [name for name in params if name not in FILTERS | others]
        problems = [Problem(field=name[:80], code="unknown", message="is not a filter") for name in strange]
        problems += [
            Problem(field=name, code="repeated", message="may be given once")
            for name in sorted(FILTERS | others)
            if name != "kind" and len(params.getlist(name)) > 1
        ]
        lookups: dict[str, Any] = {}
        if "kind" in params:
            lookups["kind__in"] = [kind for value in params.getlist("kind") for kind in value.split(",")]
            if wrong := [kind for kind in lookups["kind__in"] if kind not in Change.Kind.values]:
                message = f"must be one of {', '.join(Change.Kind.values)}, not {wrong[0][:40]}"
                problems.append(Problem(field="kind", code="not_allowed", message=message))
        for name in ("key", "by"):
            if name in params:
                lookups[name] = params[name]
                if not 0 < len(params[name]) <= TEXT_MAX:
                    problems.append(Problem(field=name, code="bad_value", message=f"must have 1 to {TEXT_MAX} characters"))
        for name, lookup in (("since", "at__gte"), ("until", "at__lt")):
            if name in params and (at := _instant(params[name], name, problems)):
                lookups[lookup] = at
        limit = _whole(params, "limit", LIMIT_MAX, problems) if "limit" in params else LIMIT_DEFAULT
        before = _whole(params, "cursor", 2**63 - 1, problems) if "cursor" in params else None
        if problems:
            raise BadQuery(problems)
        return cls(lookups=lookups, limit=limit, before=before)

    def rows(self, org_id: str) -> QuerySet[Change]:
        found = Change.objects.filter(org_id=org_id, **self.lookups)
        return (found if self.before is None else found.filter(pk__lt=self.before)).order_by("-pk")

    def page(self, org_id: str) -> tuple[list[dict[str, Any]], str | None]:
        """The lines, and the cursor of the next page when there is one."""
        found, following = page_of(self.rows(org_id), self.limit, lambda row: str(row.pk))
        return [line(row) for row in found], following


def line(row: Change) -> dict[str, Any]:
    return {name: clock.iso(row.at) if name == "at" else getattr(row, name) for name in COLUMNS}


def ndjson(rows: QuerySet[Change]) -> Iterator[bytes]:
    for row in rows.iterator(chunk_size=CHUNK):
        yield orjson.dumps(line(row), option=orjson.OPT_APPEND_NEWLINE)


def as_csv(rows: QuerySet[Change]) -> Iterator[bytes]:
    buffer = io.StringIO()
    write = csv.writer(buffer).writerow
    write(COLUMNS)
    for row in rows.iterator(chunk_size=CHUNK):
        write([_cell(value) for value in line(row).values()])
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def _cell(value: Any) -> str:
    """Text that a spreadsheet takes for text: what begins like a formula gets an apostrophe, control characters are shown."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text


def _instant(text: str, name: str, problems: list[Problem]) -> datetime | None:
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
        if at.tzinfo is None:
            raise ValueError
        return clock.from_ms(clock.to_ms(at))
    except (ValueError, OverflowError):
        problems.append(Problem(field=name, code="bad_value", message="must be an ISO 8601 time with its zone"))
        return None


def _whole(params: Any, name: str, most: int, problems: list[Problem]) -> int:
    text = params[name]
    if text.isascii() and text.isdigit() and len(text) <= 19 and 1 <= int(text) <= most:
        return int(text)
    problems.append(Problem(field=name, code="bad_value", message=f"must be a whole number from 1 to {most}"))
    return 1
