"""Rows of any model, made from its fields alone, each beside parents of its own."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

from django.db import models

from tests.factories import NOON, make_org

ORGS = ("acme", "globex")
_numbers = itertools.count(1)


def fill(model: type[models.Model], count: int) -> None:
    """Rows that differ in everything that may differ, in two orgs."""
    model._base_manager.bulk_create([_row(model, next(_numbers)) for _ in range(count)])


def _row(model: type[models.Model], number: int) -> models.Model:
    values = {field.name: _value(field, number) for field in model._meta.concrete_fields if not _is_left_out(field)}
    return model(**{name: value for name, value in values.items() if value is not ...})


def _is_left_out(field: models.Field) -> bool:
    return isinstance(field, models.AutoField) or (field.has_default() and not field.choices and not field.unique)


def _value(field: Any, number: int) -> Any:
    if isinstance(field, models.ForeignKey):
        return _parent(field, number)
    if field.name == "org_id" and not field.primary_key:
        return ORGS[number % 2]
    if field.choices:
        words = [word for word, _ in field.flatchoices]
        return words[number % len(words)]
    if isinstance(field, models.DateTimeField):
        return NOON + timedelta(minutes=number)
    if isinstance(field, models.JSONField):
        return None if field.null else {"number": number}
    if isinstance(field, (models.IntegerField, models.FloatField, models.DecimalField)):
        return number % 60
    if isinstance(field, models.BooleanField):
        return bool(number % 2)
    if isinstance(field, models.CharField):
        return f"{field.name[:8]}-{number}"[: field.max_length]
    return f"text {number}" if isinstance(field, models.TextField) else ...


def _parent(field: Any, number: int) -> Any:
    of = field.related_model
    if of._meta.label == "orgs.Org":
        return make_org(ORGS[number % 2])
    if field.null and field.name != "interval":
        return None
    row = _row(of, number)
    row.save(force_insert=True)
    return row
