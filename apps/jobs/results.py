"""What a job gave, and why one failed, as they may be kept: plain JSON, one sentence, no secrets."""

from __future__ import annotations

import dataclasses
import json
import re
import traceback
from collections.abc import Mapping, Set
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from apps.core.errors import PlatformError
from apps.jobs.states import Reason

MAX_BYTES = 8 * 1024 * 1024
MAX_SENTENCE = 500
MAX_TRACEBACK = 20_000

_SECRET = re.compile(
    r"(?P<keep>(?:password|passwd|secret|token|api[_-]?key|authorization)['\"]?\s*[=:]\s*['\"]?|bearer |://[^/\s:@]*:)[^\s'\"@,;&]+",
    re.IGNORECASE,
)


class NotJson(PlatformError):
    status, code, sentence = 500, Reason.BAD_RESULT.value, "The method gave something that JSON cannot say."


def plain(value: Any) -> Any:
    """`value` as JSON knows it: dates, decimals, UUIDs, enums, sets, dataclasses and arrays become their plain forms.
    Raises NotJson."""
    try:
        text = json.dumps(value, default=_plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(f"The method gave something that JSON cannot say: {line(str(error))}") from None
    if len(text) > MAX_BYTES:
        raise NotJson(f"The method gave {len(text)} bytes; a result may have {MAX_BYTES}. Store it, and give where it is.")
    if "\\u0000" in text or re.search(r"\\ud[89a-f]", text) and not _encodable(text):
        raise NotJson("The method gave a text with NUL or half a character in it.")
    return json.loads(text)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal | UUID | PurePath):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Set):
        return sorted(value) if all(isinstance(each, str) for each in value) else list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "tolist"):  # arrays and numbers of numpy
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _encodable(text: str) -> bool:
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def sentence(error: BaseException) -> str:
    """One line for the owner of a job: what our errors say, else the kind of the exception and its first line."""
    if isinstance(error, PlatformError):
        return line(error.sentence)
    first = line(str(error))
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def code(error: BaseException) -> str:
    return error.code if isinstance(error, PlatformError) else Reason.ERROR.value


def trace(error: BaseException) -> str:
    """For operators: the end of it, with what looks like a secret blotted out."""
    return _blotted("".join(traceback.format_exception(error)))[-MAX_TRACEBACK:].replace("\x00", "")


def line(text: str) -> str:
    """Its first line, printable, without what looks like a secret."""
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return _blotted("".join(char if char.isprintable() else " " for char in first))[:MAX_SENTENCE]


def _blotted(text: str) -> str:
    return _SECRET.sub(lambda found: f"{found['keep']}…", text)
