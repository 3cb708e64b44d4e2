"""A circuit breaker shared by all processes: after some failures in a row nobody calls for a while, then one tries.

| Redis key | value | owner |
|---|---|---|
| `breaker:<name>` | hash: failures, opened, probe (milliseconds) | expires |
"""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

from apps.core import clock, redis

log = logging.getLogger(__name__)

FAILURES = 5
OPEN_SECONDS = 10.0
KEPT_SECONDS = 3600.0
_SCRIPT = Path(__file__).with_name("breaker.lua")


class CircuitBreaker:
    """`name` carries the org and what is called: `policy:acme:<hash of the URL>`.

    While Redis is away everything is allowed: the time limit of the call still holds.
    """

    def __init__(self, name: str, *, failures: int = FAILURES, open_seconds: float = OPEN_SECONDS) -> None:
        self.name = name
        self._limits = [failures, int(open_seconds * 1000), int(KEPT_SECONDS * 1000)]

    def allows(self, now: datetime) -> bool:
        """May it be called? Half-open, only the first to ask may, and must report."""
        return self._run("allows", now) != 0

    def succeeded(self) -> None:
        self._run("succeeded", None)

    def failed(self, now: datetime) -> None:
        self._run("failed", now)

    def _run(self, verb: str, now: datetime | None) -> int:
        at = clock.to_ms(now) if now else 0
        try:
            return int(redis.script(_SCRIPT)(keys=[redis.key("breaker", self.name)], args=[verb, at, *self._limits]))
        except redis.RedisDown as error:
            redis.log_away(error)
            return 1
