"""Priorities where a queue has none: each is three, and workers take from the first that has something."""

from __future__ import annotations

from collections.abc import Iterable

from apps.jobs.backends.base import BANDS, band

SUFFIXES = {name: "" if name == "normal" else f".{name}" for name in BANDS}
"""The middle one has the queue's own name, which is where those look who know nothing of lanes."""


def lane(queue: str, priority: int) -> str:
    return f"{queue}{SUFFIXES[band(priority)]}"


def lanes(queues: Iterable[str]) -> list[str]:
    """Every lane of these queues, the high ones of all first."""
    names = list(queues)
    return [f"{name}{suffix}" for suffix in SUFFIXES.values() for name in names]
