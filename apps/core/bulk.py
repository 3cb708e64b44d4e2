"""Bulk writes: many rows in one statement, with one winner for each. The one door for them.

`compare_and_set` is the platform's step: each change names a row, what must still be true of it (`guards`) and what
to write. It answers which changes won. On SQL it is one `UPDATE … FROM (VALUES …) … RETURNING`; on MongoDB one
`bulk_write`, and when some lost, one read of the marks that the winners left.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import orjson
from django.db import IntegrityError, connections, models, router, transaction

from apps.core import ids

MAX_PARAMETERS = 30_000
"""SQLite's default bound is 32,766 parameters a statement; PostgreSQL's 65,535."""
MARKS, MARKS_KEPT = "_writes", 8
"""MongoDB: the last bulk writes that changed a document. No field of a model: only this module knows of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    pk: str
    guards: dict[str, Any]
    fields: dict[str, Any]


def atomic(model: type[models.Model]) -> AbstractContextManager[None]:
    """A transaction on the model's database, as short as the caller keeps it (MongoDB: none; nothing may rely on it)."""
    return transaction.atomic(using=router.db_for_write(model))


Row = TypeVar("Row", bound=models.Model)


def new(model: type[Row], **values: Any) -> Row:
    """An unsaved row, as `model(**values)` makes it, in less than half the time: thousands are made a second."""
    defaults, made = _defaults(model)
    row = {**defaults, **values}
    if len(row) != len(defaults):
        raise TypeError(f"{model.__name__} has no field {', '.join(sorted(values.keys() - defaults.keys()))}")
    for name, make in made:
        if name not in values:
            row[name] = make()
    return model(*row.values())


@lru_cache(maxsize=64)
def _defaults(model: type[models.Model]) -> tuple[dict[str, Any], list[tuple[str, Callable[[], Any]]]]:
    """Each field in the model's order with its default, and those whose default is made anew for each row."""
    fields = model._meta.concrete_fields
    made = [(field.attname, field.default) for field in fields if field.has_default() and callable(field.default)]
    return {field.attname: field.get_default() for field in fields}, made


def insert(rows: Iterable[models.Model]) -> None:
    """Insert rows of any models, one statement per model. IntegrityError when one exists."""
    by_model: dict[type[models.Model], list[models.Model]] = defaultdict(list)
    for row in rows:
        by_model[type(row)].append(row)
    for model, group in by_model.items():
        _insert(model, group)


def insert_missing(rows: Sequence[models.Model]) -> None:
    """Insert rows with derived ids; a row that is there already was written by an earlier try and is left alone."""
    by_model: dict[type[models.Model], dict[str, models.Model]] = defaultdict(dict)
    for row in rows:
        by_model[type(row)].setdefault(row.pk, row)
    for model, group in by_model.items():
        try:
            with atomic(model):
                _insert(model, list(group.values()))
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


def compare_and_set(model: type[models.Model], changes: Sequence[Change]) -> set[str]:
    """Apply each change whose guards still hold; answer the primary keys of those that did."""
    connection = connections[router.db_for_write(model)]
    by_shape: dict[_Shape, list[Change]] = defaultdict(list)
    for change in changes:
        by_shape[_Shape(model=model, guards=tuple(change.guards), fields=tuple(change.fields))].append(change)
    apply = _mongodb if connection.vendor == "mongodb" else _sql
    won: set[str] = set()
    for shape, group in by_shape.items():
        step = MAX_PARAMETERS // (1 + len(shape.guards) + len(shape.fields))
        for start in range(0, len(group), step):
            won |= apply(connection, shape, group[start : start + step])
    return won


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shape:
    """Changes that guard and write the same fields go in one statement."""

    model: type[models.Model]
    guards: tuple[str, ...]
    fields: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    name: str
    kind: str
    prepare: Callable[[Any], Any] | None
    """From the model's value to the driver's; None: it is the same."""


def _columns(connection: Any, model: type[models.Model], names: Iterable[str]) -> list[_Column]:
    fields = [model._meta.get_field(name) for name in names]
    return [_Column(name=field.column, kind=field.db_type(connection), prepare=_prepare(connection, field)) for field in fields]


def _prepare(connection: Any, field: models.Field) -> Callable[[Any], Any] | None:
    """Django's own preparation costs most of a bulk write. Where the result is known to be the same, take the short way."""
    if connection.vendor == "sqlite":
        if isinstance(field, models.DateTimeField):
            return _sqlite_instant
        if isinstance(field, models.JSONField) and field.encoder is None:
            return _sqlite_json
        if isinstance(field, models.CharField | models.TextField | models.IntegerField | models.FloatField):
            return None
    return lambda value: field.get_db_prep_save(value, connection)


@lru_cache(maxsize=1024)  # the rows of a batch share their instants
def _sqlite_instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).replace(tzinfo=None).isoformat(" ")


def _sqlite_json(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # what only the slower one can say: integers beyond 64 bits, keys that are no text
        return json.dumps(value)


def _insert(model: type[models.Model], rows: Sequence[models.Model]) -> None:
    alias = router.db_for_write(model)
    connection = connections[alias]
    if connection.vendor == "mongodb" or model._meta.auto_field is not None:
        model._default_manager.bulk_create(rows)
        return
    fields = model._meta.concrete_fields
    columns = _columns(connection, model, [field.name for field in fields])
    encoders = [(field.attname, column.prepare) for field, column in zip(fields, columns, strict=True)]
    quote = connection.ops.quote_name
    statement = (
        f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(quote(column.name) for column in columns)}) "  # noqa: S608 - the names come from the model
        f"VALUES ({', '.join(['%s'] * len(columns))})"
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            statement,
            [[row[name] if prepare is None else prepare(row[name]) for name, prepare in encoders] for row in map(vars, rows)],
        )
    for row in rows:
        row._state.adding, row._state.db = False, alias


def _sql(connection: Any, shape: _Shape, changes: Sequence[Change]) -> set[str]:
    quote = connection.ops.quote_name
    table = quote(shape.model._meta.db_table)
    columns = _columns(connection, shape.model, (shape.model._meta.pk.name, *shape.guards, *shape.fields))
    checked = 1 + len(shape.guards)
    # PostgreSQL types a VALUES list by its first row; SQLite needs no help and would mangle a cast date.
    typed = connection.vendor == "postgresql"
    first = "({})".format(", ".join(f"CAST(%s AS {column.kind})" if typed else "%s" for column in columns))
    rest = "({})".format(", ".join(["%s"] * len(columns)))
    holds = [f"{table}.{quote(column.name)} = given.v{index}" for index, column in enumerate(columns[:checked])]
    assigned = [f"{quote(column.name)} = given.v{checked + index}" for index, column in enumerate(columns[checked:])]
    statement = (
        f"WITH given({', '.join(f'v{index}' for index in range(len(columns)))}) "  # noqa: S608 - the names come from the model
        f"AS (VALUES {first}{(', ' + rest) * (len(changes) - 1)}) "
        f"UPDATE {table} SET {', '.join(assigned)} FROM given WHERE {' AND '.join(holds)} RETURNING {table}.{quote(columns[0].name)}"
    )
    prepares = [column.prepare for column in columns]
    parameters: list[Any] = []
    for change in changes:
        values = (change.pk, *(change.guards[name] for name in shape.guards), *(change.fields[name] for name in shape.fields))
        parameters.extend(value if prepare is None else prepare(value) for prepare, value in zip(prepares, values, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return {row[0] for row in cursor.fetchall()}


def _mongodb(connection: Any, shape: _Shape, changes: Sequence[Change]) -> set[str]:
    from pymongo import UpdateOne  # the optional store's own client, wanted only here

    guards = dict(zip(shape.guards, _columns(connection, shape.model, shape.guards), strict=True))
    fields = dict(zip(shape.fields, _columns(connection, shape.model, shape.fields), strict=True))
    # A field of the change would not do as its mark: whoever moves the row on right behind us writes over it.
    mark = ids.time_ordered()
    operations = [
        UpdateOne(
            {"_id": change.pk, **{column.name: column.prepare(change.guards[name]) for name, column in guards.items()}},
            {
                "$set": {column.name: column.prepare(change.fields[name]) for name, column in fields.items()},
                "$push": {MARKS: {"$each": [mark], "$slice": -MARKS_KEPT}},
            },
        )
        for change in changes
    ]
    collection = connection.get_collection(shape.model._meta.db_table)
    if collection.bulk_write(operations, ordered=False).matched_count == len(changes):
        return {change.pk for change in changes}
    return {found["_id"] for found in collection.find({"_id": {"$in": [change.pk for change in changes]}, MARKS: mark}, {"_id": 1})}
