"""Names of items: unique, readable, and the same whenever the same items are named.

`identifiers` {name: dotted path in the item} joins what it finds, in its order, by "_". A path begins with a variable of
the item (`user.name`), or inside its only object (`name`). Where it finds no plain value, the item's number (from 1)
stands. Without `identifiers` the items of an array are numbered; those of a matrix and of a combination are called by
their plain values: A1, A2, linux-3.12.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from apps.workflows.expansion import templates
from apps.workflows.expansion.items import ExpandedItem, Rows

MAX_LENGTH = 64
MAX_SHOWN = 128
_UNFIT = re.compile(r"[^\w.@+-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def suffixes(rows: Rows, identifiers: Mapping[str, str] | None, *, called_by: Collection[str] | None) -> list[str]:
    """How each item is called, for people; not yet unique. `called_by`: the variables whose values name an item where no
    identifier is given, in this order; None: all of them."""
    paths = [tuple(path.split(".")) for path in (identifiers or {}).values()]
    if paths:
        return [written(values, paths) or str(number) for number, values in enumerate(rows, 1)]
    if called_by is None:
        return [of_values(values.values()) or str(number) for number, values in enumerate(rows, 1)]
    if called_by:
        picked = [name for name in called_by if rows and name in rows[0]]
        return [of_values([values.get(name) for name in picked]) or str(number) for number, values in enumerate(rows, 1)]
    return [str(number) for number in range(1, len(rows) + 1)]


def named(rows: Rows, names: list[str]) -> list[ExpandedItem]:
    taken: set[str] = set()
    items = []
    for index, (shown, values) in enumerate(zip(names, rows, strict=True)):
        identifier = safe(shown) or str(index + 1)
        if identifier in taken:
            identifier, shown = _free(identifier, shown, index + 1, taken)
        taken.add(identifier)
        items.append(ExpandedItem(index, identifier, shown, values))
    return items


def written(values: Mapping[str, Any], paths: list[tuple[str, ...]]) -> str:
    """The identifier of one item, "" when a path leads to no plain value."""
    parts = []
    for path in paths:
        value = _at(values, path)
        if value is None or isinstance(value, (dict, list)):
            return ""
        parts.append(_plain(value))
    return "_".join(parts)[:MAX_SHOWN] if all(parts) else ""


def of_values(values: Iterable[Any]) -> str:
    """`A1` from "A" and 1; otherwise the values joined by "-". "" when there is no plain value among them."""
    parts = [_plain(value) for value in values if value is not None and not isinstance(value, (dict, list))]
    name = ""
    for part in parts:
        cell = len(name) == 1 and name.isalpha() and part.isdigit()
        name = name + part if cell or not name else f"{name}-{part}"
    return name[:MAX_LENGTH]


def safe(shown: str) -> str:
    return shown if shown.isalnum() else _UNFIT.sub("_", shown).strip("_")[:MAX_LENGTH]


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    if path[0] not in values and len(values) == 1:
        (values,) = values.values()
    try:
        return templates.follow(values, path)
    except (KeyError, IndexError):
        return None


def _plain(value: Any) -> str:
    if type(value) is int:
        return str(value)[:MAX_LENGTH]
    if type(value) is str and value.isalnum() and len(value) <= MAX_LENGTH:
        return value
    return _CONTROL.sub(" ", templates.text(value)).strip()[:MAX_LENGTH]


def _free(identifier: str, shown: str, number: int, taken: set[str]) -> tuple[str, str]:
    """Two items of one name: the later one carries its number too."""
    ending = f"_{number}"
    while identifier[: MAX_LENGTH - len(ending)] + ending in taken:
        ending += f"_{number}"
    return identifier[: MAX_LENGTH - len(ending)] + ending, f"{shown} ({number})"
