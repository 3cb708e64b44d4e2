"""When a schedule fires: pure functions from a rule and instants to instants.

Cron reads the clock of its time zone, as Debian's cron does (`cronsim`):
- a time that the clock skips in spring fires once, right after the gap;
- a time that comes twice in autumn fires the first time only;
- rules with a `*` in minute or hour go by real time: they skip nothing and fire in both of the doubled hours;
- when both day of month and weekday are given, either is enough.
Intervals are real time, counted from the start of the schedule.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

LATE = timedelta(seconds=60)
"""A firing this much after its time was missed: the platform was away."""
LOOKED_AT = 5000
"""Missed times counted one by one; of more, the latest are found from the other end."""


class BadRule(ValueError):
    pass


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One of cron, every and at."""

    cron: str = ""
    every: timedelta | None = None
    at: datetime | None = None
    timezone: str = "UTC"
    anchor: datetime
    """From here on; intervals are counted from it."""
    ends_at: datetime | None = None
    name: str = ""
    """Jitter follows from it: two schedules of the same rule do not fire together."""
    jitter: timedelta = timedelta(0)

    def check(self) -> None:
        """Raises BadRule."""
        if self.cron:
            if len(self.cron.split()) != 5:
                raise BadRule("must have five fields: minute hour day month weekday")
            try:
                next(CronSim(self.cron, self.anchor.astimezone(self.zone)))
            except CronSimError as error:
                raise BadRule(f"is not a cron rule: {error}") from None
            except StopIteration:
                raise BadRule("never fires") from None

    @property
    def zone(self) -> Any:
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    def after(self, instant: datetime) -> datetime | None:
        """The first planned time later than `instant`; None: there is none."""
        return next(self.times(instant), None)

    def times(self, after: datetime) -> Iterator[datetime]:
        """All planned times later than `after`, in order."""
        for found in self._times(after):
            if self.ends_at is not None and found > self.ends_at:
                return
            yield found

    def _times(self, after: datetime) -> Iterator[datetime]:
        if self.at is not None:
            if self.at > after and self.at >= self.anchor:
                yield self.at
        elif self.every is not None:
            number = max(0, (after - self.anchor) // self.every + 1)
            while True:
                yield self.anchor + number * self.every
                number += 1
        else:
            # A second earlier, so that the anchor itself may be one.
            start = max(after, self.anchor - timedelta(seconds=1))
            for found in CronSim(self.cron, start.astimezone(self.zone)):
                # Of a doubled hour cronsim may give a time that lies before its start.
                if (instant := found.astimezone(UTC)) > after:
                    yield instant

    def latest(self, until: datetime, count: int) -> list[datetime]:
        """The latest `count` planned times up to `until`, in order."""
        until = until if self.ends_at is None else min(until, self.ends_at)
        if self.every is not None:
            number = (until - self.anchor) // self.every
            return [self.anchor + n * self.every for n in range(max(0, number - count + 1), number + 1)]
        found: list[datetime] = []
        for instant in CronSim(self.cron, (until + timedelta(seconds=1)).astimezone(self.zone), reverse=True):
            if len(found) == count or instant < self.anchor:
                break
            found.append(instant.astimezone(UTC))
        return found[::-1]

    def fire_at(self, planned: datetime) -> datetime:
        """Planned, and its jitter: always the same for the same time, and before the next planned time, so that firings keep
        their order."""
        if not self.jitter:
            return planned
        following = self.after(planned)
        most = self.jitter if following is None else min(self.jitter, following - planned)
        digest = hashlib.sha256(f"{self.name}@{planned.isoformat()}".encode()).digest()
        return planned + timedelta(milliseconds=int.from_bytes(digest[:6], "big") % int(most.total_seconds() * 1000))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do now."""

    fire: tuple[datetime, ...] = ()
    missed: int = 0
    """Left out; more than LOOKED_AT are not counted."""
    last_missed: datetime | None = None
    following: datetime | None = None
    """The next planned time; None: never again."""


def plan(rule: Rule, planned: datetime, *, catch_up: str, bound: int, now: datetime) -> Plan:
    """From the planned time that is due. Of several that have passed, all but the latest were missed; the latest too, when it
    is LATE. `catch_up`: skip, one (the latest stands for all) or all (at most the latest `bound`)."""
    due: deque[datetime] = deque(maxlen=bound + 2)  # what may fire, and the latest of what may not
    count = 0
    following: datetime | None = planned
    while following is not None and rule.fire_at(following) <= now:
        due.append(following)
        count += 1
        if count >= LOOKED_AT:
            due.extend(rule.latest(now - rule.jitter, bound + 2))
            following = rule.after(due[-1])
            break
        following = rule.after(following)
    passed = list(due)
    if not passed:
        return Plan(following=following)
    in_time = now - rule.fire_at(passed[-1]) <= LATE
    wanted = {"skip": int(in_time), "one": 1, "all": bound + int(in_time)}[catch_up]
    fire = passed[max(0, len(passed) - wanted) :] if wanted else []
    left_out = [at for at in passed if at not in fire]
    return Plan(fire=tuple(fire), missed=count - len(fire), last_missed=left_out[-1] if left_out else None, following=following)


def known_zone(name: str) -> bool:
    return name == "UTC" or name in _zones()


def _zones() -> set[str]:
    global _known
    if _known is None:
        _known = available_timezones()
    return _known


_known: set[str] | None = None
