"""A request as plain JSON, so that a worker can have it too: what was asked, by whom, and with which files.

Nothing is pickled. Of the headers only those on a list travel (`JOBS_REQUEST_HEADERS`); credentials never do, whatever the
list says. What JSON has no type for but everybody writes as text (dates, UUIDs, decimals) arrives as that text; anything
else is refused by name, before a row is written.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from django.conf import settings

from apps.core.errors import Invalid, Problem, TooLarge
from apps.core.strict_json import Limits, parse_json
from apps.jobs.files import FileRef, copied, erase

__all__ = ["RequestSnapshot", "allowed_headers", "as_json", "copied", "erase"]

NEVER = frozenset({
    "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token", "x-csrftoken", "x-xsrf-token",
    "x-amz-security-token", "x-forwarded-access-token", "x-goog-iap-jwt-assertion",
})  # fmt: skip
"""Headers that open doors."""
MAX_HEADER = 2048
_TEXT_FORM = (datetime.date, datetime.time, uuid.UUID, decimal.Decimal)


@dataclass(frozen=True, kw_only=True)
class RequestSnapshot:
    kind: str
    """the adapter that took it and will rebuild it: drf, django, fastapi, plain"""
    method: str = "POST"
    scheme: str = "http"
    host: str = ""
    path: str = "/"
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    data: Any = None
    is_form: bool = False
    """then `data` holds a list of values for each name"""
    files: tuple[FileRef, ...] = ()
    user: str = ""
    """as `Job.owner`: user:<pk>, key:<id>, name:<text>; "" is nobody"""
    view_args: list[Any] = field(default_factory=list)
    view_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """what the URL captured"""
    place: str = ""
    """where the method takes the request: a position ("0") or the name of an argument; "": it does not"""

    def json(self) -> dict[str, Any]:
        return {**vars(self), "files": [ref.json() for ref in self.files]}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> RequestSnapshot:
        """From `json()`, also that of a newer version, whose further fields are passed over."""
        known = {each.name: stored[each.name] for each in fields(cls) if each.name in stored}
        return cls(**{**known, "files": tuple(FileRef(**ref) for ref in stored.get("files", ()))})


def allowed_headers(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Those that may travel, with names in lower case."""
    listed = {name.lower() for name in settings.JOBS_REQUEST_HEADERS} - NEVER
    return {name.lower(): value[:MAX_HEADER] for name, value in given if name.lower() in listed}


def as_json(value: Any) -> Any:
    """`value` as JSON gives it back. Raises Invalid naming what cannot be JSON (or is too deep, too long …), TooLarge."""
    limit = settings.JOBS_MAX_REQUEST_BYTES
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_text_form)
        return parse_json(text.encode(), Limits(body=limit, string=limit))
    except TooLarge:
        raise TooLarge(f"The request of a job may hold {limit} bytes of JSON; upload larger data as a file.", limit=limit) from None
    except (TypeError, ValueError, RecursionError):
        raise Invalid([_fault(value)], "A job's request must be JSON.") from None


def _text_form(value: Any) -> Any:
    if isinstance(value, _TEXT_FORM):
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "model_dump"):  # a model of pydantic; it is one again in the worker
        return value.model_dump(mode="json")
    raise TypeError(type(value).__name__)


def _fault(root: Any) -> Problem:
    """The first thing in `root` that json could not write. Slow; only runs when there is one."""
    pending: list[tuple[tuple[str, ...], Any]] = [((), root)]
    seen = 0
    while pending and (seen := seen + 1) < 100_000:
        path, value = pending.pop()
        name, problem = ".".join(path)[:200], ""
        if len(path) > 100:
            return Problem(field=name, code="too_deep", message="nested far too deep")
        if isinstance(value, dict):
            if odd := next((key for key in value if not isinstance(key, str)), None):
                problem = f"has a key that is no text: {type(odd).__name__}"
            pending += [((*path, str(key)), inner) for key, inner in value.items()]
        elif isinstance(value, (list, tuple)):
            pending += [((*path, str(index)), inner) for index, inner in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            problem = "is not a finite number"
        elif isinstance(value, str):
            if any("\ud800" <= char <= "\udfff" for char in value):
                problem = "is not Unicode text"
        elif not isinstance(value, (int, float, type(None), enum.Enum, *_TEXT_FORM)) and not hasattr(value, "model_dump"):
            problem = f"cannot be JSON: {type(value).__name__}"
        if problem:
            return Problem(field=name, code="not_json", message=problem)
    return Problem(field="", code="not_json", message="cannot be JSON")
