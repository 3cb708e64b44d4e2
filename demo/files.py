"""The files of a folder, and the task each one becomes."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

SNIFFED_BYTES = 8192
SKIPPED_FOLDERS = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".nox", ".idea", ".vscode", ".eggs"}
    | {".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis", ".import_linter_cache"}
)
PYTHON, PROSE, OTHER = "python-files", "prose-files", "other-files"
"""Job spaces: which agents may do a task follows from the space it is in."""
_SPACE_BY_SUFFIX = {".py": PYTHON, ".pyi": PYTHON, ".md": PROSE, ".markdown": PROSE, ".rst": PROSE, ".txt": PROSE}


@dataclass(frozen=True, kw_only=True)
class Found:
    """One regular file as it was when we looked."""

    path: Path
    name: str
    """Path below the folder, fit for a line on a screen."""
    relative: str
    """The same, percent-encoded: gives the exact bytes back, whatever they are."""
    size: int
    """Bytes."""
    binary: bool
    space: str

    @property
    def extension(self) -> str:
        """Lower case, without the dot; of a name like `.env`: env."""
        name = self.name.rpartition("/")[2]
        return name.rpartition(".")[2].lower() if "." in name else ""

    def task_id(self, number: int) -> str:
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", unicodedata.normalize("NFKD", self.name)).strip("-.")
        return f"{number:05d}-{slug[-60:].lstrip('-.') or 'file'}"


@dataclass(kw_only=True)
class Folder:
    """What a walk saw. `passed_over` says what was left out and why, for people."""

    root: Path
    files: list[Found] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


class NoFolder(Exception):
    """The folder is not there, is no folder, or cannot be listed."""


def look(root: Path, *, leave_out: Path | None = None) -> Folder:
    """Every regular file below `root`, in a stable order. Links are not followed; `leave_out` is not entered."""
    try:
        root = root.resolve(strict=True)
        os.scandir(root).close()
    except OSError as error:
        raise NoFolder(f"{printable(str(root))}: {error.strerror}") from None
    folder = Folder(root=root)
    for entry in _walk(root, folder, leave_out.resolve() if leave_out else None):
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # gone since the listing
        if stat.S_ISREG(status.st_mode):
            folder.files.append(_found(Path(entry.path), root, status.st_size))
        else:
            kind = "link" if stat.S_ISLNK(status.st_mode) else "special file"
            folder.passed_over.append(f"{_shown(Path(entry.path), root)}: a {kind}")
    return folder


def entry_of(found: Found, *, number: int, org_id: str) -> dict[str, Any]:
    """The TaskEntry of one file, wire names. The content stays where it is; agents read it themselves."""
    return {
        "task_id": found.task_id(number),
        "task_goal": f"Analyse {found.name}",
        "task_intent": "Know what is in this folder",
        "task_priority_value": 0,
        "submitter_subject_id": f"{org_id}:demo",
        "task_execution_mode": "auto",
        "task_job_submission_data": {
            "job_space_id": found.space,
            "path": found.name,
            "relative": found.relative,
            "extension": found.extension,
            "size_bytes": found.size,
            "is_binary": found.binary,
        },
    }


def resolve(root: Path, relative: str) -> Path:
    """The file behind `relative`. ValueError when it would leave the folder."""
    path = (root / os.fsdecode(unquote_to_bytes(relative))).resolve()
    if not path.is_relative_to(root):
        raise ValueError("the path leaves the folder")
    return path


def printable(text: str) -> str:
    """Nothing that could move a cursor or break a line; bytes that are no text show as their escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _walk(folder: Path, seen: Folder, leave_out: Path | None) -> Iterator[os.DirEntry[str]]:
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            seen.passed_over.append(f"{_shown(here, seen.root)}: {error.strerror}")
            continue
        below = []
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                if entry.name != ".git":  # of a linked worktree
                    yield entry
            elif not _is_skipped(Path(entry.path), leave_out):
                below.append(Path(entry.path))
        waiting.extend(reversed(below))


def _is_skipped(folder: Path, leave_out: Path | None) -> bool:
    made = folder.name in SKIPPED_FOLDERS or folder.name.endswith(".egg-info") or (folder / "pyvenv.cfg").exists()
    return made or folder == leave_out


def _found(path: Path, root: Path, size: int) -> Found:
    try:
        with path.open("rb") as file:
            head = file.read(SNIFFED_BYTES)
    except OSError:
        head = b""  # the agent will say why
    return Found(
        path=path,
        name=_shown(path, root),
        relative=quote(os.fsencode(path.relative_to(root))),
        size=size,
        binary=b"\0" in head,
        space=_space(path, head),
    )


def _space(path: Path, head: bytes) -> str:
    if head.startswith(b"#!") and b"python" in head.partition(b"\n")[0]:
        return PYTHON
    return _SPACE_BY_SUFFIX.get(path.suffix.lower(), OTHER)


def _shown(path: Path, root: Path) -> str:
    return printable(str(path.relative_to(root))) or "."
