"""Bulk writes on MongoDB: one `bulk_write`, and when some lost, one read of the marks that the winners left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import models
from pymongo import UpdateOne

from apps.core import ids
from apps.core.bulk_values import Change, Shape

MARKS, MARKS_KEPT = "_writes", 8
"""The last bulk writes that changed a document. No field of a model: only this module knows of it."""


def compare_and_set(connection: Any, shape: Shape, changes: Sequence[Change]) -> set[str]:
    guards, fields = _preparers(connection, shape.model, shape.guards), _preparers(connection, shape.model, shape.fields)
    # A field of the change would not do as its mark: whoever moves the row on right behind us writes over it.
    mark = ids.time_ordered()
    operations = [
        UpdateOne(
            {"_id": change.pk, **{column: prepare(change.guards[name]) for name, (column, prepare) in guards.items()}},
            {
                "$set": {column: prepare(change.fields[name]) for name, (column, prepare) in fields.items()},
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
