"""`result_schema`: what a step's result must look like, in JSON Schema (2020-12, or draft-07 when `$schema` says so).

    problems = result_schema.validate(schema, where)          # before anything runs: is it a schema we can use?
    ResultSchema(schema).problems(result, where="result")     # before dependents run: [] is a good result

Checked by the `jsonschema` library, within bounds: a schema refers only into itself (`#/…`), never to another document;
its patterns are RE2, so no text makes them slow; the work of one check is counted, and a check that costs too much is a
problem, not a hang. `format` is documentation, not a check. `unevaluated…` and `$dynamicRef` are not taken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
import re2

from apps.core.errors import Problem

MAX_BYTES = 32 * 1024
MAX_TOGETHER = 64 * 1024
"""bytes of all different schemas of one document: judging one costs about 15 µs a byte"""
MAX_DEPTH = 32
MAX_PATTERN = 256
MAX_PROBLEMS = 20
MAX_MESSAGE = 200
MAX_WORK = 500_000
"""keywords looked at in one check: about a second"""
PROBE_WORK = 5_000
"""of trying a schema on next to nothing"""
REFERENCE_COST = 25
"""of following a `$ref`, in keywords"""

DIALECTS = {
    "https://json-schema.org/draft/2020-12/schema": "Draft202012Validator",
    "http://json-schema.org/draft-07/schema": "Draft7Validator",
}
NOT_TAKEN = ("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$vocabulary")
DATA = ("enum", "const", "default", "examples")
"""Keywords whose values are data, not schemas."""
PROBES: tuple[Any, ...] = (None, {}, [], "", 0)


class TooMuchWork(Exception):
    """One check has looked at more than MAX_WORK keywords."""


class ResultSchema:
    """A schema that `validate` accepts, ready for many checks, by many threads."""

    def __init__(self, schema: Mapping[str, Any] | bool) -> None:
        # Its own address would change what `#/…` means.
        plain = {name: value for name, value in schema.items() if name != "$id"} if isinstance(schema, Mapping) else schema
        self._validator = _validator_class(_dialect(schema))(plain, registry=_no_documents())

    def problems(self, value: Any, where: str = "result", *, work: int = MAX_WORK) -> list[Problem]:
        """What is wrong with the value, each with its path; at most MAX_PROBLEMS. Does not raise."""
        from referencing.exceptions import Unresolvable

        _work.left = work
        try:
            errors = list(islice(self._validator.iter_errors(value), MAX_PROBLEMS))
        except TooMuchWork:
            return [Problem(field=where, code="schema_too_costly", message="checking it takes too long; the schema should be simpler")]
        except RecursionError:
            return [Problem(field=where, code="schema_circular", message="the schema refers to itself without end")]
        except Unresolvable:
            return [Problem(field=where, code="schema_reference", message="the schema refers to something that is not in it")]
        return [_problem(error, where) for error in errors]


def validate(schema: Any, where: str = "result_schema") -> list[Problem]:
    """Why this cannot be a result schema; [] when it can."""
    if isinstance(schema, bool):
        return []
    if not isinstance(schema, dict):
        return [Problem(field=where, code="wrong_type", message="must be a JSON Schema: an object, or true or false")]
    if _dialect(schema) is None:
        return [Problem(field=f"{where}.$schema", code="not_allowed", message=f"must be one of {', '.join(DIALECTS)}")]
    if len(orjson.dumps(schema)) > MAX_BYTES:
        return [Problem(field=where, code="too_large", message=f"must not be larger than {MAX_BYTES // 1024} kB")]
    found = list(islice(_unusable(schema, where), MAX_PROBLEMS))
    if found:
        return found
    _work.left = MAX_WORK
    meta = _validator_class(_dialect(schema))
    try:
        found = [_problem(error, where) for error in islice(meta(meta.META_SCHEMA).iter_errors(schema), MAX_PROBLEMS)]
    except TooMuchWork:
        return [Problem(field=where, code="too_large", message="is too large to be checked")]
    if not found:
        ready = ResultSchema(schema)
        probed = (problem for probe in PROBES for problem in ready.problems(probe, where, work=PROBE_WORK))
        found = [problem for problem in probed if problem.code.startswith("schema_")][:1]
    return found


class Judge:
    """Judges the schemas of one document: the same one once, and not more of them than can be judged while somebody waits."""

    def __init__(self) -> None:
        self._left = MAX_TOGETHER
        self._judged: dict[bytes, bool] = {}

    def problems(self, schema: Any, where: str) -> list[Problem]:
        text = orjson.dumps(schema)
        if self._judged.get(text):
            return []
        if text not in self._judged:
            self._left -= len(text)
        if self._left < 0:
            message = f"all different result schemas of a session must not be larger than {MAX_TOGETHER // 1024} kB together"
            return [Problem(field=where, code="too_large", message=message)]
        found = validate(schema, where)
        self._judged[text] = not found
        return found


# ---- what we do not take -----------------------------------------------------------------------------------


def _unusable(schema: Any, where: str) -> Iterator[Problem]:
    """References that lead elsewhere, keywords and patterns that are not taken, a nesting that is too deep."""
    pending: list[tuple[Any, str, int]] = [(schema, where, 1)]
    while pending:
        node, at, depth = pending.pop()
        if depth > MAX_DEPTH:
            yield Problem(field=at[:MAX_MESSAGE], code="too_deep", message=f"is nested deeper than {MAX_DEPTH}")
        elif isinstance(node, list):
            pending += [(inner, f"{at}[{index}]", depth + 1) for index, inner in enumerate(node)]
        elif isinstance(node, dict):
            yield from _unusable_here(schema, node, at)
            pending += [(inner, f"{at}.{name}", depth + 1) for name, inner in node.items() if name not in DATA or not isinstance(name, str)]


def _unusable_here(root: dict[str, Any], node: dict[str, Any], at: str) -> Iterator[Problem]:
    reference = node.get("$ref")
    if isinstance(reference, str) and not _leads_inside(root, reference):
        message = f"{reference[:80]!r} must lead to a place in this schema (#/…)"
        yield Problem(field=f"{at}.$ref", code="reference", message=message)
    if "$id" in node and node is not root and isinstance(node["$id"], str):
        yield Problem(field=f"{at}.$id", code="not_allowed", message="can only stand at the top")
    for name in NOT_TAKEN:
        if name in node:
            yield Problem(field=f"{at}.{name}", code="not_allowed", message="is not taken here")
    patterns = list(node["patternProperties"]) if isinstance(node.get("patternProperties"), dict) else []
    if isinstance(node.get("pattern"), str):
        patterns.append(node["pattern"])
    for given in patterns:
        try:
            if len(given) > MAX_PATTERN:
                yield Problem(field=at, code="pattern", message=f"has a pattern of more than {MAX_PATTERN} characters")
            else:
                _pattern(given)
        except re2.error:
            yield Problem(field=at, code="pattern", message=f"the pattern {given[:80]!r} cannot be used (RE2 syntax, no look-around)")


def _leads_inside(root: Any, reference: str) -> bool:
    if reference == "#":
        return True
    if not reference.startswith("#/"):
        return False
    for step in reference[2:].split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(root, dict) and step in root:
            root = root[step]
        elif isinstance(root, list) and step.isascii() and step.isdigit() and len(step) < 8 and int(step) < len(root):
            root = root[int(step)]
        else:
            return False
    return True


# ---- the library, bounded ----------------------------------------------------------------------------------

_work = threading.local()


def _dialect(schema: Any) -> str | None:
    if not isinstance(schema, Mapping) or "$schema" not in schema:
        return "Draft202012Validator"
    named = schema["$schema"]
    return DIALECTS.get(named.removesuffix("#")) if isinstance(named, str) else None


def _no_documents() -> Any:
    from referencing import Registry

    return Registry()  # without a retriever: nothing is ever fetched


@lru_cache(maxsize=4)
def _validator_class(name: str | None) -> Any:
    import jsonschema
    from jsonschema import validators

    base = getattr(jsonschema, name or "Draft202012Validator")
    ours = {
        "pattern": _check_pattern,
        "patternProperties": _check_pattern_properties,
        "additionalProperties": _check_additional_properties,
        "uniqueItems": _check_unique_items,
    }
    return validators.extend(base, {keyword: _counted(keyword, check) for keyword, check in {**base.VALIDATORS, **ours}.items()})


def _counted(keyword: str, check: Callable[..., Any]) -> Callable[..., Any]:
    cost = REFERENCE_COST if keyword == "$ref" else 1

    def counting(validator: Any, given: Any, instance: Any, schema: Any) -> Any:
        _work.left -= cost + (len(given) // 16 if isinstance(given, (list, dict)) else 0)
        if _work.left < 0:
            raise TooMuchWork
        return check(validator, given, instance, schema)

    return counting


@lru_cache(maxsize=256)
def _pattern(given: str) -> Any:
    """RE2: linear in what it searches, whatever the pattern. Raises re2.error."""
    options = re2.Options()
    options.log_errors, options.max_mem = False, 1024 * 1024
    return re2.compile(given, options)


def _error(message: str) -> Any:
    from jsonschema.exceptions import ValidationError

    return ValidationError(message)


def _check_pattern(validator: Any, given: str, instance: Any, _schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "string") and not _pattern(given).search(instance):
        yield _error(f"does not match the pattern {given}")


def _check_pattern_properties(validator: Any, given: dict[str, Any], instance: Any, _schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "object"):
        for pattern, inner in given.items():
            for name, value in instance.items():
                if _pattern(pattern).search(name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _check_additional_properties(validator: Any, given: Any, instance: Any, schema: dict[str, Any]) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), [_pattern(one) for one in schema.get("patternProperties", {})]
    extra = [name for name in instance if name not in known and not any(pattern.search(name) for pattern in patterns)]
    if given is False and extra:
        yield _error(f"must not have {_listed(extra)}")
    elif isinstance(given, dict):
        for name in extra:
            yield from validator.descend(instance[name], given, path=name)


def _check_unique_items(validator: Any, given: bool, instance: Any, _schema: Any) -> Iterator[Any]:
    if given and validator.is_type(instance, "array") and len({_canonical(one) for one in instance}) < len(instance):
        yield _error("must not hold the same twice")


def _canonical(value: Any) -> bytes:
    """Equal for what JSON Schema calls equal: 1 and 1.0 are, 1 and true are not."""
    return orjson.dumps(_whole_numbers(value), option=orjson.OPT_SORT_KEYS)


def _whole_numbers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, list):
        return [_whole_numbers(one) for one in value]
    return {name: _whole_numbers(one) for name, one in value.items()} if isinstance(value, dict) else value


def _problem(error: Any, where: str) -> Problem:
    message = error.message
    if error.validator in ("type", "enum", "const") and error.validator is not None:
        wanted = error.validator_value
        kinds = wanted if isinstance(wanted, list) and error.validator != "const" else [wanted]
        message = f"must be {_listed(kinds)}" if error.validator == "type" else f"must be one of {_listed(kinds)}"
    elif error.validator == "required":
        message = message.replace("is a required property", "is required")
    return Problem(field=_joined(where, error.absolute_path), code=str(error.validator or "schema"), message=_short(message))


def _joined(where: str, path: Iterable[Any]) -> str:
    for step in path:
        where += f"[{step}]" if isinstance(step, int) else f".{step}" if where else str(step)
    return where[:MAX_MESSAGE]


def _listed(names: list[Any]) -> str:
    shown = ", ".join(name if isinstance(name, str) else orjson.dumps(name).decode() for name in names[:5])
    return _short(shown + (" …" if len(names) > 5 else ""))


def _short(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
