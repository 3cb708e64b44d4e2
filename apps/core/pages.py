"""Pages of long lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Row = TypeVar("Row")


def page_of(rows: Any, limit: int, cursor: Callable[[Row], str]) -> tuple[list[Row], str | None]:
    """The first `limit` of these, in their order, and the cursor of the page after them: that of the last one shown, None when
    there is no more. `rows`: a QuerySet (or list) that goes on from the cursor given; one more than is shown is read."""
    found = list(rows[: limit + 1])
    return found[:limit], cursor(found[limit - 1]) if len(found) > limit else None
