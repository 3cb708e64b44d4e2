"""Bulk reads and writes: many rows in one statement, with one winner for each. The one door for them.

`compare_and_set` is the platform's step: each change names a row, what must still be true of it (`guards`) and what
to write. It answers which changes won. The stores' own ways are in `bulk_sql` and `bulk_mongodb`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, TypeVar

from django.db import IntegrityError, connections, models, router, transaction
from django.db.models.base import ModelState

from apps.core import bulk_sql
from apps.core.bulk_values import Change, Shape

__all__ = [
    "Change", "assign", "atomic", "compare_and_set", "complete", "has_transactions", "in_transaction", "insert", "insert_missing",
    "load", "new", "pick", "remove", "remove_in_parts", "scan",
]  # fmt: skip


def atomic(model: type[models.Model], *, savepoint: bool = True) -> AbstractContextManager[None]:
    """A transaction on the model's database, as short as the caller keeps it (MongoDB: none; nothing may rely on it). Without
    a savepoint, one inside another is just a part of it: what fails there fails all."""
    return transaction.atomic(using=router.db_for_write(model), savepoint=savepoint)


def in_transaction(model: type[models.Model]) -> bool:
    """Whether this thread is inside a transaction on the model's database: what it writes must be part of that."""
    return connections[router.db_for_write(model)].in_atomic_block


Row = TypeVar("Row", bound=models.Model)


def new(model: type[Row], **values: Any) -> Row:
    """An unsaved row, as `model(**values)` makes it, in a fraction of the time: thousands are made a second."""
    defaults, made = _defaults(model)
    row = {**defaults, **values}
    if len(row) != len(defaults):
        raise TypeError(f"{model.__name__} has no field {', '.join(sorted(values.keys() - defaults.keys()))}")
    for name, make in made:
        if name not in values:
            row[name] = make()
    return _bare(model, row)


def _bare(model: type[Row], values: Mapping[str, Any]) -> Row:
    """As Django makes rows, without its signals and checks: a third of the time."""
    row = model.__new__(model)
    row.__dict__.update(values)
    row._state = ModelState()
    return row


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
        if connections[router.db_for_write(model)].vendor == "mongodb":
            _insert_what_is_missing(model, group)
            continue
        with atomic(model, savepoint=False):
            _insert(model, list(group.values()), missing=True)


def _insert_what_is_missing(model: type[models.Model], rows: dict[str, models.Model]) -> None:
    try:
        _insert(model, list(rows.values()))
    except IntegrityError:
        for pk in model._default_manager.filter(pk__in=list(rows)).values_list("pk", flat=True):
            rows.pop(pk, None)
        # Another copy may still insert one of the rest between the look and the write; one by one settles it.
        for row in rows.values():
            try:
                row.save(force_insert=True)
            except IntegrityError:
                continue


def assign(model: type[models.Model], fields: Mapping[str, Any], **where: Any) -> int:
    """Write these fields to every row whose named fields equal what is given (a list: any of it); how many there were."""
    connection = connections[router.db_for_write(model)]
    if connection.vendor == "sqlite":
        return bulk_sql.assign(connection, model, fields, where)
    chosen = {f"{name}__in" if isinstance(value, list) else name: value for name, value in where.items()}
    return model._default_manager.filter(**chosen).update(**fields)


def remove(model: type[models.Model], **where: Any) -> int:
    """Delete every row whose named fields equal what is given (a list: any of it), in one statement; how many there were. What
    refers to them is the caller's to delete."""
    alias = router.db_for_write(model)
    chosen = {f"{name}__in" if isinstance(value, list) else name: value for name, value in where.items()}
    return model._base_manager.using(alias).filter(**chosen)._raw_delete(alias) or 0  # None: nothing was named


def remove_in_parts(model: type[models.Model], *, size: int = 500, **where: Any) -> int:
    """The same, some rows at a time: however many there are, whoever else writes waits for one part."""
    chosen = {f"{name}__in" if isinstance(value, list) else name: value for name, value in where.items()}
    rows = model._base_manager.filter(**chosen).values_list("pk", flat=True)
    gone = 0
    while part := list(rows[:size]):
        gone += remove(model, pk=part)
    return gone


def compare_and_set(model: type[models.Model], changes: Sequence[Change]) -> set[str]:
    """Apply each change whose guards still hold; answer the primary keys of those that did."""
    connection = connections[router.db_for_write(model)]
    by_shape: dict[Shape, list[Change]] = defaultdict(list)
    for change in changes:
        by_shape[Shape(model=model, guards=tuple(change.guards), fields=tuple(change.fields))].append(change)
    apply = _mongodb().compare_and_set if connection.vendor == "mongodb" else bulk_sql.compare_and_set
    won: set[str] = set()
    for shape, group in by_shape.items():
        won |= apply(connection, shape, group)
    return won


def _mongodb() -> Any:
    # Not at the top: the driver takes as long to load as Django, and is used only where tasks live on MongoDB.
    from apps.core import bulk_mongodb

    return bulk_mongodb


def has_transactions(model: type[models.Model]) -> bool:
    """Whether a change and its rows are written together. Where not, see `complete`."""
    return connections[router.db_for_write(model)].vendor != "mongodb"


def complete(model: type[models.Model], pks: Sequence[str]) -> set[str]:
    """Insert the rows that went with the last change of these, should its writer have died before it could; answers
    which of them have been changed at all. Only for stores without transactions."""
    return _mongodb().complete(connections[router.db_for_write(model)], model, pks)


def load(model: type[Row], pks: Sequence[str], fields: Sequence[str]) -> dict[str, Row]:
    """Rows by primary key, with these fields only; another field is fetched when it is asked for, row by row."""
    alias = router.db_for_read(model)
    names = [model._meta.pk.attname, *fields]
    rows: dict[str, Row] = {}
    for values in pick(model, pks, names):
        row = _bare(model, dict(zip(names, values, strict=True)))
        row._state.adding, row._state.db = False, alias
        rows[values[0]] = row
    return rows


def pick(model: type[models.Model], pks: Sequence[str], fields: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    """The values of these fields for these primary keys, in no order."""
    connection = connections[router.db_for_read(model)]
    if connection.vendor == "sqlite":
        return bulk_sql.select(connection, model, fields, pks)
    return model._default_manager.filter(pk__in=pks).values_list(*fields)


def scan(
    model: type[models.Model], fields: Sequence[str], *, order: str, first: int | None = None, **equal: Any
) -> Iterator[tuple[Any, ...]]:
    """The values of these fields of the rows whose named fields equal what is given, in order (`-name`: from the last); of so
    many, if `first` says."""
    connection = connections[router.db_for_read(model)]
    if connection.vendor == "sqlite":
        yield from bulk_sql.scan(connection, model, fields, order, first, equal)
        return
    rows = model._default_manager.filter(**equal).order_by(order).values_list(*fields)
    yield from rows.iterator(chunk_size=2000) if first is None else rows[:first]


def _insert(model: type[models.Model], rows: Sequence[models.Model], *, missing: bool = False) -> None:
    alias = router.db_for_write(model)
    connection = connections[alias]
    if connection.vendor == "mongodb" or model._meta.auto_field is not None:
        model._default_manager.bulk_create(rows, ignore_conflicts=missing)
        return
    bulk_sql.insert(connection, model, rows, missing=missing)
    for row in rows:
        row._state.adding, row._state.db = False, alias
