"""JSON from outside, read strictly: what the bytes say is what we get, within limits that keep us safe.

Malformed (400): not UTF-8, a BOM, a syntax error, NaN or Infinity, lone surrogates, a key twice in one object.
Invalid (422, naming the field): too deep, too many keys or items, a string too long or with NUL in it, a
number that would not survive (beyond 64-bit integers, beyond finite floats, negative zero).

Nearly every body takes the fast path: one parse by orjson and a handful of byte counts that prove that nothing
can be wrong (about 3 µs for a task of 600 bytes). Whatever the counts cannot rule out is read again, exactly.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from apps.core.errors import Invalid, Malformed, Problem, TooLarge


@dataclass(frozen=True, kw_only=True)
class Limits:
    body: int = 1024 * 1024
    """bytes"""
    depth: int = 32
    """objects and lists inside each other"""
    keys: int = 1000
    """per object"""
    string: int = 64 * 1024
    """bytes of UTF-8"""
    items: int = 10_000
    """per list"""
    problems: int = 20
    """listed in one answer"""


LIMITS = Limits()
MIN_INT, MAX_INT = -(2**63), 2**63 - 1
MAX_FIELD = 200

_DIGITS = bytes.maketrans(b"0123456789E", b"0000000000e")
_NEGATIVE_ZERO_TEXT = re.compile(rb"-0(?![.0-9eE])")


def parse_json(raw: bytes, limits: Limits = LIMITS) -> Any:
    """The value in `raw`. Raises TooLarge, Malformed or Invalid (every problem, each with its path)."""
    if len(raw) > limits.body:
        raise TooLarge(limit=limits.body)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _explained(raw, error, limits) from None
    if _surely_fine(raw, value, limits):
        return value
    exact = _exact(raw)
    _check(exact, limits)
    return exact


def _surely_fine(raw: bytes, value: Any, limits: Limits) -> bool:
    colons = raw.count(b":")
    return (
        raw.count(b"{") + raw.count(b"[") <= limits.depth
        and colons <= limits.keys
        and len(raw) <= limits.string
        and raw.count(b",") < limits.items
        # With no escaped colon or NUL, every colon of the text is one of the value's,
        # unless a key came twice and its first value was dropped.
        and b"\\u003" not in raw
        and b"\\u0000" not in raw
        and (colons == 0 or orjson.dumps(value).count(b":") == colons)
        and not _risky_number(raw)
    )


def _risky_number(raw: bytes) -> bool:
    """A number that might lose something: 19 digits, a three-digit exponent, or -0. What looks like one may as
    well be part of a string; then the exact reading finds nothing."""
    shape = raw.translate(_DIGITS)
    return b"0" * 19 in shape or b"0e000" in shape or b"0e+000" in shape or bool(_NEGATIVE_ZERO_TEXT.search(raw))


class _TooBig:
    """Stands in the tree for a number that cannot be kept."""


_TOO_BIG = _TooBig()
_NEGATIVE_ZERO = _TooBig()


def _whole(text: str) -> Any:
    if text == "-0":
        return _NEGATIVE_ZERO
    number = int(text) if len(text) <= 20 else MAX_INT + 1
    return number if MIN_INT <= number <= MAX_INT else _TOO_BIG


def _fraction(text: str) -> Any:
    number = float(text)
    return number if abs(number) != float("inf") else _TOO_BIG


def _constant(text: str) -> Any:
    raise Malformed(f"The body is not JSON: {text} is not a number.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(f"The key {_shown(twice)} stands twice in one object.")
    return found


def _exact(raw: bytes) -> Any:
    """The same document with nothing rounded or dropped; slower."""
    try:
        return json.loads(
            raw.decode(), object_pairs_hook=_object, parse_int=_whole, parse_float=_fraction, parse_constant=_constant
        )
    except RecursionError:
        raise Invalid([Problem(field="", code="too_deep", message="nested far too deep")]) from None


def _explained(raw: bytes, error: orjson.JSONDecodeError, limits: Limits) -> Malformed | Invalid:
    """orjson also stops at numbers and depths that are JSON and merely beyond us: those are Invalid."""
    malformed = Malformed(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.")
    if not error.msg.startswith(("number is infinity", "depth limit")):
        return malformed
    try:
        _check(_exact(raw), limits)
    except (Invalid, Malformed) as exact:
        return exact
    except ValueError:
        pass
    return malformed


def _check(root: Any, limits: Limits) -> None:
    problems: list[Problem] = []

    def wrong(path: tuple[str, ...], code: str, message: str) -> None:
        problems.append(Problem(field=".".join(path)[:MAX_FIELD], code=code, message=message))

    def text(path: tuple[str, ...], value: str, what: str = "") -> None:
        if len(value) * 4 > limits.string and len(value.encode()) > limits.string:
            wrong(path, "too_long", f"{what}must not be longer than {limits.string} bytes")
        if "\x00" in value:
            wrong(path, "nul", f"{what}must not contain NUL")

    pending: list[tuple[tuple[str, ...], int, Any]] = [((), 1, root)]
    while pending and len(problems) < limits.problems:
        path, depth, value = pending.pop()
        if isinstance(value, str):
            text(path, value)
        elif value is _TOO_BIG:
            wrong(path, "number_too_big", "must be a whole number of 64 bits or a finite float")
        elif value is _NEGATIVE_ZERO:
            wrong(path, "negative_zero", "must not be -0")
        elif isinstance(value, (dict, list)):
            if depth > limits.depth:
                wrong(path, "too_deep", f"nested deeper than {limits.depth}")
            elif isinstance(value, dict):
                if len(value) > limits.keys:
                    wrong(path, "too_many_keys", f"more than {limits.keys} keys")
                else:
                    for key in value:
                        text(path, key, "its keys ")
                    pending += [((*path, key), depth + 1, inner) for key, inner in reversed(value.items())]
            elif len(value) > limits.items:
                wrong(path, "too_many_items", f"more than {limits.items} items")
            else:
                pending += [((*path, str(index)), depth + 1, inner) for index, inner in reversed(list(enumerate(value)))]
    if problems:
        raise Invalid(problems)


def _shown(key: str) -> str:
    return repr(key if len(key) <= 64 else key[:61] + "…")
