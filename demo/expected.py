"""What must become of each file, worked out from the file itself. The platform's answer is held against it.

Nothing here reads the policies or the agents' answers: that is the point.
"""

from __future__ import annotations

import ast
import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from demo.files import OTHER, PROSE, PYTHON, Found

MAX_BYTES = 64 * 1024
BINARY = frozenset(
    {"7z", "bin", "bz2", "class", "db", "dll", "dylib", "exe", "gif", "gz", "ico", "jar", "jpeg", "jpg", "mo", "mp3", "mp4", "o", "pdf"}
    | {"png", "pyc", "so", "sqlite3", "tar", "ttf", "wasm", "webp", "whl", "woff", "woff2", "xz", "zip"}
)
BY_A_TOOL = re.compile(r"package-lock\.json|(yarn|poetry|uv|Cargo)\.lock|go\.sum|.*(\.min\.(js|css)|\.map|\.generated\.py|_pb2\.py)")
PRIVATE = re.compile(r".*\.(pem|key|p12|pfx)")
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
    if not is_welcome(found):
        return Expected(status="rejected", priority=0, agent="", sha256="")
    try:
        data = found.path.read_bytes()
    except OSError:
        data = None
    status = "completed" if data is not None and _is_readable_as(found.space, data) else "failed"
    digest = hashlib.sha256(data).hexdigest() if data is not None and status == "completed" else ""
    return Expected(status=status, priority=priority_of(found), agent=AGENT_OF[found.space], sha256=digest)


def is_welcome(found: Found) -> bool:
    """What the org's approval policy should say."""
    name = found.name.rpartition("/")[2]
    no_text = found.binary or found.extension in BINARY
    refused = no_text or found.size > MAX_BYTES or BY_A_TOOL.fullmatch(name) or PRIVATE.fullmatch(name)
    return not refused


def priority_of(found: Found) -> int:
    """What the org's priority policy should say: what may hold secrets, configuration, code, the rest, prose; small before large."""
    name = found.name.rpartition("/")[2].lower()
    ranks = (
        (300, any(word in name for word in ("credential", "password", "secret", "settings", "token", ".env"))),
        (200, found.extension in {"cfg", "conf", "env", "ini", "properties", "tf", "tfvars", "toml", "yaml", "yml"}),
        (100, found.extension in {"c", "cpp", "go", "h", "java", "js", "lua", "py", "rb", "rs", "sh", "sql", "star", "ts"}),
        (-100, found.extension in {"adoc", "md", "rst", "txt"}),
    )
    return next((rank for rank, fits in ranks if fits), 0) + max(0, 64 - found.size // 1024)


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


def _is_readable_as(space: str, data: bytes) -> bool:
    if space == OTHER:
        return True
    try:
        if space == PROSE:
            data.decode("utf-8-sig")
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what a file's own escapes deserve is not our subject
                compile(data, "<file>", "exec", ast.PyCF_ONLY_AST)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
