"""`zip`: several arrays walked together, by `mode`: `strict` (the default: equally long), `shortest`, or `longest`, which
fills up with `default` (one value, or an object of one per variable; null unless said)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from apps.workflows.expansion import array
from apps.workflows.expansion.items import Rows

MODES = ("strict", "shortest", "longest")


def size(config: Mapping[str, Any], arrays: dict[str, list[Any]], where: str) -> int:
    mode = config.get("mode", "strict")
    if mode == "strict":
        return array.size(arrays, where)
    lengths = [len(values) for values in arrays.values()]
    return (min if mode == "shortest" else max)(lengths, default=0)


def rows(config: Mapping[str, Any], arrays: dict[str, list[Any]]) -> Rows:
    if config.get("mode", "strict") != "longest":
        return [dict(zip(arrays, together, strict=True)) for together in zip(*arrays.values(), strict=False)]
    default = config.get("default")
    per_variable = isinstance(default, dict) and default.keys() <= arrays.keys()
    fill = {name: default.get(name) if per_variable else default for name in arrays}
    return [
        {name: fill[name] if value is _END else value for name, value in zip(arrays, together, strict=True)}
        for together in zip_longest(*arrays.values(), fillvalue=_END)
    ]


_END = object()
