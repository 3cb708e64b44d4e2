"""How many tasks an org, and each of its keys, may bring: so many a minute, and so many open at a time.

A rate is a bucket of tokens that fills steadily (GCRA: one number per bucket). A request takes one token for each *new*
task, from the org's bucket and from its key's, in one script call (`limits.lua`, with the table of keys); what there is no
token for is refused with 429 and stored nowhere. Sending a task again costs nothing: it is answered with the truth.

While Redis is away nothing is limited: the limits protect the platform from being flooded, and refusing everybody is
what they are there to prevent. It is logged.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from apps.core import clock, redis
from apps.core.auth import Principal
from apps.core.errors import PlatformError
from apps.orgs.config_keys import OrgConfig
from apps.tasks.models import Task
from apps.tasks.states import OPEN

log = logging.getLogger(__name__)

CROWDED_SECONDS = 5
"""When to come back after the cap on open tasks: nobody knows when one will end."""


class RateLimited(PlatformError):
    status, code, sentence, retry_helps = 429, "rate_limited", "Too many tasks a minute.", True
    shown = ("limit", "retry_after_seconds")


class TooManyOpen(PlatformError):
    status, code, sentence, retry_helps = 429, "too_many_open_tasks", "The organization has too many open tasks.", True
    shown = ("limit", "retry_after_seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    name: str
    """`org` or `key`: whose bucket."""
    per_minute: float
    burst: int

    @property
    def token_ms(self) -> float:
        return 60_000 / self.per_minute


@dataclass(frozen=True, kw_only=True)
class Admission:
    """How many of those that asked may come in, from the first on."""

    granted: int
    headers: dict[str, str] = field(default_factory=dict)
    """`RateLimit-Policy`, `RateLimit` (draft-ietf-httpapi-ratelimit-headers), for every answer."""
    tightest: Rate | None = None
    wait_ms: int = 0
    """Until the next token."""
    open_max: int | None = None
    """The cap, when it is what refused."""

    def refusal(self, place: int) -> PlatformError:
        """For the `place`-th of those refused, from 0: the later ones have to wait for their own token."""
        if self.open_max is not None:
            return TooManyOpen(limit=self.open_max, retry_after_seconds=CROWDED_SECONDS, headers=self.headers)
        assert self.tightest is not None
        behind = min(place, self.tightest.burst - 1) * self.tightest.token_ms
        seconds = max(1, math.ceil((self.wait_ms + behind) / 1000))
        words = f"{self.tightest.per_minute:g} a minute for this {'organization' if self.tightest.name == 'org' else 'API key'}"
        return RateLimited(limit=words, retry_after_seconds=seconds, headers=self.headers)


@lru_cache(maxsize=1)
def _script() -> Any:
    return redis.script(Path(__file__).with_name("limits.lua"))


def rates_of(config: OrgConfig, principal: Principal) -> list[Rate]:
    """The buckets a key's submissions take from; none for what the platform itself submits (schedules, retries)."""
    if not principal.key_id:
        return []
    found = []
    if config.rate_limit_per_minute:
        found.append(_rate("org", config.rate_limit_per_minute, config.rate_limit_burst))
    own = principal.rate_limit_per_minute or config.key_rate_limit_per_minute
    if own:
        found.append(_rate("key", own, principal.rate_limit_burst))
    return found


def _rate(name: str, per_minute: float, burst: int | None) -> Rate:
    """Without a burst: what comes together in a minute may come at once."""
    return Rate(name=name, per_minute=per_minute, burst=burst or max(1, math.ceil(per_minute)))


def admit(wanted: int, principal: Principal, config: OrgConfig, *, now: datetime) -> Admission:
    """How many of `wanted` new tasks may come in now. Asks Redis only where a limit is set."""
    rates = rates_of(config, principal)
    cap = config.max_open_tasks
    if not wanted or (not rates and cap is None):
        return Admission(granted=wanted)
    org_id = principal.org_id
    names = [redis.key("open", org_id)] + [redis.key("rate", org_id, *([principal.key_id] if r.name == "key" else [])) for r in rates]
    flat = [x for rate in rates for x in (rate.token_ms, rate.burst)]
    try:
        told = _script()(keys=names, args=[clock.to_ms(now), wanted, -1 if cap is None else cap, -1, *flat], client=redis.client())
        if told[0] == -1:
            told = _script()(keys=names, args=[clock.to_ms(now), wanted, cap, _open(org_id, cap or 0), *flat], client=redis.client())
    except redis.RedisDown as error:
        log.warning("rate.not_limited", extra={"org": org_id, "tasks": wanted, "error": str(error)})
        return Admission(granted=wanted)
    return _admission(wanted, told, rates, cap)


def _admission(wanted: int, told: list[int], rates: list[Rate], cap: int | None) -> Admission:
    granted, room, *numbers = told
    states = [(rate, *numbers[i * 3 : i * 3 + 3]) for i, rate in enumerate(rates)]
    headers = {}
    if states:
        headers["RateLimit-Policy"] = ", ".join(f'"{rate.name}";q={rate.burst};w={_window(rate)}' for rate, *_ in states)
        headers["RateLimit"] = ", ".join(f'"{rate.name}";r={left};t={math.ceil(full / 1000)}' for rate, left, full, _ in states)
    if granted >= wanted:
        return Admission(granted=wanted, headers=headers)
    crowded = cap is not None and room <= granted
    tightest, _, _, wait_ms = max(states, key=lambda state: state[3], default=(None, 0, 0, 0))
    if tightest is not None and not wait_ms:
        wait_ms = math.ceil(tightest.token_ms)  # only whole requests' worth of tokens were short
    return Admission(granted=granted, headers=headers, tightest=tightest, wait_ms=wait_ms, open_max=cap if crowded else None)


def _window(rate: Rate) -> int:
    """Seconds in which a full burst comes back."""
    return max(1, math.ceil(rate.burst * rate.token_ms / 1000))


def _open(org_id: str, cap: int) -> int:
    """Open tasks of the org, counted no further than matters."""
    return Task.objects.filter(org_id=org_id, status__in=[status.value for status in OPEN]).order_by()[: cap + 1].count()
