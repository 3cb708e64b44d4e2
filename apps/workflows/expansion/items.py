"""What an expansion makes, and the ways it can fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from apps.core.errors import Invalid, Problem

DEFAULT_LIMIT = 100_000
SEPARATE_LIMIT = 10_000
"""items of `separate`: each one writes context keys of its own"""

MAX_WORK = 1_500_000
"""elements and items looked at, once per rule: a few seconds at most"""

Rows = list[dict[str, Any]]
"""The values of each item, in order."""
RunStarlark = Callable[[str, Any], Any]
"""(the script, the data) -> what its `expand(data)` answered; raises Invalid. `apps.dsl.expanding.run` is one."""


class BadExpansion(Invalid):
    """The config cannot be carried out on this data. Each problem names the path in the document."""

    code, sentence = "bad_expansion", "The task cannot be expanded."

    @classmethod
    def at(cls, where: str, code: str, message: str) -> BadExpansion:
        return cls([Problem(field=where, code=code, message=message)])


class TooManyItems(BadExpansion):
    code, sentence = "too_many_items", "The task would become too many items."

    @classmethod
    def of(cls, where: str, total: int | str, limit: int, because: str = "") -> TooManyItems:
        shown = f"{total:,}" if isinstance(total, int) else total
        return cls([Problem(field=where, code="too_many_items", message=f"{because}{shown} items are more than the {limit:,} allowed")])


class Work:
    """What one expansion may look at, over all its levels: rules on many items, or filters that drop what they see, are
    bounded too, not only the items that remain. Several expansions that are made while somebody waits may share one."""

    __slots__ = ("left",)

    def __init__(self, units: int | None = None) -> None:
        self.left = MAX_WORK if units is None else units

    @property
    def is_done(self) -> bool:
        return self.left < 0

    def spend(self, units: int, where: str) -> None:
        """Raises BadExpansion when it is too much."""
        self.left -= units
        if self.left < 0:
            message = "takes too long to make: fewer rules, or smaller arrays to choose from"
            raise BadExpansion.at(where, "too_costly", message)


class ExpandedItem(NamedTuple):
    index: int
    """from 0, in order"""
    identifier: str
    """unique in its expansion, letters digits _ . @ + - only: good in a context key and a template"""
    name_suffix: str
    """for people: the identifier as it was written"""
    values: dict[str, Any]
    """the variables this item adds; its templates see these before the context"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expansion:
    kind: str
    items: Sequence[ExpandedItem]
    total: int
