"""`matrix`: every combination of the arrays, the last variable changing fastest; then `exclude`, then `include`, as GitHub
Actions do it:

- `exclude`: a combination that holds all values of one of these objects is taken out;
- `include`: each object adds its values to every combination whose own (original) values it does not change; one that
  fits none becomes a combination of its own, at the end. What an earlier `include` added may be changed by a later one,
  and a combination that an `include` made is not extended by the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import prod
from typing import Any

from apps.workflows.expansion.conditions import comparable
from apps.workflows.expansion.items import Rows, Work

Key = tuple[Any, ...]


def size(arrays: dict[str, list[Any]]) -> int:
    """Of the product, before `exclude` and `include`."""
    return prod(len(values) for values in arrays.values()) if arrays else 0


def rows(config: Mapping[str, Any], arrays: dict[str, list[Any]], work: Work, where: str) -> Rows:
    """Raises BadExpansion when `include` and `exclude` are too much work."""
    work.spend(size(arrays), where)
    names = tuple(arrays)
    found: Rows = [dict(zip(names, values, strict=True)) for values in product(*arrays.values())] if names else []
    if excluded := config.get("exclude"):
        found = _without(found, excluded, work, where)
    if included := config.get("include"):
        found = _with(found, included, frozenset(names), work, where)
    return found


def _without(combinations: Rows, excluded: Rows, work: Work, where: str) -> Rows:
    # One set per combination of names: the work does not grow with combinations times excludes.
    taken: dict[tuple[str, ...], set[Key]] = {}
    for entry in excluded:
        taken.setdefault(tuple(sorted(entry)), set()).add(_key(entry, sorted(entry)))
    work.spend(len(taken) * len(combinations), f"{where}.exclude")
    return [one for one in combinations if not any(_key(one, names) in keys for names, keys in taken.items())]


def _with(originals: Rows, included: Rows, names: frozenset[str], work: Work, where: str) -> Rows:
    by_names: dict[tuple[str, ...], dict[Key, list[int]]] = {}
    for index, entry in enumerate(included):
        shared = tuple(sorted(names & entry.keys()))
        by_names.setdefault(shared, {}).setdefault(_key(entry, shared), []).append(index)
    work.spend(len(by_names) * len(originals), f"{where}.include")
    used: set[int] = set()
    extended: Rows = []
    for one in originals:
        fitting = sorted(index for shared, keys in by_names.items() for index in keys.get(_key(one, shared), ()))
        work.spend(len(fitting), f"{where}.include")
        used.update(fitting)
        extended.append({**one, **{name: value for index in fitting for name, value in included[index].items() if name not in names}})
    return extended + [dict(entry) for index, entry in enumerate(included) if index not in used]


def _key(values: dict[str, Any], names: Any) -> Key:
    return tuple(comparable(values[name]) for name in names)
