"""From a config and its data to named items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from apps.workflows.expansion import array, custom, identifiers, matrix, shape, sources, zipped
from apps.workflows.expansion.items import DEFAULT_LIMIT, SEPARATE_LIMIT, BadExpansion, Expansion, Rows, RunStarlark, TooManyItems, Work
from apps.workflows.expansion.sources import Layers

MAX_WEIGHT = 256 * 1024 * 1024
"""bytes that the values of all items may take as JSON"""


def expand(
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    context: Mapping[str, Any],
    *,
    limit: int = DEFAULT_LIMIT,
    run_starlark: RunStarlark | None = None,
    where: str = "expansion_config",
    work: Work | None = None,
) -> Expansion:
    """The items of a task. `data` is the task's document, asked before the context. `work`: shared with other expansions.

    Raises BadExpansion (TooManyItems among them), each problem with its path below `where`.
    """
    _check(config, where)
    names, rows = _Making(run_starlark, work or Work()).level(config, (data, context), _limit(config, limit), where)
    _weigh(rows, where)
    items = identifiers.named(rows, names)
    return Expansion(kind=shape.kind(config), items=items, total=len(items))


def count(
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    context: Mapping[str, Any],
    *,
    limit: int = DEFAULT_LIMIT,
    run_starlark: RunStarlark | None = None,
    where: str = "expansion_config",
    work: Work | None = None,
) -> int:
    """How many items `expand` would make; where lengths alone tell, nothing is made. Raises what `expand` raises."""
    _check(config, where)
    limit, layers = _limit(config, limit), (data, context)
    plain = not any(config.get(name) for name in ("include", "exclude", "nested"))
    if plain and shape.kind(config) != "custom":
        return _size(config, _arrays(config, layers, where), limit, where)
    return len(_Making(run_starlark, work or Work()).level(config, layers, limit, where)[1])


def _check(config: Mapping[str, Any], where: str) -> None:
    if problems := shape.validate(config, where):
        raise BadExpansion(problems)


def _limit(config: Mapping[str, Any], limit: int) -> int:
    if config.get("output_format") == "separate":
        limit = min(limit, SEPARATE_LIMIT)
    return min(limit, config.get("max_items", limit))


class _Making:
    """One expansion: its script, and the work it may still do."""

    def __init__(self, run_starlark: RunStarlark | None, work: Work) -> None:
        self.run_starlark, self.work = run_starlark, work

    def level(self, config: Mapping[str, Any], layers: Layers, limit: int, where: str) -> tuple[list[str], Rows]:
        """Names (not yet unique) and values of the items of one config, those of `nested` in their place."""
        kind = shape.kind(config)
        self.work.spend(1, where)
        if kind == "custom":
            rows = custom.rows(config, layers, limit=limit, run_starlark=self.run_starlark, work=self.work, where=where)
        else:
            arrays = _arrays(config, layers, where)
            _size(config, arrays, limit, where)
            if kind == "matrix":
                rows = matrix.rows(config, arrays, self.work, where)
            else:
                rows = array.rows(arrays) if kind == "array" else zipped.rows(config, arrays)
            if len(rows) > limit:  # what `include` added
                raise TooManyItems.of(where, len(rows), limit)
        called_by = None if kind == "matrix" else custom.combined_names(config) if kind == "custom" else ()
        names = identifiers.suffixes(rows, config.get("identifiers"), called_by=called_by)
        if inner := config.get("nested"):
            return self.nested(inner, names, rows, layers, limit, f"{where}.nested")
        return names, rows

    def nested(
        self, inner: Mapping[str, Any], names: list[str], rows: Rows, layers: Layers, limit: int, where: str
    ) -> tuple[list[str], Rows]:
        all_names: list[str] = []
        all_rows: Rows = []
        for name, values in zip(names, rows, strict=True):
            room = min(limit - len(all_rows), inner.get("max_items", limit))
            try:
                below, found = self.level(inner, (values, *layers), room, where)
            except TooManyItems as error:
                if len(rows) == 1 or "max_items" in inner:
                    raise
                raise TooManyItems.of(where, f"more than {limit:,}", limit, "over all items, ") from error
            all_names += [f"{name}-{one}"[: identifiers.MAX_SHOWN] for one in below]
            all_rows += [{**values, **one} for one in found]
        return all_names, all_rows


def _arrays(config: Mapping[str, Any], layers: Layers, where: str) -> dict[str, list[Any]]:
    return {
        variable: sources.array(source, layers, f"{where}.array_mapping.{variable}")
        for variable, source in (config.get("array_mapping") or {}).items()
    }


def _size(config: Mapping[str, Any], arrays: dict[str, list[Any]], limit: int, where: str) -> int:
    kind = shape.kind(config)
    if kind == "matrix":
        total = matrix.size(arrays)
        because = " × ".join(str(len(values)) for values in arrays.values()) + " = " if len(arrays) > 1 else ""
    else:
        total = array.size(arrays, f"{where}.array_mapping") if kind == "array" else zipped.size(config, arrays, f"{where}.mode")
        because = ""
    if total > limit:
        raise TooManyItems.of(where, total, limit, because)
    return total


def _weigh(rows: Rows, where: str) -> None:
    """Large values that go to many items are one object here and many in the store."""
    sizes: dict[int, int] = {}
    total = 0
    for values in rows:
        for value in values.values():
            if type(value) is dict or type(value) is list:
                key = id(value)
                if key not in sizes:
                    sizes[key] = len(orjson.dumps(value))
                total += sizes[key]
            elif type(value) is str:
                total += len(value)
    if total > MAX_WEIGHT:
        message = f"the values of its items take {total:,} bytes as JSON, more than the {MAX_WEIGHT:,} allowed"
        raise TooManyItems.at(where, "too_large", message)
