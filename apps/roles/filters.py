"""MongoDB-style filters, the part that is safe to take from outside, as Django conditions.

    {"role_type": "SCOUTING", "$or": [{"role_id": {"$in": ["a", "b"]}}, {"job_space_id": {"$ne": "north"}}]}

Taken: equality, `$eq $ne $in $nin $exists` on listed fields, `$and $or` around them; on a list-valued field they
ask, as in MongoDB, whether any element matches. Everything else is refused by name. What the caller writes is
compared with, never used as a name: fields are looked up in a table of functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db.models import Q

from apps.core.errors import Invalid, Problem

Field = Callable[[Sequence[str]], Q]
"""The condition "is one of these" (of a list: "holds one of these")."""

MAX_DEPTH = 8
MAX_CONDITIONS = 100
MAX_VALUES = 1000
MAX_PROBLEMS = 20
NOTHING = Q(pk__in=())


class BadFilter(Invalid):
    status, code, sentence = 400, "bad_filter", "The filter is not valid."


def condition(filter: Any, fields: Mapping[str, Field]) -> Q:
    """Raises BadFilter with every problem and where it is."""
    reading = _Reading(fields)
    found = reading.all_of(filter, "", 1)
    if reading.problems:
        raise BadFilter(reading.problems)
    return found


class _Reading:
    def __init__(self, fields: Mapping[str, Field]) -> None:
        self.fields = fields
        self.problems: list[Problem] = []
        self._conditions = 0
        self._values = 0

    def all_of(self, filter: Any, path: str, depth: int) -> Q:
        if depth > MAX_DEPTH:
            return self._wrong(path, "too_deep", f"nested deeper than {MAX_DEPTH}")
        if not isinstance(filter, dict):
            return self._wrong(path, "wrong_type", "must be an object")
        found = Q()
        for name, wanted in filter.items():
            here = _join(path, name)
            self._conditions += 1
            if self._conditions > MAX_CONDITIONS:
                return self._wrong(path, "too_many", f"more than {MAX_CONDITIONS} conditions")
            if len(self.problems) >= MAX_PROBLEMS:
                return found
            if name in ("$and", "$or"):
                found &= self._branches(name, wanted, here, depth)
            elif name.startswith("$"):
                self._wrong(here, "operator", f"operator {_short(name)} is not taken here; $and and $or are")
            elif name not in self.fields:
                self._wrong(here, "field", f"cannot be filtered by; these can: {', '.join(self.fields)}")
            else:
                found &= self._matches(self.fields[name], wanted, here)
        return found

    def _branches(self, name: str, branches: Any, path: str, depth: int) -> Q:
        if not isinstance(branches, list) or not branches:
            return self._wrong(path, "wrong_type", "must be a list of filters, at least one")
        found = Q() if name == "$and" else NOTHING
        for index, branch in enumerate(branches):
            one = self.all_of(branch, _join(path, str(index)), depth + 1)
            # An empty branch of $or holds for everything.
            found = found & one if name == "$and" else found | (one or ~NOTHING)
            if len(self.problems) >= MAX_PROBLEMS:
                break
        return found

    def _matches(self, field: Field, wanted: Any, path: str) -> Q:
        if not isinstance(wanted, dict):
            return field(self._texts([wanted], path))
        if not wanted:
            return self._wrong(path, "wrong_type", "must be a string or an object of operators")
        found = Q()
        for operator, operand in wanted.items():
            here = _join(path, operator)
            if operator in ("$eq", "$ne"):
                one = field(self._texts([operand], here))
            elif operator in ("$in", "$nin"):
                if not isinstance(operand, list):
                    self._wrong(here, "wrong_type", "must be a list of strings")
                    continue
                one = field(self._texts(operand, here))
            elif operator == "$exists":
                if not isinstance(operand, bool):
                    self._wrong(here, "wrong_type", "must be true or false")
                    continue
                one = Q() if operand else NOTHING  # every document has every listed field
            else:
                self._wrong(here, "operator", f"operator {_short(operator)} is not taken here; $eq, $ne, $in, $nin and $exists are")
                continue
            found &= ~one if operator in ("$ne", "$nin") else one
        return found

    def _texts(self, values: list[Any], path: str) -> list[str]:
        self._values += len(values)
        if self._values > MAX_VALUES:
            self._wrong(path, "too_many", f"more than {MAX_VALUES} values")
        elif not all(isinstance(value, str) for value in values):
            self._wrong(path, "wrong_type", "must be a string")
        else:
            return values
        return []

    def _wrong(self, path: str, code: str, message: str) -> Q:
        self.problems.append(Problem(field=path, code=code, message=message))
        return Q()


def _join(path: str, name: str) -> str:
    return f"{path}.{_short(name)}" if path else _short(name)


def _short(name: str) -> str:
    return name if len(name) <= 64 else f"{name[:61]}…"
