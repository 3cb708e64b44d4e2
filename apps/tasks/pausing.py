"""Pausing a queue: an org's whole, or one of its job spaces. Tasks still come in and wait; what agents have goes on.

It is a matter of the org's configuration (`queue_paused`, `paused_job_spaces`), so it is versioned, audited and outlives
Redis; these verbs are what an operator may do of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from apps.core.errors import Conflict
from apps.orgs import audit
from apps.orgs.config_store import NotSet, OrgConfigProvider, StaleVersion
from apps.orgs.models import Change
from apps.tasks.executor import wake

TRIES = 5
SPACES_MAX = 100


class TooManyPaused(Conflict):
    code, sentence = "too_many_paused", f"At most {SPACES_MAX} job spaces can be paused one by one; pause the whole queue instead."


def pause(org_id: str, *, reason: str, by: str, now: datetime, lane: str = "") -> None:
    """Give nothing to agents (of job space `lane`, else of any) until resumed. Pausing again changes the reason. Raises
    Unavailable while Redis is away: nobody could be told."""
    if lane:
        _change_spaces(org_id, lambda spaces: [*spaces, lane] if lane not in spaces else None, by, now)
    else:
        OrgConfigProvider().set(org_id, "queue_paused", reason or "paused by an operator", by=by, now=now)
    _audit(org_id, lane, "paused", reason, by, now)


def resume(org_id: str, *, reason: str, by: str, now: datetime, lane: str = "") -> None:
    """Resuming what is not paused is fine."""
    if lane:
        _change_spaces(org_id, lambda spaces: [space for space in spaces if space != lane] if lane in spaces else None, by, now)
    else:
        try:
            OrgConfigProvider().unset(org_id, "queue_paused", by=by, now=now)
        except NotSet:
            return
    _audit(org_id, lane, "resumed", reason, by, now)
    wake(now=now)


def _change_spaces(org_id: str, change: Callable[[list[str]], list[str] | None], by: str, now: datetime) -> None:
    provider = OrgConfigProvider()
    for attempt in range(TRIES):
        spaces, version = [], 0
        try:
            row = provider.parameter(org_id, "paused_job_spaces")
            spaces, version = list(row.value), row.version
        except NotSet:
            pass
        wanted = change(spaces)
        if wanted is None:
            return
        if len(wanted) > SPACES_MAX:
            raise TooManyPaused()
        try:
            provider.set(org_id, "paused_job_spaces", wanted, by=by, now=now, if_version=version)
        except StaleVersion:
            if attempt == TRIES - 1:
                raise
        else:
            return


def _audit(org_id: str, lane: str, what: str, reason: str, by: str, now: datetime) -> None:
    """Beside the line of the configuration's change: that it was a pause, and why."""
    facts: dict[str, Any] = {"queue": what, "reason": reason, **({"job_space_id": lane} if lane else {})}
    audit.record(org_id=org_id, kind=Change.Kind.QUEUE, key=lane or "queue", old=None, new=facts, by=by, at=now)
