"""`array`: one item per element. Several arrays are walked together, and must then be equally long."""

from __future__ import annotations

from typing import Any

from apps.workflows.expansion.items import BadExpansion, Rows


def size(arrays: dict[str, list[Any]], where: str) -> int:
    """Raises BadExpansion when the arrays differ in length: nothing is dropped in silence."""
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise BadExpansion.at(
            where, "lengths_differ", f"arrays walked together must be equally long: {told}; with type zip, mode may be shortest or longest"
        )
    return next(iter(lengths.values()), 0)


def rows(arrays: dict[str, list[Any]]) -> Rows:
    if len(arrays) == 1:
        ((name, values),) = arrays.items()
        return [{name: value} for value in values]
    return [dict(zip(arrays, together, strict=True)) for together in zip(*arrays.values(), strict=True)]
