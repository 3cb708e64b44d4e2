"""An agent's card: what it says it can do, and where its limits are. Announced by the agent, checked here, shown everywhere.

A card is a claim. It can keep tasks away from its agent; it cannot bring any near: where the org has listed an agent's
capabilities itself (the subject's), only those count that are on both lists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.core.errors import Invalid, Problem
from apps.roles.rules import id_problem

WORDS_MAX, WORD_LENGTH = 100, 64
DESCRIPTION_LENGTH, VERSION_LENGTH, UNIT_LENGTH = 2000, 64, 16
SLOTS_MAX = 10_000
PAYLOAD_MAX = 1024 * 1024
"""Larger entries are not accepted from anybody."""
COST_MAX = 1e12
COSTS = ("per_task", "per_second")


@dataclass(frozen=True, kw_only=True)
class Card:
    capabilities: tuple[str, ...] = ()
    job_kinds: tuple[str, ...] = ()
    """Kinds of job it takes (`job_kind` of a task's steering data); empty: any."""
    slots: int = 0
    """Tasks at once; 0: not said. What counts is what its heartbeats say."""
    max_payload_bytes: int = 0
    """Of a task's entry as JSON; 0: no limit."""
    costs: dict[str, Any] = field(default_factory=dict)
    """Hints: `per_task`, `per_second`, and the `unit` they are in."""
    version: str = ""
    description: str = ""

    def json(self) -> dict[str, Any]:
        return {
            "capabilities": list(self.capabilities), "job_kinds": list(self.job_kinds), "slots": self.slots,
            "max_payload_bytes": self.max_payload_bytes, "costs": self.costs, "version": self.version, "description": self.description,
        }  # fmt: skip


FIELDS = tuple(Card.__dataclass_fields__)


def read_card(value: Any, *, path: str = "card", strict: bool = True) -> Card:
    """The card in decoded JSON. Invalid with every problem. Not `strict`: fields of newer agents are left alone."""
    problems: list[Problem] = []
    if not isinstance(value, dict):
        raise Invalid([Problem(field=path, code="wrong_type", message="must be an object")])
    if strict:
        problems += [
            Problem(field=f"{path}.{name[:64]}", code="unknown", message="is not known here") for name in value.keys() - set(FIELDS)
        ]
    card = Card(
        capabilities=words(value.get("capabilities", []), f"{path}.capabilities", problems),
        job_kinds=words(value.get("job_kinds", []), f"{path}.job_kinds", problems),
        slots=_whole(value.get("slots", 0), f"{path}.slots", SLOTS_MAX, problems),
        max_payload_bytes=_whole(value.get("max_payload_bytes", 0), f"{path}.max_payload_bytes", PAYLOAD_MAX, problems),
        costs=_costs(value.get("costs", {}), f"{path}.costs", problems, strict=strict),
        version=_text(value.get("version", ""), f"{path}.version", VERSION_LENGTH, problems),
        description=_text(value.get("description", ""), f"{path}.description", DESCRIPTION_LENGTH, problems, lines=True),
    )
    if problems:
        raise Invalid(problems, "The card is not valid.")
    return card


def stored_card(value: Any) -> Card | None:
    """What a row holds; None when it holds none, or one that this release cannot read."""
    try:
        return None if value is None else read_card(value, strict=False)
    except Invalid:
        return None


def capabilities(granted: Sequence[str], card: Card | None) -> tuple[str, ...]:
    """What counts: the org's list, the agent's own, or what is on both when there are both."""
    if card is None or not card.capabilities:
        return tuple(granted)
    return tuple(word for word in card.capabilities if word in granted) if granted else card.capabilities


def words(value: Any, path: str, problems: list[Problem]) -> tuple[str, ...]:
    """A list of plain words, each once."""
    if not isinstance(value, list) or len(value) > WORDS_MAX:
        problems.append(Problem(field=path, code="wrong_type", message=f"must be a list of at most {WORDS_MAX}"))
        return ()
    for index, word in enumerate(value):
        if wrong := id_problem(word, most=WORD_LENGTH):
            problems.append(Problem(field=f"{path}.{index}", code="wrong", message=wrong))
            return ()
    return tuple(dict.fromkeys(value))


def _whole(value: Any, path: str, most: int, problems: list[Problem]) -> int:
    if type(value) is not int or not 0 <= value <= most:
        problems.append(Problem(field=path, code="out_of_range", message=f"must be a whole number from 0 to {most}"))
        return 0
    return value


def _text(value: Any, path: str, most: int, problems: list[Problem], *, lines: bool = False) -> str:
    printable = isinstance(value, str) and (value.replace("\n", " ") if lines else value).isprintable()
    if not printable or len(value) > most:
        problems.append(Problem(field=path, code="wrong", message=f"must be a string of at most {most} printable characters"))
        return ""
    return value


def _costs(value: Any, path: str, problems: list[Problem], *, strict: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        problems.append(Problem(field=path, code="wrong_type", message="must be an object"))
        return {}
    if strict:
        unknown = value.keys() - {*COSTS, "unit"}
        problems += [Problem(field=f"{path}.{name[:64]}", code="unknown", message="is not known here") for name in unknown]
    found: dict[str, Any] = {}
    for name in COSTS:
        if name not in value:
            continue
        cost = value[name]
        if type(cost) not in (int, float) or not math.isfinite(cost) or not 0 <= cost <= COST_MAX:
            problems.append(Problem(field=f"{path}.{name}", code="out_of_range", message=f"must be a number from 0 to {COST_MAX:g}"))
        else:
            found[name] = cost
    if "unit" in value:
        found["unit"] = _text(value["unit"], f"{path}.unit", UNIT_LENGTH, problems)
    return found
