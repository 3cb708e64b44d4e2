"""The result of a session reaches the buses at least once: that it is to be told is written with its end, that they have taken it
when they have, and upkeep tells what lies between. A receiver knows a repeated one by its session and run."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings

from apps.core import events
from apps.workflows.events import SessionEnded
from apps.workflows.models import Session

FIRST = timedelta(seconds=30)
"""So long the first telling has; then each next pause is as long as all before it."""
LIFE = timedelta(days=3)
FIELDS = ("key", "org_id", "session_id", "status", "partial", "reason", "run", "finished_at", "tell_at")


def is_heard(org_id: str) -> bool:
    """Are results of this org told on any bus?"""
    return bool(settings.EVENT_TRANSPORTS) and ("*" in settings.EVENT_ORGS or org_id in settings.EVENT_ORGS)


def due(org_id: str, *, now: datetime) -> datetime | None:
    """To be written with the end."""
    return now + FIRST if is_heard(org_id) else None


def tell(session: Session, *, now: datetime) -> None:
    events.publish(
        SessionEnded(
            key=session.key, org_id=session.org_id, session_id=session.session_id, status=session.status, partial=bool(session.partial),
            reason=session.reason, run=session.run, at=now,
        )
    )  # fmt: skip


def again(session: Session, *, now: datetime) -> bool:
    """Whether it was ours to tell. It is given up when nobody could be told for days."""
    age = now - (session.finished_at or now)
    following = now + max(FIRST, age) if age < LIFE and is_heard(session.org_id) else None
    if not Session.objects.filter(pk=session.key, run=session.run, tell_at=session.tell_at).update(tell_at=following):
        return False  # another copy of upkeep was first, or it has been told
    if following is not None:
        tell(session, now=now)
    return True


def told(key: str, run: int) -> None:
    """Every bus has it."""
    Session.objects.filter(pk=key, run=run).update(tell_at=None)
