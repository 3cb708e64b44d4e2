"""What the values of a filtered field may be, and so what a filter may compare them with.

`TEXT` a string, `TEXTS` a list of strings, `NUMBER`, `FLAG`, `TIME` (ISO 8601 with a zone), `FREE` any JSON, where
paths go below the field. Null is taken everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_WRONG = object()
MAX_PARTS = 8
MAX_PART = 64


@dataclass(frozen=True, kw_only=True)
class Kind:
    WRONG = _WRONG

    name: str
    described: str
    """For problems: "must be …"."""
    convert: Callable[[Any], Any]
    """The value as it is compared, or WRONG. Null never gets here."""

    def read(self, value: Any) -> Any:
        return None if value is None else self.convert(value)

    @property
    def takes_objects(self) -> bool:
        return self.name == "free"

    @property
    def element(self) -> Kind:
        """What the elements are when the field holds a list."""
        return TEXT if self.name == "texts" else self

    def below(self, parts: tuple[str, ...]) -> tuple[str | None, Kind]:
        """(what is wrong with a path below this field, the kind at its end)."""
        if not parts:
            return None, self
        if self.name == "texts" and len(parts) == 1 and parts[0].isascii() and parts[0].isdigit():
            return None, TEXT
        if self.name != "free":
            return "has no fields inside", self
        if len(parts) > MAX_PARTS or any(not _plain(part) for part in parts):
            return f"is not a path: at most {MAX_PARTS} names joined by dots, none empty, with $ in front or with __", self
        return None, self


def _plain(part: str) -> bool:
    return 0 < len(part) <= MAX_PART and not part.startswith("$") and "__" not in part


def refused_in(value: Any) -> str:
    """The first name with `$` in front inside a value; "" when there is none."""
    if isinstance(value, dict):
        return next((name for name in value if name.startswith("$")), "") or _first(value.values())
    return _first(value) if isinstance(value, list) else ""


def _first(values: Any) -> str:
    return next((name for value in values if (name := refused_in(value))), "")


def _typed(*types: type) -> Callable[[Any], Any]:
    return lambda value: value if type(value) in types else _WRONG


def _texts(value: Any) -> Any:
    if type(value) is list:
        return value if all(type(item) is str for item in value) else _WRONG
    return value if type(value) is str else _WRONG


def _time(value: Any) -> Any:
    try:
        at = datetime.fromisoformat(value) if type(value) is str else None
        return _WRONG if at is None or at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return _WRONG


TEXT = Kind(name="text", described="a string or null", convert=_typed(str))
TEXTS = Kind(name="texts", described="a string, a list of strings or null", convert=_texts)
NUMBER = Kind(name="number", described="a number or null", convert=_typed(int, float))
FLAG = Kind(name="flag", described="true, false or null", convert=_typed(bool))
TIME = Kind(name="time", described="a time such as 2026-12-01T00:00:00Z, or null", convert=_time)
FREE = Kind(name="free", described="any JSON", convert=lambda value: value)
