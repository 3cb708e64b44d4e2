"""Which version of a script is active: an in-process cache over the table of scripts.

An org's own script goes before the built-in one of the same id. Nobody ever gets another org's. A change of the
active version is noticed within `FRESH_SECONDS` by every process, and at once by the one that made it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from apps.dsl.models import PolicyScript
from apps.dsl.policies import Hook

FRESH_SECONDS = 1.0
ENTRIES = 10_000
SOURCE_CHARACTERS = 32 * 1024 * 1024
BUILT_IN = ""


@dataclass(frozen=True, kw_only=True)
class Script:
    id: str
    script_id: str
    version: int
    hook: Hook
    source: str
    sha256: str


class ScriptBook:
    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self.forget()

    def find_many(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Script | None]:
        """Each (org_id, script_id) with the script that answers for it now, or None. At most two queries."""
        now = self._monotonic()
        found: dict[tuple[str, str], Script | None] = {}
        stale: list[tuple[str, str]] = []
        for pair in set(wanted):
            entry = self._active.get(pair)
            if entry is not None and entry[0] > now - FRESH_SECONDS:
                found[pair] = entry[1]
            else:
                stale.append(pair)
        if stale:
            found.update(self._look_up(stale, now))
        return found

    def dormant(self, wanted: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Of these (org_id, script_id), those that the org may know and that have no active version. One query."""
        pairs = set(wanted)
        names = {script_id for _, script_id in pairs}
        rows = PolicyScript.objects.filter(org_id__in={org_id for org_id, _ in pairs} | {BUILT_IN}, script_id__in=names)
        known = set(rows.values_list("org_id", "script_id"))
        return {pair for pair in pairs if pair in known or (BUILT_IN, pair[1]) in known}

    def forget(self) -> None:
        self._active: dict[tuple[str, str], tuple[float, Script | None]] = {}
        self._scripts: dict[str, Script] = {}

    def _look_up(self, pairs: list[tuple[str, str]], now: float) -> dict[tuple[str, str], Script | None]:
        orgs, names = {org_id for org_id, _ in pairs} | {BUILT_IN}, {script_id for _, script_id in pairs}
        active = PolicyScript.objects.filter(org_id__in=orgs, script_id__in=names, status=PolicyScript.Status.ACTIVE)
        rows = {(org_id, script_id): known for org_id, script_id, *known in active.values_list("org_id", "script_id", "id", "sha256")}
        chosen = {pair: rows.get(pair) or rows.get((BUILT_IN, pair[1])) for pair in pairs}
        scripts = self._load({tuple(known) for known in chosen.values() if known})
        fresh = {pair: scripts.get(known and known[0]) for pair, known in chosen.items()}
        with self._lock:
            if len(self._active) + len(fresh) > ENTRIES:
                self._active = {}
            self._active.update({pair: (now, script) for pair, script in fresh.items()})
        return fresh

    def _load(self, wanted: set[tuple[str, str]]) -> dict[str | None, Script]:
        """Texts by primary key, of (key, hash). A version never changes, so one that was read once need not be read again; an org
        that was purged and made anew counts its versions from one, hence the hash."""
        kept = self._scripts
        scripts = {pk: kept[pk] for pk, sha256 in wanted if pk in kept and kept[pk].sha256 == sha256}
        unread = {pk for pk, _ in wanted} - scripts.keys()
        missing = {row.id: script_of(row) for row in PolicyScript.objects.filter(id__in=unread)} if unread else {}
        with self._lock:
            if sum(len(script.source) for script in self._scripts.values()) > SOURCE_CHARACTERS:
                self._scripts = {}
            self._scripts.update(missing)
        return {**scripts, **missing}


def script_of(row: PolicyScript) -> Script:
    return Script(id=row.id, script_id=row.script_id, version=row.version, hook=Hook(row.hook), source=row.source, sha256=row.sha256)


@lru_cache(maxsize=1)
def book() -> ScriptBook:
    """This process's book."""
    return ScriptBook()
