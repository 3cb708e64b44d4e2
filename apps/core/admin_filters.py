"""Filters of the admin's lists whose choices come from code, never from a scan of all rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest


class WordFilter(admin.SimpleListFilter):
    """`words` as choices, or whatever `lookups` gives; `field` when it is not named as the parameter."""

    words: Iterable[str] = ()
    field = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        # Names with dots in them are what programs say; they stay as they are.
        return [(str(word), str(word) if "." in str(word) else str(word).replace("_", " ")) for word in self.words]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.field or self.parameter_name: self.value()}) if self.value() else queryset


def words(title: str, choices: Iterable[str], *, field: str) -> type[WordFilter]:
    """A filter of a column that holds one of these."""
    return type(f"{field.title()}Filter", (WordFilter,), {"title": title, "parameter_name": field, "words": tuple(choices)})
