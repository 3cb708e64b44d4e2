"""What an `expansion_config` may look like: every problem with its path, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from apps.core.errors import Problem
from apps.workflows.expansion import conditions, custom, templates, zipped
from apps.workflows.expansion.sources import holds_list

TYPES = ("array", "matrix", "zip", "custom")
OUTPUT_FORMATS = ("merge", "separate", "single")
MERGE_STRATEGIES = ("list", "flatten", "object")
COMMON = (
    "type", "array_mapping", "identifiers", "output_format", "process_array_output", "merge_strategy", "max_items", "max_parallel",
    "fail_fast", "continue_on_error", "nested",
)  # fmt: skip
OF_TYPE = {
    "array": (),
    "matrix": ("include", "exclude"),
    "zip": ("mode", "default"),
    "custom": ("transform_rules", "script", *custom.BESIDE),
}
CONFIG_KEYS = frozenset(COMMON).union(*OF_TYPE.values())
OUTER_ONLY = ("output_format", "process_array_output", "merge_strategy", "max_parallel", "fail_fast", "continue_on_error", "script")
"""What only the outermost config may say."""
MAX_NESTED = 8
MAX_NAMES = 64
MAX_ENTRIES = 1000
MAX_SCRIPT = 64 * 1024
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def kind(config: Mapping[str, Any]) -> str:
    return str(config.get("type", "array")).lower()


def validate(config: Any, where: str = "expansion_config") -> list[Problem]:
    """Every problem with the shape of a config; [] when only the data can still be wrong."""
    return list(_problems(config, where, 0))


def item_variables(config: Mapping[str, Any], document: Mapping[str, Any]) -> set[str] | None:
    """The variables that items of a valid config bring; None when only the run can tell (a script, a list of objects)."""
    names = set(config.get("array_mapping") or ())
    if kind(config) == "matrix":
        names |= {name for entry in config.get("include") or () for name in entry}
    if kind(config) == "custom":
        data = document.get("data")
        if "transform_rules" not in config or isinstance(data, list):
            return None
        combined = custom.combined_names(config)
        names = {*combined, *(custom.rules_of(config).get("field_mappings") or ())}
        names |= {name for name in (data or ()) if name not in combined.values()}
    if inner := config.get("nested"):
        below = item_variables(inner, document)
        return None if below is None else names | below
    return names


def sources(config: Mapping[str, Any], document: Mapping[str, Any]) -> set[str]:
    """Paths of arrays that are not in the task's document: an earlier step or the session's context has to bring them.
    (What `combine` names is not among them when the task has no `data`: the context's may have it.)"""
    given = dict(config.get("array_mapping") or {})
    inside: tuple[Mapping[str, Any], ...] = (document,)
    if kind(config) == "custom" and isinstance(document.get("data"), dict):
        given |= custom.combined_names(config)
        inside = (document["data"], document)
    found = set()
    for source in given.values():
        path = source.get("path") if isinstance(source, Mapping) and "default" not in source else source
        if isinstance(path, str) and not any(holds_list(layer, path) for layer in inside):
            found.add(path)
    if inner := config.get("nested"):
        own = item_variables({**config, "nested": None}, document)
        found |= {path for path in sources(inner, document) if own is not None and path.partition(".")[0] not in own}
    return found


def reads(config: Mapping[str, Any], document: Mapping[str, Any]) -> set[str]:
    """Every key of the context that `expand` may look at: give it these, and the rest need not be loaded."""
    paths: set[str] = set()
    given = list((config.get("array_mapping") or {}).values())
    if kind(config) == "custom":
        given += custom.combined_names(config).values()
        paths.add("data")
        for source in (custom.rules_of(config).get("field_mappings") or {}).values():
            paths |= {one.name for one in templates.compile(source if "{" in source else f"{{{source}}}").placeholders}
    paths |= {path for source in given if isinstance(path := source.get("path") if isinstance(source, Mapping) else source, str)}
    found = paths | {path.partition(".")[0] for path in paths}
    return found | reads(config["nested"], document) if config.get("nested") else found


def _problems(config: Any, where: str, depth: int) -> Iterator[Problem]:
    def wrong(name: str, code: str, message: str) -> Problem:
        return Problem(field=f"{where}.{name}" if name else where, code=code, message=message)

    if not isinstance(config, dict):
        yield wrong("", "wrong_type", "must be an object")
        return
    if "type" not in config:
        yield wrong("type", "required", f"is required; one of {', '.join(TYPES)}")
        return
    if not isinstance(config["type"], str) or kind(config) not in TYPES:
        near = templates.near_names(str(config["type"]), TYPES)
        yield wrong("type", "not_allowed", f"must be one of {', '.join(TYPES)}{near}")
        return
    allowed = [name for name in COMMON + OF_TYPE[kind(config)] if not depth or name not in OUTER_ONLY]
    for name in config:
        if name not in allowed:
            message = f"is not known for type {kind(config)}" if name not in OUTER_ONLY else "can only stand in the outermost config"
            yield wrong(name, "unknown_field", message + templates.near_names(name, allowed))
    yield from _arrays(config, where)
    yield from _names(config, where)
    for name, values in (("output_format", OUTPUT_FORMATS), ("merge_strategy", MERGE_STRATEGIES), ("mode", zipped.MODES)):
        if name in allowed and name in config and config[name] not in values:
            yield wrong(name, "not_allowed", f"must be one of {', '.join(values)}{templates.near_names(str(config[name]), values)}")
    for name in ("process_array_output", "fail_fast", "continue_on_error"):
        if name in config and not isinstance(config[name], bool):
            yield wrong(name, "wrong_type", "must be true or false")
    for name in ("max_items", "max_parallel"):
        if name in config and not (type(config[name]) is int and 1 <= config[name] <= 10**9):
            yield wrong(name, "wrong_type", "must be a whole number from 1")
    if kind(config) == "matrix":
        yield from _matrix(config, where)
    if kind(config) == "custom":
        yield from _custom(config, where)
    if "nested" in config:
        if depth >= MAX_NESTED:
            yield wrong("nested", "too_deep", f"is nested deeper than {MAX_NESTED}")
        else:
            yield from _problems(config["nested"], f"{where}.nested", depth + 1)


def _arrays(config: dict[str, Any], where: str) -> Iterator[Problem]:
    at, mapping = f"{where}.array_mapping", config.get("array_mapping")
    if mapping is None:
        if kind(config) in ("array", "zip") or (kind(config) == "matrix" and not config.get("include")):
            yield Problem(field=at, code="required", message="is required: {variable: path of its array}")
        return
    if not isinstance(mapping, dict) or not 1 <= len(mapping) <= MAX_NAMES:
        yield Problem(field=at, code="wrong_type", message=f"must be an object of 1 to {MAX_NAMES} {{variable: path of its array}}")
        return
    for variable, source in mapping.items():
        yield from _variable(variable, at)
        yield from _source(source, f"{at}.{variable}")


def _variable(name: str, at: str) -> Iterator[Problem]:
    if not VARIABLE.fullmatch(name):
        message = "is no name of a variable: letters, digits, _ and -, beginning with a letter or _"
        yield Problem(field=f"{at}.{name[:64]}", code="bad_name", message=message)


def _source(source: Any, at: str) -> Iterator[Problem]:
    path = source
    if isinstance(source, dict):
        path = source.get("path")
        if source.keys() - {"path", "default"} or not isinstance(source.get("default", []), list):
            yield Problem(field=at, code="wrong_type", message='must be {"path": …, "default": [a list]}')
            return
    if not isinstance(path, list) or isinstance(source, dict):
        yield from _path(path, at)


def _path(path: Any, at: str) -> Iterator[Problem]:
    if not isinstance(path, str) or not path or len(path) > 256 or not all(path.split(".")):
        yield Problem(field=at, code="bad_path", message="must be a dotted path such as users or result.items")


def _names(config: dict[str, Any], where: str) -> Iterator[Problem]:
    at, given = f"{where}.identifiers", config.get("identifiers")
    if given is None:
        return
    if not isinstance(given, dict) or len(given) > MAX_NAMES:
        yield Problem(field=at, code="wrong_type", message="must be an object of {name: dotted path in the item}")
        return
    for name, path in given.items():
        yield from _path(path, f"{at}.{name}")


def _matrix(config: dict[str, Any], where: str) -> Iterator[Problem]:
    variables = set(config["array_mapping"]) if isinstance(config.get("array_mapping"), dict) else set()
    for name in ("include", "exclude"):
        entries, at = config.get(name), f"{where}.{name}"
        if entries is None:
            continue
        if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
            yield Problem(field=at, code="wrong_type", message=f"must be a list of at most {MAX_ENTRIES} objects")
            continue
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict) or not entry:
                yield Problem(field=f"{at}[{index}]", code="wrong_type", message="must be an object of {variable: value}")
                continue
            for variable in entry:
                if name == "exclude" and variable not in variables:
                    near = templates.near_names(variable, variables)
                    yield Problem(field=f"{at}[{index}].{variable}", code="unknown_variable", message=f"is no variable of the matrix{near}")
                elif name == "include":
                    yield from _variable(variable, f"{at}[{index}]")


def _custom(config: dict[str, Any], where: str) -> Iterator[Problem]:
    ways = [name for name in ("transform_rules", "script") if name in config]
    if len(ways) != 1:
        message = "needs transform_rules or script" + (", not both" if ways else "")
        yield Problem(field=where, code="required", message=message)
        return
    at, given = f"{where}.{ways[0]}", config[ways[0]]
    beside = {name: config[name] for name in custom.BESIDE if name in config}
    yield from _rules(beside, where)
    if ways[0] == "script":
        if not isinstance(given, str) or not given.strip() or len(given) > MAX_SCRIPT:
            message = f"must be Starlark that defines expand(data), at most {MAX_SCRIPT} characters"
            yield Problem(field=at, code="wrong_type", message=message)
        return
    if not isinstance(given, dict):
        yield Problem(field=at, code="wrong_type", message="must be an object")
        return
    yield from _rules(given, at)
    for name in beside.keys() & given.keys():
        yield Problem(field=f"{where}.{name}", code="twice", message="stands in transform_rules too")


def _rules(given: dict[str, Any], at: str) -> Iterator[Problem]:
    for name in given:
        if name not in custom.RULES:
            near = templates.near_names(name, custom.RULES)
            yield Problem(field=f"{at}.{name}", code="unknown_field", message=f"is no rule; these are: {', '.join(custom.RULES)}{near}")
    yield from _combine(given.get("combine"), f"{at}.combine")
    yield from _mappings(given.get("field_mappings"), f"{at}.field_mappings")
    for name in ("filter", "conditions", "validation"):
        if name in given:
            several = name == "conditions" and isinstance(given[name], list) and 1 <= len(given[name]) <= MAX_NAMES
            for index, tests in enumerate(given[name] if several else [given[name]]):
                yield from conditions.problems(tests, f"{at}.{name}[{index}]" if several else f"{at}.{name}")


def _combine(combine: Any, at: str) -> Iterator[Problem]:
    if combine is None:
        return
    if isinstance(combine, dict) and 1 <= len(combine) <= MAX_NAMES:
        for variable, source in combine.items():
            yield from _variable(variable, at)
            yield from _source(source, f"{at}.{variable}")
    elif isinstance(combine, list) and 1 <= len(combine) <= MAX_NAMES:
        for index, path in enumerate(combine):
            yield from _path(path, f"{at}[{index}]")
        if all(isinstance(path, str) for path in combine) and len({path.rpartition(".")[2] for path in combine}) < len(combine):
            yield Problem(field=at, code="same_name", message="names the same variable twice")
    else:
        yield Problem(field=at, code="wrong_type", message="must be a list of names of arrays, or an object of {variable: path}")


def _mappings(given: Any, at: str) -> Iterator[Problem]:
    if given is None:
        return
    if not isinstance(given, dict) or len(given) > MAX_NAMES:
        yield Problem(field=at, code="wrong_type", message="must be an object of {variable: path or template}")
        return
    for variable, source in given.items():
        yield from _variable(variable, at)
        if isinstance(source, str) and "{" in source:
            try:
                templates.compile(source, where=f"{at}.{variable}")
            except templates.TemplateError as error:
                yield from error.problems
        else:
            yield from _path(source, f"{at}.{variable}")
