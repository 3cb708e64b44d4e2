"""Bulk writes: many rows in one statement, with one winner for each. The one door for them.

`compare_and_set` is the platform's step: each change names a row, what must still be true of it (`guards`) and what
to write. It answers which changes won. On SQL it is one `UPDATE … FROM (VALUES …) … RETURNING`; on MongoDB one
`bulk_write`, and when some lost, one read of the token that the winners wrote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connections, models, router, transaction

MAX_PARAMETERS = 30_000
"""SQLite's default bound is 32,766 parameters a statement; PostgreSQL's 65,535."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    pk: str
    guards: dict[str, Any]
    fields: dict[str, Any]


def atomic(model: type[models.Model]) -> AbstractContextManager[None]:
    """A transaction on the model's database, as short as the caller keeps it (MongoDB: none; nothing may rely on it)."""
    return transaction.atomic(using=router.db_for_write(model))


def insert(rows: Iterable[models.Model]) -> None:
    """Insert rows of any models, one statement per model. IntegrityError when one exists."""
    by_model: dict[type[models.Model], list[models.Model]] = defaultdict(list)
    for row in rows:
        by_model[type(row)].append(row)
    for model, group in by_model.items():
        model._default_manager.bulk_create(group)


def insert_missing(rows: Sequence[models.Model]) -> None:
    """Insert rows with derived ids; a row that is there already was written by an earlier try and is left alone."""
    by_model: dict[type[models.Model], dict[str, models.Model]] = defaultdict(dict)
    for row in rows:
        by_model[type(row)].setdefault(row.pk, row)
    for model, group in by_model.items():
        try:
            with atomic(model):
                model._default_manager.bulk_create(group.values())
        except IntegrityError:
            for pk in model._default_manager.filter(pk__in=list(group)).values_list("pk", flat=True):
                group.pop(pk, None)
            # Another copy may still insert one of the rest between the look and the write; one by one settles it.
            for row in group.values():
                try:
                    with atomic(model):
                        row.save(force_insert=True)
                except IntegrityError:
                    continue


def compare_and_set(model: type[models.Model], changes: Sequence[Change], *, winner_field: str) -> set[str]:
    """Apply each change whose guards still hold; answer the primary keys of those that did.

    `winner_field` names a field that every change sets to a value of its own; it tells winners from losers on MongoDB.
    """
    connection = connections[router.db_for_write(model)]
    won: set[str] = set()
    by_shape: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Change]] = defaultdict(list)
    for change in changes:
        by_shape[tuple(change.guards), tuple(change.fields)].append(change)
    apply: Callable[..., set[str]] = _mongodb if connection.vendor == "mongodb" else _sql
    for (guards, fields), group in by_shape.items():
        step = MAX_PARAMETERS // (1 + len(guards) + len(fields))
        for start in range(0, len(group), step):
            won |= apply(connection, model, group[start : start + step], guards, fields, winner_field)
    return won


def _prepare(model: type[models.Model], names: Iterable[str], connection: Any) -> list[tuple[str, Callable[[Any], Any], str]]:
    columns = []
    for name in names:
        field = model._meta.get_field(name)
        columns.append((field.column, lambda value, field=field: field.get_db_prep_save(value, connection), field.db_type(connection)))
    return columns


def _sql(
    connection: Any, model: type[models.Model], changes: Sequence[Change], guards: tuple[str, ...], fields: tuple[str, ...], _winner_field: str
) -> set[str]:
    quote = connection.ops.quote_name
    table = quote(model._meta.db_table)
    key = model._meta.pk
    columns = _prepare(model, (key.name, *guards, *fields), connection)
    names = [f"v{index}" for index in range(len(columns))]
    # PostgreSQL types a VALUES list by its first row; SQLite needs no help and would mangle a cast date.
    first = "({})".format(", ".join(f"CAST(%s AS {kind})" if connection.vendor == "postgresql" else "%s" for _, _, kind in columns))
    rest = "({})".format(", ".join(["%s"] * len(columns)))
    guarded = [f"{table}.{quote(columns[0][0])} = given.v0"]
    guarded += [f"{table}.{quote(columns[1 + index][0])} = given.v{1 + index}" for index in range(len(guards))]
    assigned = [f"{quote(columns[1 + len(guards) + index][0])} = given.v{1 + len(guards) + index}" for index in range(len(fields))]
    statement = (
        f"WITH given({', '.join(names)}) AS (VALUES {first}{(', ' + rest) * (len(changes) - 1)}) "  # noqa: S608 - names come from the models
        f"UPDATE {table} SET {', '.join(assigned)} FROM given WHERE {' AND '.join(guarded)} RETURNING {table}.{quote(columns[0][0])}"
    )
    parameters: list[Any] = []
    for change in changes:
        values = (change.pk, *(change.guards[name] for name in guards), *(change.fields[name] for name in fields))
        parameters.extend(prepare(value) for (_, prepare, _), value in zip(columns, values, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return {row[0] for row in cursor.fetchall()}


def _mongodb(
    connection: Any, model: type[models.Model], changes: Sequence[Change], guards: tuple[str, ...], fields: tuple[str, ...], winner_field: str
) -> set[str]:
    from pymongo import UpdateOne  # the optional store's own client, wanted only here

    collection = connection.get_collection(model._meta.db_table)
    guard_columns = _prepare(model, guards, connection)
    field_columns = _prepare(model, fields, connection)
    operations = [
        UpdateOne(
            {"_id": change.pk, **{column: prepare(change.guards[name]) for name, (column, prepare, _) in zip(guards, guard_columns, strict=True)}},
            {"$set": {column: prepare(change.fields[name]) for name, (column, prepare, _) in zip(fields, field_columns, strict=True)}},
        )
        for change in changes
    ]
    result = collection.bulk_write(operations, ordered=False)
    if result.matched_count == len(changes):
        return {change.pk for change in changes}
    tokens = {change.pk: change.fields[winner_field] for change in changes}
    found = model._default_manager.filter(pk__in=list(tokens)).values_list("pk", winner_field)
    return {pk for pk, value in found if tokens[pk] == value}
