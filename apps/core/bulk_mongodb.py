"""Bulk writes on MongoDB: one `bulk_write`, and when some lost, one read of the marks that the winners left.

There is no transaction around a change and the rows that go with it. So the change carries a copy of them into its own
document (`_outbox`); should the writer die before it has inserted them, whoever comes next does it (`complete`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import models
from django_mongodb_backend.query import wrap_database_errors
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from apps.core import ids
from apps.core.bulk_values import Change, Shape

MARKS, MARKS_KEPT = "_writes", 8
"""The last bulk writes that changed a document. No field of a model: only this module knows of it."""
DUPLICATE_KEY = 11000
OUTBOX = "_outbox"
"""The rows of the last one, as [collection, document] each. No field of a model either."""


@wrap_database_errors
def compare_and_set(connection: Any, shape: Shape, changes: Sequence[Change]) -> set[str]:
    guards, fields = _preparers(connection, shape.model, shape.guards), _preparers(connection, shape.model, shape.fields)
    # A field of the change would not do as its mark: whoever moves the row on right behind us writes over it.
    mark = ids.time_ordered()
    operations = [
        UpdateOne(
            {"_id": change.pk, **{column: prepare(change.guards[name]) for name, (column, prepare) in guards.items()}},
            {
                "$set": {
                    **{column: prepare(change.fields[name]) for name, (column, prepare) in fields.items()},
                    OUTBOX: [[row._meta.db_table, _document(connection, row)] for row in change.rows],
                },
                "$push": {MARKS: {"$each": [mark], "$slice": -MARKS_KEPT}},
            },
        )
        for change in changes
    ]
    collection = connection.get_collection(shape.model._meta.db_table)
    if collection.bulk_write(operations, ordered=False).matched_count == len(changes):
        return {change.pk for change in changes}
    return {found["_id"] for found in collection.find({"_id": {"$in": [change.pk for change in changes]}, MARKS: mark}, {"_id": 1})}


def _preparers(connection: Any, model: type[models.Model], names: Sequence[str]) -> dict[str, tuple[str, Callable[[Any], Any]]]:
    """Field name -> its key in the document, and how its values are prepared."""
    fields = {name: model._meta.get_field(name) for name in names}
    return {name: (field.column, lambda value, field=field: field.get_db_prep_save(value, connection)) for name, field in fields.items()}


def _document(connection: Any, row: models.Model) -> dict[str, Any]:
    return {field.column: field.get_db_prep_save(getattr(row, field.attname), connection) for field in row._meta.concrete_fields}


@wrap_database_errors
def complete(connection: Any, model: type[models.Model], pks: Sequence[str]) -> set[str]:
    """Insert what the last change of these rows left in its outbox; the keys of those that had one. Twice is harmless."""
    found = list(connection.get_collection(model._meta.db_table).find({"_id": {"$in": list(pks)}, OUTBOX: {"$exists": True}}, {OUTBOX: 1}))
    by_table: dict[str, list[dict[str, Any]]] = {}
    for document in found:
        for table, row in document[OUTBOX]:
            by_table.setdefault(table, []).append(row)
    for table, rows in by_table.items():
        try:
            connection.get_collection(table).insert_many(rows, ordered=False)
        except BulkWriteError as error:
            if any(problem["code"] != DUPLICATE_KEY for problem in error.details["writeErrors"]):
                raise
    return {document["_id"] for document in found}
