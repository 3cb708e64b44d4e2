"""The values of bulk writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import models


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One row of a compare-and-set: while `guards` hold, write `fields` (names and Python values of the model)."""

    pk: str
    guards: dict[str, Any]
    fields: dict[str, Any]
    rows: tuple[models.Model, ...] = field(default=(), compare=False)
    """What the caller inserts when the change wins. A store without transactions keeps a copy in the row until then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Changes that guard and write the same fields go in one statement."""

    model: type[models.Model]
    guards: tuple[str, ...]
    fields: tuple[str, ...]
