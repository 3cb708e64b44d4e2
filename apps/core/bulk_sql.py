"""Bulk reads and writes on SQLite and PostgreSQL.

Django's own preparation of values costs most of a bulk write, and its conversion most of a bulk read. On SQLite, where
the result is known to be the same, values take the short way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson
from django.db import connections, models

from apps.core.bulk_values import Change, Shape

MAX_PARAMETERS = 30_000
"""SQLite's default bound is 32,766 parameters a statement; PostgreSQL's 65,535."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    name: str
    kind: str
    prepare: Callable[[Any], Any] | None
    """From the model's value to the driver's; None: it is the same."""
    read: Callable[[Any], Any] | None
    """Back. SQLite only."""


def insert(connection: Any, model: type[models.Model], rows: Sequence[models.Model], *, missing: bool = False) -> None:
    """`missing`: rows that are there already stay as they are."""
    fields = model._meta.concrete_fields
    columns = [_column(connection.alias, model, field.name) for field in fields]
    encoders = [(field.attname, column.prepare) for field, column in zip(fields, columns, strict=True)]
    names = ", ".join(f'"{column.name}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.executemany(
            f'INSERT INTO "{model._meta.db_table}" ({names}) VALUES ({_marks("%s", len(columns))})'  # noqa: S608 - the names come from the model
            + (" ON CONFLICT DO NOTHING" if missing else ""),
            [[row[name] if prepare is None else prepare(row[name]) for name, prepare in encoders] for row in map(vars, rows)],
        )


def compare_and_set(connection: Any, shape: Shape, changes: Sequence[Change]) -> set[str]:
    """One `UPDATE … FROM (VALUES …) … RETURNING`: who is returned has won."""
    names = (shape.model._meta.pk.name, *shape.guards, *shape.fields)
    prepares = [_column(connection.alias, shape.model, name).prepare for name in names]
    step = MAX_PARAMETERS // len(names)
    won: set[str] = set()
    for start in range(0, len(changes), step):
        part = changes[start : start + step]
        parameters: list[Any] = []
        for change in part:
            values = (change.pk, *(change.guards[name] for name in shape.guards), *(change.fields[name] for name in shape.fields))
            parameters.extend(value if prepare is None else prepare(value) for prepare, value in zip(prepares, values, strict=True))
        won.update(row[0] for row in _run(connection, _update_statement(connection.alias, shape, len(part)), parameters))
    return won


def select(connection: Any, model: type[models.Model], names: Sequence[str], pks: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """SQLite: the values of these fields for these keys."""
    columns = [_column(connection.alias, model, name) for name in names]
    reads = [column.read for column in columns]
    # With the plus a column is an expression, and Django's slow converter for its declared type stays out of it.
    listed = ", ".join(f'+"{column.name}"' for column in columns)
    statement = f'SELECT {listed} FROM "{model._meta.db_table}" WHERE "{model._meta.pk.column}" IN ({_marks("?", len(pks))})'  # noqa: S608 - as above
    for row in _run(connection, statement, list(pks)):
        yield tuple(value if read is None or value is None else read(value) for read, value in zip(reads, row, strict=True))


def assign(connection: Any, model: type[models.Model], fields: Mapping[str, Any], where: Mapping[str, Any]) -> int:
    """SQLite: write these to the rows that equal those, or one of those."""
    values: list[Any] = []

    def take(name: str, given: Any) -> str:
        column = _column(connection.alias, model, name)
        each = given if isinstance(given, list) else [given]
        values.extend(each if column.prepare is None else map(column.prepare, each))
        return f'"{column.name}" ' + (f"IN ({_marks('?', len(each))})" if isinstance(given, list) else "= ?")

    assigned = ", ".join([take(name, value) for name, value in fields.items()])
    holds = " AND ".join([take(name, value) for name, value in where.items()])
    statement = f'UPDATE "{model._meta.db_table}" SET {assigned} WHERE {holds}'  # noqa: S608 - as above
    with connection.cursor(), connection.wrap_database_errors:
        return connection.connection.execute(statement, values).rowcount


def scan(
    connection: Any, model: type[models.Model], names: Sequence[str], order: str, first: int | None, equal: dict[str, Any]
) -> Iterator[tuple[Any, ...]]:
    """SQLite: the values of these fields of the rows that equal these, in the order of a field."""
    columns = [_column(connection.alias, model, name) for name in names]
    guards = [_column(connection.alias, model, name) for name in equal]
    reads = [column.read for column in columns]
    listed = ", ".join(f'+"{column.name}"' for column in columns)
    where = " AND ".join(f'"{column.name}" = ?' for column in guards)
    by = f'"{_column(connection.alias, model, order.removeprefix("-")).name}"' + (" DESC" if order.startswith("-") else "")
    limit = "" if first is None else f" LIMIT {first:d}"
    statement = f'SELECT {listed} FROM "{model._meta.db_table}" WHERE {where} ORDER BY {by}{limit}'  # noqa: S608 - as above
    values = [value if guard.prepare is None else guard.prepare(value) for guard, value in zip(guards, equal.values(), strict=True)]
    for row in _run(connection, statement, values):
        yield tuple(value if read is None or value is None else read(value) for read, value in zip(reads, row, strict=True))


def _run(connection: Any, statement: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            # Straight to the driver: Django would search the long statement for its own kind of place marks.
            with connection.wrap_database_errors:
                return connection.connection.execute(statement, parameters).fetchall()
        cursor.execute(statement, parameters)
        return cursor.fetchall()


@lru_cache(maxsize=128)
def _update_statement(alias: str, shape: Shape, rows: int) -> str:
    columns = [_column(alias, shape.model, name) for name in (shape.model._meta.pk.name, *shape.guards, *shape.fields)]
    table, checked = f'"{shape.model._meta.db_table}"', 1 + len(shape.guards)
    vendor = connections[alias].vendor
    mark = "?" if vendor == "sqlite" else "%s"
    # PostgreSQL types a VALUES list by its first row; SQLite needs no help and would mangle a cast date.
    first = ", ".join(f"CAST({mark} AS {column.kind})" if vendor == "postgresql" else mark for column in columns)
    rest = f", ({_marks(mark, len(columns))})" * (rows - 1)
    holds = [f'{table}."{column.name}" = given.v{index}' for index, column in enumerate(columns[:checked])]
    assigned = [f'"{column.name}" = given.v{checked + index}' for index, column in enumerate(columns[checked:])]
    return (
        f"WITH given({', '.join(f'v{index}' for index in range(len(columns)))}) AS (VALUES ({first}){rest}) "  # noqa: S608 - as above
        f'UPDATE {table} SET {", ".join(assigned)} FROM given WHERE {" AND ".join(holds)} RETURNING {table}."{columns[0].name}"'
    )


def _marks(mark: str, count: int) -> str:
    return ", ".join([mark] * count)


@lru_cache(maxsize=512)
def _column(alias: str, model: type[models.Model], name: str) -> _Column:
    field, connection = model._meta.get_field(name), connections[alias]
    prepare: Callable[[Any], Any] | None = None
    read = None
    same = isinstance(field, models.CharField | models.TextField | models.IntegerField | models.FloatField)
    if connection.vendor != "sqlite":
        prepare = _django_preparation(alias, field)
    elif isinstance(field, models.DateTimeField):
        prepare, read = _sqlite_instant, _from_sqlite_instant
    elif isinstance(field, models.JSONField) and field.encoder is None and field.decoder is None:
        prepare, read = _sqlite_json, _from_sqlite_json
    elif not same:
        prepare = _django_preparation(alias, field)
    return _Column(name=field.column, kind=field.db_type(connection), prepare=prepare, read=read)


def _django_preparation(alias: str, field: models.Field) -> Callable[[Any], Any]:
    return lambda value: field.get_db_prep_save(value, connections[alias])


@lru_cache(maxsize=1024)  # the rows of a batch share their instants
def _sqlite_instant(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).replace(tzinfo=None).isoformat(" ")


@lru_cache(maxsize=1024)
def _from_sqlite_instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _sqlite_json(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # what only the slower one can say: integers beyond 64 bits, keys that are no text
        return json.dumps(value)


_LONG_NUMBER = re.compile(r"\d{19}")


def _from_sqlite_json(text: str) -> Any:
    """orjson makes a float of an integer beyond 64 bits; the slower one keeps it."""
    return json.loads(text) if _LONG_NUMBER.search(text) else orjson.loads(text)
