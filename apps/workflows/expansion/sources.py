"""Where the arrays come from: a dotted path into the task document or the context, or a list written in place.

A source is `"users"`, `"step_result.items"`, `[1, 2, 3]` or `{"path": "users", "default": []}`. The task document is
asked first; what it holds there must be a list, else the context is asked: a task's own `name` does not hide a result of
that name. The merged output of an earlier expansion stands for its `results`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apps.workflows.expansion import templates
from apps.workflows.expansion.items import BadExpansion

MERGED = frozenset({"results", "summary", "metrics", "confidence"})
"""The fields of a merged output; see `apps/workflows/expansion/combine.py`."""

Layers = Sequence[Mapping[str, Any]]


def array(source: Any, layers: Layers, where: str) -> list[Any]:
    """Raises BadExpansion when no layer holds a list there."""
    if isinstance(source, list):
        return source
    path, default = (source["path"], source.get("default")) if isinstance(source, Mapping) else (source, None)
    seen: Any = _NOTHING
    for layer in layers:
        found = _look_up(layer, path)
        if isinstance(found, list):
            return found
        if seen is _NOTHING:
            seen = found
    if default is not None and (seen is _NOTHING or seen is None):
        return default
    if seen is _NOTHING:
        near = templates.near_names(path.partition(".")[0], [key for layer in layers for key in layer])
        raise BadExpansion.at(where, "unknown_source", f"there is no {path!r} in the task or the context{near}")
    raise BadExpansion.at(where, "not_a_list", f"{path!r} is {kind(seen)}, not a list")


def holds_list(layer: Mapping[str, Any], path: str) -> bool:
    return isinstance(_look_up(layer, path), list)


def _look_up(layer: Mapping[str, Any], path: str) -> Any:
    """What stands there, a merged output as its list of results; `_NOTHING` when nothing does."""
    try:
        found = templates.follow(layer, tuple(path.split(".")))
    except (KeyError, IndexError):
        found = layer.get(path, _NOTHING)
    return found["results"] if isinstance(found, Mapping) and found.keys() >= MERGED else found


def kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    names = {int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "something else")


_NOTHING = object()
