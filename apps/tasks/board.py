"""The queue of one org as an operator sees it. Costs by the number of lanes, never by the number of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Min

from apps.core import clock
from apps.core.errors import Unavailable
from apps.core.redis import RedisDown
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.orgs.models import OrgConfigParameter
from apps.tasks.models import Task
from apps.tasks.queue import KEYS_SHOWN, run
from apps.tasks.standing import pairs
from apps.tasks.states import TaskStatus


def boards(org_ids: Sequence[str], *, now: datetime) -> dict[str, dict[str, Any]]:
    """Those of many, by org, in as many reads of the database as of one. Raises Unavailable when Redis is away."""
    configs, oldest = OrgConfigProvider().of_many(org_ids), _oldest(org_ids)
    paused = _paused(configs)
    return {org_id: _board(org_id, configs[org_id], paused.get(org_id), oldest.get(org_id), now) for org_id in org_ids}


def board(org_id: str, *, now: datetime, config: OrgConfig | None = None) -> dict[str, Any]:
    """Raises Unavailable when Redis is away."""
    config = config or OrgConfigProvider().of(org_id)
    return _board(org_id, config, _paused({org_id: config}).get(org_id), _oldest([org_id]).get(org_id), now)


def _board(org_id: str, config: OrgConfig, paused: dict[str, Any] | None, oldest: datetime | None, now: datetime) -> dict[str, Any]:
    try:
        found = run("board", clock.to_ms(now), org_id, KEYS_SHOWN)
    except RedisDown:
        raise Unavailable() from None
    flat, delayed, parked_in_all, parked, keys, contested, claimed, held, this_minute, last_minute = found
    this, last = pairs(this_minute), pairs(last_minute)
    into = (clock.to_ms(now) % 60_000) / 60_000
    pace = {lane: this.get(lane, 0) + (1 - into) * last.get(lane, 0) for lane in {*this, *last}}
    waiting = {flat[i]: (int(flat[i + 1]), str(flat[i + 2])) for i in range(0, len(flat), 3)}
    names = sorted({*waiting, *pace, *config.paused_job_spaces})
    return {
        "org_id": org_id,
        "paused": paused,
        "waiting": sum(size for size, _ in waiting.values()),
        "delayed": delayed,
        "parked": parked_in_all,
        "contested": contested,
        "in_flight": claimed + held,
        "max_inflight": config.max_inflight,
        "fair_share_weight": config.fair_share_weight,
        "aging_points_per_minute": config.aging_points_per_minute,
        "oldest_queued_at": clock.iso(oldest),
        "oldest_wait_s": _seconds(oldest, now),
        "per_minute": round(sum(pace.values()), 2),
        "lanes": [_lane(name, waiting.get(name, (0, "")), pace.get(name, 0.0), config, now) for name in names],
        "keys": [{"key": parked[i].removeprefix("="), "parked": int(float(parked[i + 1]))} for i in range(0, len(parked), 2)],
        "keys_with_parked": keys,
    }


def _lane(name: str, waiting: tuple[int, str], pace: float, config: OrgConfig, now: datetime) -> dict[str, Any]:
    size, head = waiting
    arrived = clock.from_ms(int(head[:16], 16) // 1000) if head else None
    return {
        "job_space_id": name,
        "waiting": size,
        "next_task_id": head[17:].partition("/")[2] if head else None,
        "next_arrived_at": clock.iso(arrived),
        "next_wait_s": _seconds(arrived, now),
        "per_minute": round(pace, 2),
        "paused": name in config.paused_job_spaces,
    }


def _paused(configs: Mapping[str, OrgConfig]) -> dict[str, dict[str, Any]]:
    """Of those that are: why, since when and by whom."""
    why = {org_id: config.queue_paused for org_id, config in configs.items() if config.queue_paused is not None}
    found = OrgConfigParameter.objects.filter(org_id__in=why, key="queue_paused") if why else ()
    rows = {row.org_id: row for row in found}
    return {
        org_id: {
            "reason": reason,
            "since": clock.iso(rows[org_id].changed_at) if org_id in rows else None,
            "by": rows[org_id].changed_by if org_id in rows else None,
        }
        for org_id, reason in why.items()
    }


def _oldest(org_ids: Sequence[str]) -> dict[str, datetime]:
    """When those that wait longest arrived, wherever they wait: sequences are microseconds, and first in an index."""
    if len(org_ids) == 1:
        rows = Task.objects.filter(org_id=org_ids[0], status=TaskStatus.QUEUED).order_by("sequence")
        return dict(rows.values_list("org_id", "created_at")[:1])
    waiting = Task.objects.filter(org_id__in=org_ids, status=TaskStatus.QUEUED).order_by().values_list("org_id")
    return {org_id: clock.from_ms(first // 1000) for org_id, first in waiting.annotate(first=Min("sequence"))}


def _seconds(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else round(max(0.0, (now - since).total_seconds()), 1)
