"""Time is an argument. Loops and entry points read the clock here; everything else receives `now`.

Instants are aware, UTC, and cut to milliseconds, which is what MongoDB keeps.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_lock = threading.Lock()
_last_sequence = 0


def now() -> datetime:
    return from_ms(to_ms(datetime.now(UTC)))


def to_ms(at: datetime) -> int:
    """Milliseconds since the epoch."""
    return int(at.timestamp() * 1000 + 0.5) if at.microsecond % 1000 else int(at.timestamp()) * 1000 + at.microsecond // 1000


def from_ms(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC) + timedelta(milliseconds=ms % 1000)


def sequence() -> int:
    """Microseconds since the epoch, strictly rising within this process: the order of arrival."""
    global _last_sequence
    with _lock:
        _last_sequence = max(_last_sequence + 1, time.time_ns() // 1000)
        return _last_sequence


@lru_cache(maxsize=1024)  # a batch shares its instants
def iso(at: datetime | None) -> str | None:
    """`2026-11-22T16:00:00.123Z`, or None."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read(text: object) -> datetime | None:
    """An instant from outside: ISO 8601 with a zone, between the years 2000 and 2200. None for anything else."""
    if not isinstance(text, str) or len(text) > 40:
        return None
    try:
        at = datetime.fromisoformat(text)
        at = at.astimezone(UTC) if at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
    if at is None or not 2000 <= at.year < 2200:
        return None
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
