"""What a look at the world outside found: a fact, how bad it is, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True)
class Finding:
    check: str = ""
    level: Level = Level.OK
    fact: str
    mend: str = ""


def ok(fact: str) -> Finding:
    return Finding(fact=fact)


def warn(fact: str, mend: str) -> Finding:
    return Finding(level=Level.WARN, fact=fact, mend=mend)


def fail(fact: str, mend: str) -> Finding:
    return Finding(level=Level.FAIL, fact=fact, mend=mend)
