"""`custom`: items made by `transform_rules`, in this order, or by a Starlark `expand(data)`.

1. `filter` {array: test, array.field: test}: elements that stay in each array;
2. `combine`: the arrays whose every combination is an item, the last changing fastest; a list of names, or
   {variable: name}. Without it all arrays of `array_mapping`. What else `data` holds goes to each item whole (filtered);
3. `field_mappings` {variable: path or template}: more variables of the item;
4. `conditions` {path: test}, or a list of those of which one must hold: items for which they fail are left out;
5. `validation` {path: test}: an item for which one fails is an error, and nothing runs.

The arrays are looked for in the task's `data` object, then in the task, then in the context. When `data` is itself a list,
each element is an item (an object's fields are its variables, anything else is `item`) and `filter` looks into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from math import prod
from typing import Any

from apps.core.errors import Invalid, Problem
from apps.workflows.expansion import conditions, sources, templates
from apps.workflows.expansion.items import BadExpansion, Rows, RunStarlark, TooManyItems, Work
from apps.workflows.expansion.sources import Layers

RULES = ("combine", "filter", "field_mappings", "conditions", "validation")
BESIDE = ("field_mappings", "conditions", "validation")
"""Rules that may as well stand beside `transform_rules`, as the specification draws them."""


def rows(config: Mapping[str, Any], layers: Layers, *, limit: int, run_starlark: RunStarlark | None, work: Work, where: str) -> Rows:
    """Raises BadExpansion, TooManyItems before anything large is made,."""
    rules, at = rules_of(config), f"{where}.transform_rules"
    if "script" in config:
        found = _scripted(config, layers, limit, run_starlark, where)
    elif isinstance(data := _data(layers), list):
        found = _listed(data, rules, limit, work, where)
    else:
        found = _combined(config, rules, data, layers, limit, work, at)
    given, mappings, tests = rules.get("conditions") or (), rules.get("field_mappings"), rules.get("validation") or {}
    either = given if isinstance(given, (list, tuple)) else [given]
    work.spend(len(found) * (len(mappings or ()) + sum(map(len, either)) + len(tests)), at)
    if mappings:
        found = _mapped(found, mappings, layers, f"{at}.field_mappings")
    if either:
        ways = [conditions.compiled_all(one) for one in either]
        found = [values for values in found if any(holds(values) for holds in ways)]
    _validated(found, tests, f"{at}.validation")
    return found


def rules_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    beside = {name: config[name] for name in BESIDE if name in config}
    return {**beside, **config.get("transform_rules", {})}


def combined_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """{variable: where its array is} of what is combined."""
    combine = config.get("transform_rules", {}).get("combine")
    if isinstance(combine, dict):
        return combine
    mapping = config.get("array_mapping") or {}
    if combine is None:
        return mapping
    return {name.rpartition(".")[2]: mapping.get(name, name) for name in combine}


def _data(layers: Layers) -> Any:
    return next((layer["data"] for layer in layers if isinstance(layer.get("data"), (dict, list))), {})


def _listed(data: list[Any], rules: Mapping[str, Any], limit: int, work: Work, where: str) -> Rows:
    if len(data) > limit:
        raise TooManyItems.of(where, len(data), limit)
    work.spend(len(data) * (1 + len(rules.get("filter") or ())), where)
    holds = conditions.compiled_all(rules.get("filter") or {})
    found = [dict(one) if isinstance(one, dict) else {"item": one} for one in data]
    return [values for values in found if holds(values)]


def _combined(
    config: Mapping[str, Any], rules: Mapping[str, Any], data: Mapping[str, Any], layers: Layers, limit: int, work: Work, at: str
) -> Rows:
    combined = combined_names(config)
    layers = (data, *layers)
    arrays = {variable: sources.array(source, layers, f"{at}.combine") for variable, source in combined.items()}
    by_source = {source: variable for variable, source in combined.items() if isinstance(source, str)}
    rest = {name: value for name, value in data.items() if name not in by_source and name not in arrays}
    for path, test in (rules.get("filter") or {}).items():
        root, _, inner = path.partition(".")
        name = root if root in arrays else by_source.get(root, root)
        place = arrays if name in arrays else rest
        if not isinstance(place.get(name), list):
            near = templates.near_names(name, [*arrays, *rest])
            raise BadExpansion.at(f"{at}.filter.{path}", "unknown_source", f"there is no array {root!r} to filter{near}")
        work.spend(len(place[name]), f"{at}.filter.{path}")
        place[name] = _filtered(place[name], inner, test)
    total = prod(len(values) for values in arrays.values())
    if total > limit:
        raise TooManyItems.of(at, total, limit, " × ".join(str(len(values)) for values in arrays.values()) + " = ")
    return [{**dict(zip(arrays, values, strict=True)), **rest} for values in product(*arrays.values())] if arrays else []


def _filtered(values: list[Any], inner: str, test: Any) -> list[Any]:
    holds = conditions.compiled(test)
    path = tuple(inner.split(".")) if inner else ()
    return [value for value in values if holds(conditions.at(value, path))]


def _mapped(found: Rows, mappings: Mapping[str, str], layers: Layers, at: str) -> Rows:
    makers = [(variable, _maker(source, f"{at}.{variable}")) for variable, source in mappings.items()]
    mapped = []
    try:
        for values in found:
            known = templates.Layered(values, *layers)
            mapped.append({**values, **{variable: make(known) for variable, make in makers}})
    except templates.TemplateError as error:
        raise BadExpansion(error.problems) from error
    return mapped


def _maker(source: str, where: str) -> Callable[[Mapping[str, Any]], Any]:
    return templates.compile(source if "{" in source else f"{{{source}}}", where=where).render


def _validated(found: Rows, tests: Mapping[str, Any], at: str) -> None:
    for path, test in tests.items():
        holds, steps = conditions.compiled(test), tuple(path.split("."))
        for number, values in enumerate(found, 1):
            value = conditions.at(values, steps)
            if not holds(value):
                shown = "missing" if value is conditions.MISSING else templates.text(value)[:80]
                message = f"item {number} is not valid: {path} is {shown}, it must be {templates.text(test)[:80]}"
                raise BadExpansion.at(f"{at}.{path}", "invalid_item", message)


def _scripted(config: Mapping[str, Any], layers: Layers, limit: int, run_starlark: RunStarlark | None, where: str) -> Rows:
    at = f"{where}.script"
    if run_starlark is None:
        raise BadExpansion.at(at, "no_scripts", "scripts are not run here")
    if mapping := config.get("array_mapping"):
        data: Any = {name: sources.array(source, layers, f"{where}.array_mapping.{name}") for name, source in mapping.items()}
    else:
        data = _data(layers)
    try:
        answer = run_starlark(config["script"], data)
    except BadExpansion:
        raise
    except Invalid as error:
        raise BadExpansion([Problem(field=at, code=one.code, message=one.message) for one in error.problems]) from error
    if not isinstance(answer, list):
        raise BadExpansion.at(at, "bad_answer", f"expand(data) must answer a list of items, not {sources.kind(answer)}")
    if len(answer) > limit:
        raise TooManyItems.of(at, len(answer), limit)
    return [values if isinstance(values, dict) else {"item": values} for values in answer]
