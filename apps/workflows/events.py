"""News about sessions: past facts, frozen. Published after the truth is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionEnded:
    """All of it has ended and its result may be read (`Sessions.results`)."""

    key: str
    org_id: str
    session_id: str
    status: str
    partial: bool
    reason: str
    run: int
    at: datetime
