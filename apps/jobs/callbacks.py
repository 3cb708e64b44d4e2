"""Whom a job tells of its end: a `webhook_url`. Signing, sending and trying again are another room's, which is plugged in where
the rooms are wired together; this one says at submit that a URL will be told."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from apps.core.errors import Invalid, Problem


class Opener(Protocol):
    def __call__(self, url: str, *, org_id: str, by: str, now: datetime) -> None: ...


_opener: Opener | None = None


def use(opener: Opener) -> None:
    global _opener
    _opener = opener


def open(url: str, *, org_id: str, by: str, now: datetime) -> None:
    """To be called in the transaction that inserts the job. Raises Invalid (field `webhook_url`) when nobody may be told there,
    TooManyJobUrls when the org names too many servers."""
    if _opener is None:
        raise Invalid([Problem(field="webhook_url", code="unsupported", message="nobody here sends webhooks")])
    _opener(url, org_id=org_id, by=by, now=now)
