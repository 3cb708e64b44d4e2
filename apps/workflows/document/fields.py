"""Checks of a document's fields: strict about types (`true`, `1.0` and `"1"` are not 1), each problem with its JSON path.

A check takes (value, where, problems) and returns the value to keep; what is wrong it adds to `problems`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

from apps.core.errors import Invalid, Problem
from apps.workflows.document.spec import Limits

KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
KEY_RULE = "1 to 64 of A-Z a-z 0-9 _ -"
RESULT_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")
NAME_LENGTH = 200
ID_LENGTH = 180
SHOWN = 64
SUGGESTIONS = 20
"""near names looked for in one document"""

TYPE_NAMES = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "a list", dict: "an object"}


class Problems:
    """Collects what is wrong, up to a limit; the rest is counted."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.found: list[Problem] = []
        self.more = 0
        self._suggested = 0

    def __len__(self) -> int:
        return len(self.found) + self.more

    def add(self, where: str, code: str, message: str) -> None:
        if len(self.found) < self.limits.problems:
            self.found.append(Problem(field=where[:500], code=code, message=message))
        else:
            self.more += 1

    def extend(self, problems: Iterable[Problem]) -> None:
        for one in problems:
            self.add(one.field, one.code, one.message)

    def wrong_type(self, where: str, wanted: str, value: Any) -> None:
        if value is None:
            self.add(where, "null", f"must be {wanted}, not null")
        else:
            self.add(where, "wrong_type", f"must be {wanted}, not {TYPE_NAMES.get(type(value), 'that')}")

    def near(self, name: str, known: Collection[str]) -> str:
        """`; did you mean `x`?`, or nothing. Bounded: a document of wrong names costs no more than one with a few."""
        self._suggested += 1
        if self._suggested > SUGGESTIONS or not 0 < len(name) <= 200:
            return ""
        rank = [one for one in known if one and abs(len(one) - len(name)) <= 3 and (one[0] == name[0] or one[-1] == name[-1])]
        found = difflib.get_close_matches(name, rank[:300], n=1, cutoff=0.7)
        return f"; did you mean `{found[0]}`?" if found else ""

    def raise_any(self) -> None:
        if not self.found:
            return
        if self.more:
            self.found.append(Problem(field="", code="more_problems", message=f"and {self.more} more problems"))
        raise Invalid(self.found, "The session document is not valid.")


Check = Callable[[Any, str, Problems], Any]


def shown(name: str) -> str:
    return name if len(name) <= SHOWN else name[: SHOWN - 1] + "…"


def text(*, length: int | None = None, empty: bool = True) -> Check:
    def check(value: Any, where: str, problems: Problems) -> str:
        limit = length or problems.limits.text
        if type(value) is not str:
            problems.wrong_type(where, "a string", value)
            return ""
        if len(value) > limit:
            problems.add(where, "too_long", f"must have at most {limit} characters")
        elif not empty and (not value or value.isspace()):
            problems.add(where, "empty", "must not be empty")
        elif "\x00" in value:
            problems.add(where, "nul", "must not contain NUL")
        return value

    return check


def printable(value: Any, where: str, problems: Problems) -> str:
    """An id of someone else's making."""
    if type(value) is not str:
        problems.wrong_type(where, "a string", value)
        return ""
    if not value:
        problems.add(where, "empty", "must not be empty")
    elif len(value) > ID_LENGTH:
        problems.add(where, "too_long", f"must have at most {ID_LENGTH} characters")
    elif not value.isprintable() or value[0] == " " or value[-1] == " ":
        problems.add(where, "bad_id", "must be printable, without a space at either end")
    return value


def key(value: Any, where: str, problems: Problems) -> str:
    if type(value) is not str:
        problems.wrong_type(where, "a string", value)
        return ""
    if not KEY.fullmatch(value):
        problems.add(where, "bad_key", f"must be {KEY_RULE}")
        return ""
    return value


def boolean(value: Any, where: str, problems: Problems) -> bool:
    if type(value) is not bool:
        problems.wrong_type(where, "a boolean", value)
        return False
    return value


def whole(low: int, high: int | str) -> Check:
    """`high`: a number, or the name of a limit."""

    def check(value: Any, where: str, problems: Problems) -> int:
        top = high if isinstance(high, int) else getattr(problems.limits, high)
        if type(value) is not int:
            problems.wrong_type(where, "an integer", value)
            return low
        if not low <= value <= top:
            problems.add(where, "out_of_range", f"must be from {low} to {top}")
            return low
        return value

    return check


def number(low: float, high: float, *, above: bool = False) -> Check:
    """From `low` (with `above`: more than `low`) to `high`."""

    def check(value: Any, where: str, problems: Problems) -> float:
        if type(value) is not int and type(value) is not float:
            problems.wrong_type(where, "a number", value)
            return high
        # Compared before anything else: a whole number may be beyond what a float holds.
        if (type(value) is float and not math.isfinite(value)) or not (low < value if above else low <= value) or value > high:
            told = f"more than {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
            problems.add(where, "out_of_range", f"must be {told}")
            return high
        return float(value)

    return check


def seconds(value: Any, where: str, problems: Problems) -> float:
    return number(0, problems.limits.seconds, above=True)(value, where, problems)


def wait(value: Any, where: str, problems: Problems) -> float:
    return number(0, problems.limits.seconds)(value, where, problems)


def obj(value: Any, where: str, problems: Problems) -> dict[str, Any]:
    if type(value) is not dict:
        problems.wrong_type(where, "an object", value)
        return {}
    return value


def listing(value: Any, where: str, problems: Problems, *, most: int | None = None) -> list[Any]:
    if type(value) is not list:
        problems.wrong_type(where, "a list", value)
        return []
    limit = most or problems.limits.list
    if len(value) > limit:
        problems.add(where, "too_many_items", f"must have at most {limit} entries")
        return []
    return value


def list_of(check: Check) -> Check:
    def checked(value: Any, where: str, problems: Problems) -> tuple[Any, ...]:
        return tuple(check(one, f"{where}[{index}]", problems) for index, one in enumerate(listing(value, where, problems)))

    return checked


def choice(allowed: dict[str, str]) -> Check:
    """`allowed`: what may be written → what is meant."""

    def check(value: Any, where: str, problems: Problems) -> str:
        if type(value) is not str:
            problems.wrong_type(where, "a string", value)
        elif value not in allowed:
            problems.add(where, "not_allowed", f"must be one of {', '.join(allowed)}{problems.near(value, allowed)}")
        else:
            return allowed[value]
        return next(iter(allowed.values()))

    return check


def result_keys(value: Any, where: str, problems: Problems) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for index, one in enumerate(listing(value, where, problems)):
        at = f"{where}[{index}]"
        if type(one) is not str:
            problems.wrong_type(at, "a string", one)
        elif not RESULT_KEY.fullmatch(one):
            problems.add(at, "bad_key", "must be 1 to 128 of A-Z a-z 0-9 _ - and not start with -")
        elif one in found:
            problems.add(at, "duplicate", f"`{one}` stands twice")
        else:
            found[one] = None
    return tuple(found)


def tool(value: Any, where: str, problems: Problems) -> Any:
    if type(value) is str:
        return text(length=NAME_LENGTH, empty=False)(value, where, problems)
    if type(value) is not dict:
        problems.wrong_type(where, "a name or an object", value)
    return value


def unknown(document: dict[str, Any], known: Collection[str], where: str, problems: Problems) -> None:
    for name in document:
        if name not in known:
            field = f"{where}.{shown(name)}" if where else shown(name)
            problems.add(field, "unknown_field", f"is no field here{problems.near(name, known)}")
