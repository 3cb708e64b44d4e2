"""Reading the small JSON objects that operators send: known members only, each of its type, every problem at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from apps.core.errors import Invalid, Problem
from apps.tasks.parser import TYPE_NAMES

REASON_LENGTH = 1000
AGENTS_MAX = 100


class Body:
    """`Body(read_object(request))`, then a call for each member, then `done()`."""

    def __init__(self, data: Mapping[str, Any], *, prefix: str = "") -> None:
        self.data, self.prefix = data, prefix
        self.problems: list[Problem] = []
        self._asked: set[str] = set()

    def wrong(self, name: str, code: str, message: str) -> None:
        self.problems.append(Problem(field=f"{self.prefix}{name}"[:120], code=code, message=message))

    def has(self, name: str) -> bool:
        return name in self.data

    def take(self, name: str, kind: type, default: Any, *, required: bool = False) -> Any:
        """The member when it is exactly of that type (`true` is no whole number), else `default` and a problem."""
        self._asked.add(name)
        if name not in self.data:
            if required:
                self.wrong(name, "missing", "is required")
            return default
        value = self.data[name]
        if type(value) is not kind:
            self.wrong(name, "null" if value is None else "wrong_type", f"must be {TYPE_NAMES[kind]}")
            return default
        return value

    def text(self, name: str, default: str = "", *, required: bool = False, length: int = REASON_LENGTH) -> str:
        value = self.take(name, str, default, required=required)
        if name in self.data and required and isinstance(self.data[name], str) and not value.strip():
            self.wrong(name, "empty", "must not be empty")
        elif len(value) > length:
            self.wrong(name, "too_long", f"must have at most {length} characters")
            return default
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        return self.take(name, bool, default)

    def whole(self, name: str, low: int, high: int, default: Any = None, *, required: bool = False) -> Any:
        value = self.take(name, int, default, required=required)
        if value is not None and name in self.data and not low <= value <= high:
            self.wrong(name, "out_of_range", f"must be from {low} to {high}")
            return default
        return value

    def choice(self, name: str, options: tuple[str, ...], default: str = "", *, required: bool = False) -> str:
        value = self.take(name, str, default, required=required)
        if value != default and value not in options:
            self.wrong(name, "not_allowed", f"must be one of {', '.join(options)}")
            return default
        if value == "" and self.has(name) and isinstance(self.data[name], str):
            self.wrong(name, "not_allowed", f"must be one of {', '.join(options)}")
        return value

    def object(self, name: str, *, required: bool = False) -> dict[str, Any]:
        return self.take(name, dict, {}, required=required)

    def names(self, name: str) -> tuple[str, ...]:
        value = self.take(name, list, [])
        if len(value) > AGENTS_MAX or not all(isinstance(one, str) and 0 < len(one) <= 180 for one in value):
            self.wrong(name, "wrong_type", f"must be a list of at most {AGENTS_MAX} names")
            return ()
        return tuple(value)

    def checked(self, name: str, rule: Callable[[Any, str, list[Problem]], Any], default: Any = "") -> Any:
        """The member as that rule of the parser leaves it, when it is there."""
        self._asked.add(name)
        return rule(self.data[name], f"{self.prefix}{name}", self.problems) if name in self.data else default

    def done(self) -> None:
        """Raises Invalid when anything was wrong, a member that nobody asked for included."""
        for name in self.data.keys() - self._asked:
            self.problems.append(Problem(field=f"{self.prefix}{name}"[:120], code="unknown", message="is not a field of this request"))
        if self.problems:
            raise Invalid(self.problems)
