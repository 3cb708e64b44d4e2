"""What an expanded step writes to the context, once, when all its items have ended: `merge`, `separate` or `single`.

Under each result key stands a document with, in item order,

    merge     results, summary, metrics, confidence
    separate  task_results (by identifier), metadata, timestamps; each result also under `<identifier>_<result key>`
    single    final_score, confidence, analysis

and `missing`: the items without a result, and why. With `process_array_output: false` there is no document: `merge` writes
the bare list, `separate` only the keys of the items, `single` the first result.

An item's part under a result key is that key of its result when the result is an object that has it; with one result key
else the whole result. `merge_strategy` says what `results` is: `list` of them, `flatten`ed where they are lists, or one
`object` of all their fields (later items win).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from apps.core import clock

COMPLETED = "completed"
NAMED_MISSING = 5
MAX_REASON = 500
MAX_MEASURES = 64
"""numeric fields that `metrics` sums up"""
SCORES = ("final_score", "score")


class Outcome(Protocol):
    """How one item ended. A row of items is one; so is `Ended`."""

    index: int
    identifier: str
    status: str
    """`completed`, or why there is no result: failed, cancelled, skipped, timed_out"""
    result: Any
    reason: str
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Ended:
    index: int
    identifier: str
    status: str
    result: Any = None
    reason: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


def combine(
    output_format: str | None,
    result_keys: Sequence[str],
    outcomes: Iterable[Outcome],
    *,
    process_array_output: bool = True,
    merge_strategy: str = "list",
) -> dict[str, Any]:
    """{context key: value} of an expanded step. `outcomes` in any order, of all its items; none: the defined empty value.

    Raises ValueError for a format that `expansion.validate` would have refused.
    """
    ended = sorted(outcomes, key=lambda one: one.index)
    written: dict[str, Any] = {}
    of_items: dict[str, Any] = {}
    for key in result_keys:
        parts = _Parts(ended, key, alone=len(result_keys) == 1)
        match output_format or "merge":
            case "merge":
                results = _merged([value for _, value in parts.done], merge_strategy)
                written[key] = _merge(parts, results) if process_array_output else results
            case "separate":
                if process_array_output:
                    written[key] = _separate(parts)
                of_items.update((f"{one.identifier}_{key}", value) for one, value in parts.done)
            case "single":
                written[key] = _single(parts) if process_array_output else next((value for _, value in parts.done), None)
            case other:
                raise ValueError(f"no output format {other!r}")
    return {**of_items, **written}  # a result key of the step goes before an item's key of that name


def plain(result_keys: Sequence[str], result: Any) -> dict[str, Any]:
    """{context key: value} of a step that is not expanded; a key its result lacks is null."""
    return {key: None if (value := pick(result, key, alone=len(result_keys) == 1)) is _NOTHING else value for key in result_keys}


def missing(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """The items without a result, in item order."""
    return [_absent(one) for one in sorted(outcomes, key=lambda one: one.index) if one.status != COMPLETED]


def pick(result: Any, key: str, *, alone: bool) -> Any:
    """An item's part under one result key; `_NOTHING` when several are wanted and it lacks this one."""
    if isinstance(result, Mapping) and key in result:
        return result[key]
    return result if alone else _NOTHING


_NOTHING = object()


class _Parts:
    """What the items gave under one result key, in item order."""

    def __init__(self, ended: list[Outcome], key: str, *, alone: bool) -> None:
        self.total = len(ended)
        self.done: list[tuple[Outcome, Any]] = []
        self.missing: list[dict[str, Any]] = []
        self.statuses: dict[str, int] = {}
        self.ended = ended
        for one in ended:
            self.statuses[one.status] = self.statuses.get(one.status, 0) + 1
            if one.status != COMPLETED:
                self.missing.append(_absent(one))
            elif (value := pick(one.result, key, alone=alone)) is _NOTHING:
                self.missing.append({**_absent(one), "reason": f"its result has no {key!r}"})
            else:
                self.done.append((one, value))

    def counts(self) -> dict[str, int]:
        names = ("failed", "cancelled", "skipped", "timed_out")
        return {"total": self.total, "completed": len(self.done), **{name: self.statuses.get(name, 0) for name in names}}

    def confidence(self) -> float | None:
        """The mean of what the items say about their confidence; null when none does."""
        said = [_confidence(value, one.result) for one, value in self.done]
        return _mean([number for number in said if number is not None])


def _merge(parts: _Parts, results: Any) -> dict[str, Any]:
    return {
        "results": results,
        "summary": _sentence(parts),
        "metrics": {**parts.counts(), "values": _measures(value for _, value in parts.done)},
        "confidence": parts.confidence(),
        "missing": parts.missing,
    }


def _separate(parts: _Parts) -> dict[str, Any]:
    return {
        "task_results": {one.identifier: value for one, value in parts.done},
        "metadata": {**parts.counts(), "summary": _sentence(parts), "order": [one.identifier for one in parts.ended]},
        "timestamps": {
            one.identifier: {"started_at": clock.iso(one.started_at), "finished_at": clock.iso(one.finished_at)} for one in parts.ended
        },
        "missing": parts.missing,
    }


def _single(parts: _Parts) -> dict[str, Any]:
    scores = [_score(value) for _, value in parts.done]
    return {
        "final_score": _mean([score for score in scores if score is not None]),
        "confidence": parts.confidence(),
        "analysis": [{"item": one.identifier, "analysis": _analysis(value)} for one, value in parts.done],
        "summary": _sentence(parts),
        "metrics": {**parts.counts(), "values": _measures(value for _, value in parts.done)},
        "missing": parts.missing,
    }


def _merged(results: list[Any], strategy: str) -> Any:
    if strategy == "flatten":
        return [one for value in results for one in (value if isinstance(value, list) else [value])]
    if strategy == "object":
        found: dict[str, Any] = {}
        for value in results:
            if isinstance(value, dict):
                found.update(value)
        return found
    return results


def _absent(one: Outcome) -> dict[str, Any]:
    return {"index": one.index, "identifier": one.identifier, "status": one.status, "reason": (one.reason or "")[:MAX_REASON]}


def _sentence(parts: _Parts) -> str:
    told = f"{len(parts.done)} of {parts.total} items completed"
    if not parts.missing:
        return f"{told}."
    names = [f"{one['identifier']} ({one['status'].replace('_', ' ')})" for one in parts.missing[:NAMED_MISSING]]
    more = f" and {len(parts.missing) - NAMED_MISSING} more" if len(parts.missing) > NAMED_MISSING else ""
    return f"{told}; missing: {', '.join(names)}{more}."


def _measures(results: Iterable[Any]) -> dict[str, dict[str, float | int | None]]:
    """For each numeric field of the results (a bare number: `value`), in order of appearance: count, min, max, mean, sum."""
    fields: dict[str, list[float | int]] = {}
    for result in results:
        for name, value in result.items() if isinstance(result, Mapping) else (("value", result),):
            if _is_number(value) and (name in fields or len(fields) < MAX_MEASURES):
                fields.setdefault(name, []).append(value)
    return {
        name: {"count": len(values), "min": min(values), "max": max(values), "mean": _mean(values), "sum": _sum(values)}
        for name, values in fields.items()
    }


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _sum(values: list[float | int]) -> float | int | None:
    """None when it is beyond a float."""
    if all(type(value) is int for value in values):
        total = sum(values)
        return total if -(2**63) <= total < 2**63 else float(total)
    try:
        total = math.fsum(values)
    except OverflowError:
        return None
    return total if math.isfinite(total) else None


def _mean(values: list[float | int]) -> float | None:
    total = _sum(values)
    return total / len(values) if values and total is not None else None


def _confidence(value: Any, result: Any) -> float | int | None:
    for holder in (value, result):
        if isinstance(holder, Mapping) and _is_number(holder.get("confidence")):
            return holder["confidence"]
    return None


def _score(value: Any) -> float | int | None:
    if _is_number(value):
        return value
    if isinstance(value, Mapping):
        return next((value[name] for name in SCORES if _is_number(value.get(name))), None)
    return None


def _analysis(value: Any) -> Any:
    return value["analysis"] if isinstance(value, Mapping) and "analysis" in value else value
