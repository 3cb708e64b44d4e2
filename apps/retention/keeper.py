"""Removes what has been kept for long enough, org by org, a page of rows at a time.

Nothing is remembered between two passes: what is left is found again by its age. So any number of copies may run, and one that
was killed is followed by the next. A page is one statement for each table, whatever else is stored.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from django.contrib.sessions.models import Session as SignedIn

from apps.core import observe
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.orgs.models import Org
from apps.retention.kinds import KINDS, Kind

log = logging.getLogger(__name__)

NO_ORG = ""
"""Whose webhooks are those of jobs without an org. It comes first."""
SIGNED_IN = "sign_ins"
ORGS_AT_ONCE = 200


@dataclass(kw_only=True)
class Pass:
    """What one pass removed (or would): rows by kind, and of each kind by model."""

    rows: dict[str, Counter[str]] = field(default_factory=dict)
    left_at: str | None = None
    """Its time was over while it was at this org; the next one begins there. None: it is through."""

    def add(self, kind: str, gone: Counter[str]) -> None:
        self.rows.setdefault(kind, Counter()).update(gone)

    @property
    def total(self) -> int:
        return sum(sum(found.values()) for found in self.rows.values())


class Keeper:
    def run(self, *, now: datetime, seconds: float | None = None, start: str = NO_ORG, dry: bool = False, only: str = "") -> Pass:
        """Begin at org `start`, for so many seconds (None: to the end). `dry`: count and remove nothing. `only`: of this org."""
        until = None if seconds is None else time.monotonic() + seconds
        done = Pass()
        if not only and start == NO_ORG:
            self._sign_ins(done, now, dry)
        for org_id, config in _orgs(start, only):
            for kind in KINDS:
                for page in self._pages(kind, org_id, config, now):
                    done.add(kind.name, kind.count(page) if dry else self._remove(kind, page))
                    if until is not None and time.monotonic() > until:
                        done.left_at = org_id
                        return done
        return done

    def _pages(self, kind: Kind, org_id: str, config: OrgConfig, now: datetime) -> Iterator[list[str]]:
        before = kind.before(config, now)
        return iter(()) if before is None else (list(page) for page in kind.old(org_id, before))

    def _remove(self, kind: Kind, page: list[str]) -> Counter[str]:
        gone = kind.remove(page)
        observe.ROWS_REMOVED.inc(kind.name, by=sum(gone.values()))
        log.info("retention.removed", extra={"kind": kind.name, "roots": len(page), "rows": sum(gone.values())})
        return gone

    def _sign_ins(self, done: Pass, now: datetime, dry: bool) -> None:
        """Django looks at the time of a sign-in only when somebody comes with it."""
        rows = SignedIn.objects.filter(expire_date__lt=now)
        number = rows.count() if dry else rows.delete()[0]
        if number:
            done.add(SIGNED_IN, Counter({SignedIn._meta.label: number}))
            if not dry:
                observe.ROWS_REMOVED.inc(SIGNED_IN, by=number)


def _orgs(start: str, only: str) -> Iterator[tuple[str, OrgConfig]]:
    configs = OrgConfigProvider()
    if only:
        yield only, configs.of(only)
        return
    if start == NO_ORG:
        yield NO_ORG, OrgConfig()
    rows = Org.objects.filter(pk__gte=start).order_by("pk")
    while found := list(rows.values_list("pk", flat=True)[:ORGS_AT_ONCE]):
        known = configs.of_many(found)
        yield from ((org_id, known[org_id]) for org_id in found)
        rows = Org.objects.filter(pk__gt=found[-1]).order_by("pk")
