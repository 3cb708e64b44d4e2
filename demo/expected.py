"""What must become of each file, worked out from the file itself. The platform's answer is held against it.

Nothing here reads the policies or the agents' answers: that is the point.
"""

from __future__ import annotations

import fnmatch
import hashlib
import tokenize
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from demo.files import OTHER, PROSE, PYTHON, Found

MAX_BYTES = 100_000
KEY_FILES = ("*.pem", "*.key", "*.p12", "id_rsa*", ".env", ".env.*")
AGENT_OF = {PYTHON: "python-metrics", PROSE: "prose-reader", OTHER: "secret-scanner"}


@dataclass(frozen=True, kw_only=True)
class Expected:
    status: str
    priority: int
    agent: str
    """Empty: nobody may have touched it."""
    sha256: str
    """Of the bytes the agent must have read; empty when none may."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the platform says about one task."""

    status: str
    priority: int
    agent: str
    sha256: str


def expected(found: Found) -> Expected:
    if not found.readable or found.binary or found.size > MAX_BYTES or is_key_file(found.name):
        return Expected(status="rejected", priority=0, agent="", sha256="")
    try:
        data = found.path.read_bytes()
    except OSError:
        return Expected(status="failed", priority=priority_of(found), agent=AGENT_OF[found.space], sha256="")
    status = "completed" if _can_be_analysed(found.space, data) else "failed"
    digest = hashlib.sha256(data).hexdigest() if status == "completed" else ""
    return Expected(status=status, priority=priority_of(found), agent=AGENT_OF[found.space], sha256=digest)


def is_key_file(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name.rpartition("/")[2].lower(), pattern) for pattern in KEY_FILES)


def priority_of(found: Found) -> int:
    """The rule of the org, in Python: what people read first comes first, big files wait."""
    name = found.name.rpartition("/")[2].lower()
    score = 100 if name.startswith("readme") else {PROSE: 50, PYTHON: 20}.get(found.space, 0)
    return score - found.size // 4000


def differences(want: Expected, got: Seen | None) -> list[str]:
    """One sentence for each thing that is not as it should be."""
    if got is None:
        return ["the platform does not know it"]
    told = []
    if got.status != want.status:
        told.append(f"is {got.status}, should be {want.status}")
    if want.agent != got.agent and want.status == got.status:
        told.append(f"went to {got.agent or 'nobody'}, should go to {want.agent or 'nobody'}")
    if want.status != "rejected" and got.priority != want.priority:
        told.append(f"has priority {got.priority}, should have {want.priority}")
    if want.status == got.status == "completed" and want.sha256 != got.sha256:
        told.append("the agent read other bytes than the file holds")
    return told


def reordering(order_submitted: Sequence[str], order_started: Sequence[str], *, count: int) -> list[tuple[str, int, int]]:
    """(name, place submitted, place started), places from 1: the tasks that moved furthest forward and furthest back."""
    submitted = {name: place for place, name in enumerate(order_submitted, start=1)}
    moved = [(name, submitted[name], place) for place, name in enumerate(order_started, start=1) if name in submitted]
    moved.sort(key=lambda entry: (entry[2] - entry[1], entry[0]))
    if len(moved) <= count:
        return moved
    half = count // 2
    return moved[: count - half] + moved[len(moved) - half :]


def _can_be_analysed(space: str, data: bytes) -> bool:
    if space == PYTHON:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what a file's own escapes deserve is not our subject
                compile(data, "<file>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
            return False
        return True
    if space == PROSE:
        try:
            data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return False
    return True
