"""A filter as a Django condition, for tables whose documents are rows of plain columns (text, numbers, flags, times).

Exact, and the same on SQLite, PostgreSQL and MongoDB: a column is never missing, null is what it is in MongoDB, and
every part is a condition of two values, so that "not" denies it. A pattern becomes a search of the store, whose engine
is not ours: only a plain word, with `^` or `$` at its ends, is taken there.
"""

from __future__ import annotations

import re
from typing import Any

from django.db.models import Q

from apps.core.errors import Problem
from apps.roles.filters import All, AnyOf, BadFilter, Field, Fields, Node, Test, read

NOTHING = Q(pk__in=())
_LOOKUPS = {"$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"}
_WORD = re.compile(r"(\^?)((?:[\w\s/:@=~,;!%&<>\"'#-]|\\[^\w\s])*)(\$?)", re.ASCII)
_SPECIAL = re.compile(r"([.^$*+?{}\[\]\\|()])")


def condition(filter: Any, fields: Fields) -> Q:
    """The filter, as it was sent, as a Django condition on the columns of `fields`. Raises BadFilter."""
    return as_q(read(filter, fields), fields)


def as_q(node: Node, fields: Fields) -> Q:
    """Raises BadFilter for what a column cannot be asked."""
    if isinstance(node, All):
        found = Q()
        for part in node.parts:
            found &= as_q(part, fields)
        return found
    if isinstance(node, AnyOf):
        found = NOTHING
        for part in node.parts:
            found |= as_q(part, fields) or ~NOTHING
        return found
    if isinstance(node, Test):
        return _test(node, fields[node.path[0]])
    return ~(as_q(node.part, fields) or ~NOTHING)


def _test(test: Test, field: Field) -> Q:
    column, wanted = field.column, test.operand
    match test.operator:
        case "$exists":
            return ~NOTHING
        case "$size" | "$elemMatch":
            return NOTHING  # a column holds no list
        case "$eq":
            return _null(field) if wanted is None else _present(field, **{column: wanted})
        case "$in":
            found = _present(field, **{f"{column}__in": [value for value in wanted if value is not None]})
            return found | _null(field) if None in wanted else found
        case "$regex":
            return _present(field, **{f"{column}__regex": _word(test)})
        case name:
            if wanted is None:
                return _null(field) if name in ("$gte", "$lte") else NOTHING
            return _present(field, **{f"{column}__{_LOOKUPS[name]}": wanted})


def _null(field: Field) -> Q:
    return Q(**{f"{field.column}__isnull": True}) if field.nullable else NOTHING


def _present(field: Field, **lookup: object) -> Q:
    """Two-valued also where the column is null."""
    return Q(**{f"{field.column}__isnull": False}) & Q(**lookup) if field.nullable else Q(**lookup)


def _word(test: Test) -> str:
    text = test.operand.pattern
    text = text.decode() if isinstance(text, bytes) else text
    found = _WORD.fullmatch(text)
    if not found:
        message = "must be a plain word here, with ^ or $ at its ends; put \\ before . and the like"
        raise BadFilter([Problem(field=test.where, code="regex", message=message)])
    start, word, end = found.groups()
    plain = re.sub(r"\\(.)", r"\1", word)
    return start + _SPECIAL.sub(r"\\\1", plain) + end
