"""What `filter`, `conditions` and `validation` say about one value.

    ">2021"  ">=3"  "<5"  "<=5"  "!=US"  "=US"      an operator in front of JSON or a text
    "US"  7  true  null                             equal to it
    ["US", "EU"]                                    one of them
    {"$gt": 2020, "$lte": 2023}                     all of $eq $ne $gt $gte $lt $lte $in $nin $exists $regex

Numbers are ordered as numbers (a text that is a number counts as one beside a number), texts by their characters; things
of different kinds are never ordered and never equal. 1 equals 1.0, and never true.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson
import re2

from apps.core.errors import Problem
from apps.workflows.expansion import templates

MAX_PATTERN = 256
MAX_TESTS = 64
Holds = Callable[[Any], bool]

MISSING = object()
"""What a path found that leads nowhere."""
_ORDER: dict[str, Callable[[Any, Any], bool]] = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}
_SIGNS = {">=": "$gte", "<=": "$lte", "!=": "$ne", "==": "$eq", ">": "$gt", "<": "$lt", "=": "$eq"}
_SIGN = re.compile(r"(>=|<=|!=|==|>|<|=)\s*(.*)", re.DOTALL)
OPERATORS = ("$eq", "$ne", *_ORDER, "$in", "$nin", "$exists", "$regex")


def compiled(test: Any) -> Holds:
    """The test as a function of the value (MISSING where there is none). For tests that `problems` accepts."""
    parts = [_one(name, operand) for name, operand in _operators(test)]
    return parts[0] if len(parts) == 1 else lambda value: all(part(value) for part in parts)


def compiled_all(tests: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bool]:
    """All of `{path: test}` on an object."""
    rows = [(tuple(path.split(".")), compiled(test)) for path, test in tests.items()]
    return lambda values: all(holds(at(values, path)) for path, holds in rows)


def at(values: Any, path: tuple[str, ...]) -> Any:
    try:
        return templates.follow(values, path)
    except (KeyError, IndexError):
        return MISSING


def problems(tests: Any, where: str) -> Iterator[Problem]:
    """What is wrong with `{path: test}`."""
    if not isinstance(tests, dict) or len(tests) > MAX_TESTS:
        yield Problem(field=where, code="wrong_type", message=f"must be an object of at most {MAX_TESTS} {{path: test}}")
        return
    for path, test in tests.items():
        for name, operand in _operators(test):
            if message := _wrong(name, operand):
                yield Problem(field=f"{where}.{path}", code="bad_test", message=message)


def _operators(test: Any) -> list[tuple[str, Any]]:
    if isinstance(test, list):
        return [("$in", test)]
    if isinstance(test, dict):
        return list(test.items()) if any(name.startswith("$") for name in test) else [("$eq", test)]
    if isinstance(test, str) and (match := _SIGN.fullmatch(test)):
        return [(_SIGNS[match.group(1)], _json_or_text(match.group(2)))]
    return [("$eq", test)]


def _json_or_text(given: str) -> Any:
    try:
        return orjson.loads(given)
    except orjson.JSONDecodeError:
        return given.strip()


def _wrong(name: str, operand: Any) -> str:
    if name not in OPERATORS:
        return f"{name[:40]!r} is no operator; these are: {', '.join(OPERATORS)}{templates.near_names(name, OPERATORS)}"
    if name in ("$in", "$nin") and not isinstance(operand, list):
        return f"{name} takes a list"
    if name == "$exists" and not isinstance(operand, bool):
        return "$exists takes true or false"
    if name in _ORDER and (isinstance(operand, (bool, list, dict)) or operand is None):
        return f"{name} takes a number or a text"
    if name == "$regex":
        if not isinstance(operand, str) or len(operand) > MAX_PATTERN:
            return f"$regex takes a pattern of at most {MAX_PATTERN} characters"
        try:
            _pattern(operand)
        except re2.error:
            return "this pattern cannot be used (RE2 syntax, no look-around)"
    return ""


def _one(name: str, operand: Any) -> Holds:
    match name:
        case "$eq" | "$ne":
            wanted, yes = comparable(operand), name == "$eq"
            return lambda value: (comparable(value) == wanted) is yes
        case "$in" | "$nin":
            among, yes = {comparable(one) for one in operand}, name == "$in"
            return lambda value: (comparable(value) in among) is yes
        case "$exists":
            return lambda value: (value is not MISSING) is operand
        case "$regex":
            pattern = _pattern(operand)
            return lambda value: isinstance(value, str) and pattern.search(value) is not None
        case _:
            return lambda value: _ordered(_ORDER[name], value, operand)


def comparable(value: Any) -> Any:
    """Equal for equal JSON: 1 equals 1.0 and not true; objects whatever the order of their keys."""
    if type(value) is str or type(value) is int or type(value) is float or value is None or value is MISSING:
        return value
    return (type(value).__name__, orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _ordered(compare: Callable[[Any, Any], bool], value: Any, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return isinstance(value, str) and compare(value, wanted)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return False
    return isinstance(value, (int, float)) and not isinstance(value, bool) and compare(value, wanted)


@lru_cache(maxsize=256)
def _pattern(given: str) -> Any:
    """RE2: linear in what it searches, whatever the pattern. Raises re2.error."""
    options = re2.Options()
    options.log_errors, options.max_mem = False, 1024 * 1024
    return re2.compile(given, options)
