"""Schedules among beat's rows (django-celery-beat), where operators look for them, and so that beat rings at their times.

The row is a bell, not the truth: whoever hears it looks at the schedules themselves (`schedule_ticker`), and a tick every two
seconds hears what no bell rang for. So a row that is wrong, late or rung twice does no harm.
"""

from __future__ import annotations

import json
import zoneinfo
from typing import Any

from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask

from apps.tasks.models import Schedule

WORK = "upkeep.schedules"
PREFIX = "schedule "
EXPIRE_SECONDS = 60
"""A bell that was not heard for so long need not be: the tick was there before."""


def name_of(schedule: Schedule) -> str:
    return f"{PREFIX}{schedule}"


def mirror(schedule: Schedule) -> None:
    """Bring the row up to the schedule."""
    PeriodicTask.objects.update_or_create(
        name=name_of(schedule),
        defaults={
            "task": WORK,
            "kwargs": json.dumps({"schedule": str(schedule)}),
            "enabled": schedule.enabled and schedule.next_planned_at is not None,
            "description": schedule.description or f"{schedule.entry.get('task_goal') or schedule.entry.get('goal') or ''}"[:1000],
            # The row takes one of the two. A bell from before the end that is heard late does no harm.
            "expire_seconds": None if schedule.ends_at else EXPIRE_SECONDS,
            "start_time": schedule.starts_at,
            "expires": schedule.ends_at,
            "one_off": schedule.at is not None,
            **_when(schedule),
        },
    )


def forget(schedule: Schedule) -> None:
    for row in PeriodicTask.objects.filter(name=name_of(schedule)):
        row.delete()  # one by one: its signal tells beat


def _when(schedule: Schedule) -> dict[str, Any]:
    found: dict[str, Any] = {"crontab": None, "interval": None, "clocked": None, "solar": None}
    if schedule.at is not None:
        found["clocked"] = ClockedSchedule.objects.get_or_create(clocked_time=schedule.at)[0]
    elif schedule.every_seconds:
        found["interval"] = IntervalSchedule.objects.get_or_create(every=schedule.every_seconds, period=IntervalSchedule.SECONDS)[0]
    else:
        zone = zoneinfo.ZoneInfo(schedule.timezone)
        fields = _crontab(schedule.cron, zone)
        rows = CrontabSchedule.objects.filter(**fields, timezone=zone)
        found["crontab"] = rows.first() or CrontabSchedule.objects.create(**fields, timezone=zone)
    return found


def _crontab(cron: str, zone: zoneinfo.ZoneInfo) -> dict[str, str]:
    """Celery's cron knows less than ours (no `L`, no `MON#2`), and a row it cannot read would end beat: such a schedule rings
    every hour, and the tick keeps its time."""
    fields = dict(zip(("minute", "hour", "day_of_month", "month_of_year", "day_of_week"), cron.split(), strict=True))
    try:
        CrontabSchedule(**fields, timezone=zone).schedule  # noqa: B018  it parses
    except Exception:  # its parser raises a class of its own, and ValueError, KeyError
        return {"minute": "0", "hour": "*", "day_of_month": "*", "month_of_year": "*", "day_of_week": "*"}
    return fields
