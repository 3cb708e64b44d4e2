"""When a delivery is tried: the schedule that Standard Webhooks recommends, a little shaken.

Due times are in the database; no message waits in a broker.
"""

from __future__ import annotations

import email.utils
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

SCHEDULE = tuple(timedelta(seconds=seconds) for seconds in (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400))
"""From one try to the next; ten in all, the last about three days after the first."""
JITTER = 0.2
"""A pause is lengthened by up to this part of it, so that many do not come back together."""
LIFE = timedelta(days=4)
"""A delivery that could not even be tried as often by then (its endpoint was disabled, or never up) has failed."""
RETRY_AFTER_MAX = timedelta(days=1)


def next_try(step: int, *, now: datetime, asked: timedelta | None = None, shake: float | None = None) -> datetime | None:
    """When to try for the `step`-th time (0 is the first); None when there is no such try. `asked`: by the receiver."""
    if step >= len(SCHEDULE):
        return None
    pause = SCHEDULE[step] * (1 + JITTER * (random.random() if shake is None else shake))
    return now + max(pause, min(asked or timedelta(), RETRY_AFTER_MAX))


def retry_after(headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """What an answer's Retry-After asks for: seconds, or a date. What is neither does not count."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return timedelta(seconds=int(text))
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return max(at.replace(tzinfo=at.tzinfo or UTC) - now, timedelta())
