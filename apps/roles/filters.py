"""MongoDB-style filters, the part that is safe to take from outside, read into a small tree of conditions.

    {"role_type": "SCOUTING", "$or": [{"role_id": {"$in": ["a", "b"]}}, {"group_ids": {"$all": ["x", "y"]}}]}

Taken: `$eq $ne $in $nin $gt $gte $lt $lte $exists $regex $all $elemMatch $size $not` on the fields of a table, and
`$and $or $nor` around them, with MongoDB's meaning. Everything else is refused by name, at whatever depth it stands.
What the caller writes is compared with, never used as a name: fields are looked up in the table.

    tree = read(filter, FIELDS)             # raises BadFilter with every problem and where it is
    filter_matching.matches(tree, document) # exact, on documents in memory
    filter_queries.as_q(tree, FIELDS)       # exact, as a Django condition on columns
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import re2

from apps.core.errors import Invalid, Problem
from apps.roles.filter_kinds import Kind, refused_in

MAX_DEPTH = 8
MAX_CONDITIONS = 100
MAX_VALUES = 1000
MAX_PROBLEMS = 20
MAX_PATTERN = 256
PATTERN_MEMORY = 1024 * 1024
"""bytes a compiled pattern may take; one that would need more is refused."""

AROUND = ("$and", "$or", "$nor")
ON_FIELDS = (
    "$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$exists", "$regex", "$all", "$elemMatch", "$size", "$not",
)  # fmt: skip
INSTEAD = {"$options": "write them in front of the pattern: (?i) any case, (?s) . matches line ends, (?m) ^ and $ match at each line"}
ORDERED = frozenset({"$gt", "$gte", "$lt", "$lte"})


class BadFilter(Invalid):
    status, code, sentence = 400, "bad_filter", "The filter is not valid."


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """What a filter may name. `column` is the Django lookup it stands for where filters become queries."""

    kind: Kind
    column: str = ""
    nullable: bool = False


Fields = Mapping[str, Field]


# ---- the tree ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Test:
    """One operator on one path. `$ne`, `$nin`, `$nor`, `$all` and `$exists: false` are made of the others."""

    path: tuple[str, ...]
    """Field first; () is the element itself, inside `$elemMatch`."""
    operator: str
    operand: Any
    """As the kind of the field read it; of `$elemMatch` a tree, of `$regex` the compiled pattern."""
    where: str
    """The path into the filter, for problems found later."""
    whole: bool = False
    """Of `$elemMatch`: the tree is about fields of the element, not about the element itself."""


Node = All | AnyOf | Not | Test


def read(filter: Any, fields: Fields) -> Node:
    """Raises BadFilter with every problem and where it is."""
    reading = _Reading(fields)
    found = reading.document(filter, "", 1, ())
    if reading.problems:
        raise BadFilter(reading.problems)
    return found


@lru_cache(maxsize=256)
def pattern(text: str) -> Any:
    """RE2: linear in what it searches, whatever the pattern. Raises re2.error."""
    options = re2.Options()
    options.log_errors, options.max_mem = False, PATTERN_MEMORY
    return re2.compile(text, options)


@dataclass(kw_only=True)
class _Place:
    """Where operators stand: the path they look at and what its values may be."""

    path: tuple[str, ...]
    kind: Kind
    inside: bool = False
    """Directly inside `$elemMatch`."""


@dataclass
class _Reading:
    fields: Fields
    problems: list[Problem] = field(default_factory=list)
    conditions: int = 0
    values: int = 0

    # ---- documents: {field: …, "$and": […]} ----

    def document(self, filter: Any, at: str, depth: int, within: Sequence[Kind]) -> Node:
        """`within` is () at the top, else the kind of the fields of an element inside `$elemMatch`."""
        if depth > MAX_DEPTH:
            return self._wrong(at, "too_deep", f"nested deeper than {MAX_DEPTH}")
        if not isinstance(filter, dict):
            return self._wrong(at, "wrong_type", "must be an object")
        parts: list[Node] = []
        for name, wanted in filter.items():
            here = _join(at, name)
            if self._full(at):
                break
            if name in AROUND:
                parts.append(self._branches(name, wanted, here, depth, within))
            elif name.startswith("$"):
                self._wrong(here, "operator", f"operator {_short(name)} is not taken here; {', '.join(AROUND)} are")
            elif (place := self._place(name, here, within)) is not None:
                parts.append(self._on_field(place, wanted, here, depth))
        return All(tuple(parts))

    def _branches(self, name: str, branches: Any, at: str, depth: int, within: Sequence[Kind]) -> Node:
        if not isinstance(branches, list) or not branches:
            return self._wrong(at, "wrong_type", "must be a list of filters, at least one")
        parts: list[Node] = []
        for index, branch in enumerate(branches):
            parts.append(self.document(branch, _join(at, str(index)), depth + 1, within))
            if len(self.problems) >= MAX_PROBLEMS:
                break
        if name == "$and":
            return All(tuple(parts))
        return AnyOf(tuple(parts)) if name == "$or" else Not(AnyOf(tuple(parts)))

    def _place(self, name: str, at: str, within: Sequence[Kind]) -> _Place | None:
        root, *rest = name.split(".")
        if within:
            problem, kind = within[0].below((root, *rest))
            root_known = True
        else:
            root_known = root in self.fields
            problem, kind = self.fields[root].kind.below(tuple(rest)) if root_known else (None, None)
        if not root_known or problem:
            these = f"; these can: {', '.join(self.fields)}" if not root_known else ""
            self._wrong(at, "field", (problem or "cannot be filtered by") + these)
            return None
        return _Place(path=(root, *rest), kind=kind)

    # ---- fields: "x", or {"$in": […], "$ne": …} ----

    def _on_field(self, place: _Place, wanted: Any, at: str, depth: int) -> Node:
        if not isinstance(wanted, dict) or (wanted and not any(name.startswith("$") for name in wanted) and place.kind.takes_objects):
            return self._equal(place, wanted, at)
        if not wanted:
            return self._equal(place, wanted, at) if place.kind.takes_objects else self._shape(place, at)
        return self._operators(place, wanted, at, depth)

    def _shape(self, place: _Place, at: str) -> Node:
        return self._wrong(at, "wrong_type", f"must be {place.kind.described} or an object of operators")

    def _operators(self, place: _Place, wanted: dict[str, Any], at: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            return self._wrong(at, "too_deep", f"nested deeper than {MAX_DEPTH}")
        parts = []
        for operator, operand in wanted.items():
            here = _join(at, operator)
            if self._full(at):
                break
            if operator not in ON_FIELDS:
                others = INSTEAD.get(operator) or f"{', '.join(ON_FIELDS)} are"
                self._wrong(here, "operator", f"operator {_short(operator)} is not taken here; {others}")
                continue
            parts.append(_READ[operator](self, place, operand, here, depth))
        return All(tuple(parts))

    def _equal(self, place: _Place, operand: Any, at: str, depth: int = 0) -> Node:
        return self._test(place, "$eq", self._value(place, operand, at), at)

    def _unequal(self, place: _Place, operand: Any, at: str, depth: int) -> Node:
        return Not(self._equal(place, operand, at))

    def _one_of(self, place: _Place, operand: Any, at: str, depth: int) -> Node:
        if not isinstance(operand, list):
            return self._wrong(at, "wrong_type", f"must be a list, each {place.kind.described}")
        return self._test(place, "$in", tuple(self._value(place, value, at) for value in operand), at)

    def _none_of(self, place: _Place, operand: Any, at: str, depth: int) -> Node:
        return Not(self._one_of(place, operand, at, depth))

    def _exists(self, place: _Place, operand: Any, at: str, depth: int) -> Node:
        if not isinstance(operand, bool):
            return self._wrong(at, "wrong_type", "must be true or false")
        found = self._test(place, "$exists", True, at)
        return found if operand else Not(found)

    def _regex(self, place: _Place, operand: Any, at: str, depth: int) -> Node:
        if not isinstance(operand, str):
            return self._wrong(at, "wrong_type", "must be a string, a regular expression")
        if len(operand) > MAX_PATTERN:
            return self._wrong(at, "too_long", f"must have at most {MAX_PATTERN} characters")
        try:
            return self._test(place, "$regex", pattern(operand), at)
        except re2.error as error:
            why = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
            return self._wrong(at, "regex", f"is not a regular expression that is taken (RE2 syntax): {_short(why)}")

    def _all(self, place: _Place, operand: Any, at: str, depth: int) -> Node:
        if not isinstance(operand, list):
            return self._wrong(at, "wrong_type", f"must be a list, each {place.kind.described}")
        parts: list[Node] = []
        for index, value in enumerate(operand):
            if isinstance(value, dict) and "$elemMatch" in value:
                parts.append(self._operators(place, value, _join(at, str(index)), depth + 1))
            else:
                parts.append(self._equal(place, value, at))
        return All(tuple(parts)) if parts else AnyOf()

    def _elem_match(self, place: _Place, operand: Any, at: str, depth: int) -> Node:
        if depth >= MAX_DEPTH:
            return self._wrong(at, "too_deep", f"nested deeper than {MAX_DEPTH}")
        if not isinstance(operand, dict):
            return self._wrong(at, "wrong_type", "must be an object")
        first = next(iter(operand), "")
        if first.startswith("$") and first not in AROUND:
            inner: Node = self._operators(_Place(path=(), kind=place.kind.element, inside=True), operand, at, depth + 1)
            return self._test(place, "$elemMatch", inner, at)
        inner = self.document(operand, at, depth + 1, (place.kind.element,))
        return self._test(place, "$elemMatch", inner, at, whole=True)

    def _size(self, place: _Place, operand: Any, at: str, depth: int) -> Node:
        whole = type(operand) is int or (type(operand) is float and operand.is_integer())
        if not whole or operand < 0:
            return self._wrong(at, "wrong_type", "must be a whole number, 0 or more")
        return self._test(place, "$size", int(operand), at)

    def _not(self, place: _Place, operand: Any, at: str, depth: int) -> Node:
        if not isinstance(operand, dict) or not operand:
            return self._wrong(at, "wrong_type", "must be an object of operators, at least one")
        return Not(self._operators(place, operand, at, depth + 1))

    # ---- values ----

    def _value(self, place: _Place, value: Any, at: str) -> Any:
        self.values += _weight(value)
        if self.values > MAX_VALUES:
            self._wrong(at, "too_many", f"more than {MAX_VALUES} values")
        elif name := refused_in(value):
            self._wrong(_join(at, name), "operator", f"operator {_short(name)} is not taken inside a value")
        elif (read := place.kind.read(value)) is Kind.WRONG:
            self._wrong(at, "wrong_type", f"must be {place.kind.described}")
        else:
            return read
        return None

    def _test(self, place: _Place, operator: str, operand: Any, at: str, *, whole: bool = False) -> Node:
        return Test(path=place.path, operator=operator, operand=operand, where=at, whole=whole)

    def _full(self, at: str) -> bool:
        self.conditions += 1
        if self.conditions == MAX_CONDITIONS + 1:
            self._wrong(at, "too_many", f"more than {MAX_CONDITIONS} conditions")
        return self.conditions > MAX_CONDITIONS or len(self.problems) >= MAX_PROBLEMS

    def _wrong(self, at: str, code: str, message: str) -> Node:
        self.problems.append(Problem(field=at, code=code, message=message))
        return All()


def _ordered(operator: str) -> Callable[..., Node]:
    def read(reading: _Reading, place: _Place, operand: Any, at: str, depth: int) -> Node:
        if isinstance(operand, (dict, list)) and not place.kind.takes_objects:
            return reading._wrong(at, "wrong_type", f"must be {place.kind.element.described}")
        return reading._test(place, operator, reading._value(place, operand, at), at)

    return read


_READ: dict[str, Callable[..., Node]] = {
    "$eq": _Reading._equal,
    "$ne": _Reading._unequal,
    "$in": _Reading._one_of,
    "$nin": _Reading._none_of,
    **{operator: _ordered(operator) for operator in sorted(ORDERED)},
    "$exists": _Reading._exists,
    "$regex": _Reading._regex,
    "$all": _Reading._all,
    "$elemMatch": _Reading._elem_match,
    "$size": _Reading._size,
    "$not": _Reading._not,
}


def _weight(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_weight, value.values()))
    return 1 + sum(map(_weight, value)) if isinstance(value, list) else 1


def _join(path: str, name: str) -> str:
    return f"{path}.{_short(name)}" if path else _short(name)


def _short(name: str) -> str:
    return name if len(name) <= 64 else f"{name[:61]}…"
