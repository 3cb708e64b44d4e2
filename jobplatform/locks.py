"""The locks: every package that is installed, with its version and the hashes of the files it may come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jobplatform.env import BASE_DIR

RUNTIME = BASE_DIR / "requirements.lock"
DEVELOPMENT = BASE_DIR / "requirements-dev.lock"
TOOLS = BASE_DIR / "requirements-tools.lock"


@dataclass(frozen=True, kw_only=True)
class Locked:
    """One package. `here`: whether this system and Python want it."""

    name: str
    version: str
    here: bool
    hashes: tuple[str, ...]


def read(path: Path) -> dict[str, Locked]:
    """By canonical name. Raises ValueError for a line that is not an exact version with hashes, such as an address."""
    found = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        wanted, *hashes = re.split(r"\s+--hash=", line.split("#")[0].strip())
        if not wanted:
            continue
        requirement = Requirement(wanted)
        exact = re.fullmatch(r"==([^*,]+)", str(requirement.specifier))
        if requirement.url or not exact or not hashes:
            raise ValueError(f"{path.name}: not an exact version with hashes: {wanted}")
        name = canonicalize_name(requirement.name)
        here = requirement.marker is None or requirement.marker.evaluate()
        found[name] = Locked(name=name, version=exact[1], here=here, hashes=tuple(hashes))
    return found
