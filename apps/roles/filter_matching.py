"""Does a document match a filter? MongoDB's meaning, exactly, on plain JSON documents.

From MongoDB's manual and the way its matcher walks paths:
- a path that meets a list looks into every element that is an object (and, for a number, at that place of the list);
  at its end a list stands for each of its elements and for itself;
- a condition holds when it holds for anything the path finds; `$not`, `$ne`, `$nin` and `$nor` deny the whole of that;
- null equals a missing field, but not what a list holds no object for;
- `$gt` and its like compare within one type only: numbers, strings (by code point), truth values; objects and whole lists
  place by place, where types come in MongoDB's order;
- objects are equal when they hold the same fields in the same order; 1 equals 1.0, and never true.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

from apps.roles.filters import All, AnyOf, Node, Test

_MISSING = object()
_ORDER: dict[str, Callable[[Any, Any], bool]] = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}
_WHOLE_LISTS = frozenset({"$size", "$elemMatch"})


def matches(node: Node, document: Any) -> bool:
    """`document` is an object, or (inside `$elemMatch`) the element that operators without a path look at."""
    if isinstance(node, Test):
        if not node.path:
            return _holds(node, document)
        return any(_holds(node, found) for found in _along(document, node.path, spread=node.operator not in _WHOLE_LISTS))
    if isinstance(node, All):
        return all(matches(part, document) for part in node.parts)
    if isinstance(node, AnyOf):
        return any(matches(part, document) for part in node.parts)
    return not matches(node.part, document)


def _along(value: Any, path: tuple[str, ...], *, spread: bool) -> Iterator[Any]:
    """What the path finds from an object (or a list met at a number, whose places then are its names)."""
    for index, name in enumerate(path):
        if isinstance(value, dict):
            value = value.get(name, _MISSING)
        elif isinstance(value, list) and index == 0:
            value = _place(value, name)
        else:
            value = _MISSING
        if isinstance(value, list):
            yield from _in_list(value, path[index + 1 :], spread=spread)
            return
        if value is _MISSING:
            break
    yield value


def _in_list(items: list[Any], rest: tuple[str, ...], *, spread: bool) -> Iterator[Any]:
    if not rest:
        if spread:
            yield from items
        yield items
        return
    at = _place(items, rest[0])
    for place, item in enumerate(items):
        if isinstance(item, dict):
            yield from _along(item, rest, spread=spread)
        # A number names the place in the list too.
        if at is not _MISSING and place == int(rest[0]):
            if len(rest) == 1:
                yield item
            elif isinstance(item, (dict, list)):
                yield from _along(item, rest[1:], spread=spread)


def _place(items: list[Any], name: str) -> Any:
    number = name.isascii() and name.isdigit() and (name == "0" or name[0] != "0") and len(name) < 10
    return items[int(name)] if number and int(name) < len(items) else _MISSING


def _holds(test: Test, value: Any) -> bool:
    """One operator on one thing found."""
    wanted = test.operand
    match test.operator:
        case "$eq":
            return _equal(value, wanted)
        case "$in":
            return any(_equal(value, one) for one in wanted)
        case "$exists":
            return value is not _MISSING
        case "$regex":
            return isinstance(value, str) and wanted.search(value) is not None
        case "$size":
            return isinstance(value, list) and len(value) == wanted
        case "$elemMatch":
            return isinstance(value, list) and any(_element(test, item) for item in value)
        case _:
            return _compare(test.operator, value, wanted)


def _element(test: Test, item: Any) -> bool:
    if not test.whole:
        return matches(test.operand, item)
    return isinstance(item, (dict, list)) and matches(test.operand, item)


def _compare(name: str, value: Any, wanted: Any) -> bool:
    if wanted is None:
        return name in ("$gte", "$lte") and (value is None or value is _MISSING)
    return _type(value) == _type(wanted) and _ORDER[name](_sign(value, wanted), 0)


def _sign(one: Any, other: Any) -> int:
    """-1, 0 or 1: MongoDB's order of values. Fields of objects are compared by type, then name, then value."""
    kind = _type(one)
    if apart := _typed(one, other):
        return apart
    if kind == "dict":
        pairs = zip(one.items(), other.items(), strict=False)
        steps = (_typed(a, b) or _plainly(name, other_name) or _sign(a, b) for (name, a), (other_name, b) in pairs)
    elif kind == "list":
        steps = (_sign(a, b) for a, b in zip(one, other, strict=False))
    else:
        return 0 if one is None else _plainly(one, other)
    return next(filter(None, steps), 0) or _plainly(len(one), len(other))


def _typed(one: Any, other: Any) -> int:
    return _plainly(_RANKS.index(_type(one)), _RANKS.index(_type(other)))


def _plainly(one: Any, other: Any) -> int:
    return (one > other) - (one < other)


def _equal(value: Any, wanted: Any) -> bool:
    if wanted is None:
        return value is None or value is _MISSING
    if _type(value) != _type(wanted):
        return False
    if isinstance(wanted, dict):
        return list(value) == list(wanted) and all(_same(value[name], wanted[name]) for name in wanted)
    if isinstance(wanted, list):
        return len(value) == len(wanted) and all(map(_same, value, wanted))
    return value == wanted


def _same(one: Any, other: Any) -> bool:
    """Inside objects and lists there is nothing missing."""
    return (one is None) == (other is None) and _equal(one, other)


def _type(value: Any) -> str:
    if value is _MISSING:
        return "missing"
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else type(value).__name__


_RANKS = ("NoneType", "number", "str", "dict", "list", "bool", "datetime")
"""The types of values in MongoDB's order of types."""
