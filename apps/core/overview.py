"""What the first page of the admin shows: figures of each room, each leading to the list it counts.

A room says its own, beside its admin pages:

    @overview.panel("Tasks", "tasks.view_task")
    def figures(now):
        yield overview.Figure("in the queue", 12, "tasks_task", {"status__exact": "queued"})

They are looked up when the page is asked for; each is one or two reads of an index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

MANY = 10_000
"""Counting ends there: a first page need not know how many more."""


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: int | str
    page: str
    """The list it leads to, as `tasks_task`."""
    filters: dict[str, str] = field(default_factory=dict)
    tone: str = ""
    """`bad` or `waits`: somebody should look, unless the value is 0."""

    @property
    def url(self) -> str:
        return f"{reverse(f'admin:{self.page}_changelist')}?{urlencode(self.filters)}".rstrip("?")

    @property
    def said(self) -> str:
        if isinstance(self.value, str):
            return self.value
        return f"{self.value:,}" if self.value < MANY else f"{MANY:,} or more"

    @property
    def calls(self) -> str:
        return self.tone if self.value else ""


Source = Callable[[datetime], Iterable[Figure]]
_panels: dict[str, tuple[str, Source]] = {}


def panel(title: str, permission: str) -> Callable[[Source], Source]:
    """`permission`: who may see it, as `tasks.view_task`."""

    def register(source: Source) -> Source:
        _panels[title] = (permission, source)
        return source

    return register


def count(rows: Any) -> int:
    """Of a QuerySet; MANY when there are as many or more."""
    return rows.order_by()[:MANY].count()


def by(rows: Any, name: str) -> dict[str, int]:
    """Of a QuerySet, how many have what in that column."""
    return dict(rows.order_by().values_list(name).annotate(number=Count("pk")))


def shown(request: HttpRequest, *, now: datetime) -> list[tuple[str, list[Figure]]]:
    """Title and figures of each room the user may see, in whatever order they were registered."""
    return [(title, list(source(now))) for title, (permission, source) in _panels.items() if request.user.has_perm(permission)]
