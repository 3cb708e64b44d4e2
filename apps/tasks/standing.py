"""Where a waiting task stands, and what it waits for. Reads a few keys, never the whole queue."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apps.agents.candidates import AgentCandidatePoolResolver
from apps.core import clock, ids
from apps.core.errors import PlatformError
from apps.core.redis import RedisDown
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.tasks.crowding import crowded
from apps.tasks.models import Task
from apps.tasks.queue import item_of, run
from apps.tasks.states import TaskStatus

SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """`held_by` is empty for a task that is simply next in line."""

    where: str
    """`lane` (its turn comes), `parked` (its concurrency key is full), `contested` (about who is cancelled for the key),
    `delayed`, `claimed` (a dispatcher has it), `nowhere` (not known yet: the loader brings it within seconds),
    `unknown` (Redis is away), `-` (it is not waiting)."""
    position: int | None = None
    """0 is next in its lane, or of those parked by its key."""
    lane_size: int = 0
    ahead_in_org: int = 0
    """How many of the whole org go before it, all lanes together."""
    held_by: list[str] = field(default_factory=list)
    """One sentence for each thing that keeps it from an agent now."""
    estimate_s: float | None = None
    """At the lane's pace of the last minute; None when nothing was dispatched or it cannot be said."""
    per_minute: float = 0.0
    """Tasks of its lane given to agents in the last minute."""


def standing(task: Task, *, now: datetime, config: OrgConfig | None = None, room: bool = True) -> Standing:
    """One round trip; with `room` a look at the candidate pool too."""
    if task.status != TaskStatus.QUEUED:
        return Standing(where="-")
    config = config or OrgConfigProvider().of(task.org_id)
    held_by = paused_by(config, task.job_space_id)
    try:
        found = run("standing", clock.to_ms(now), task.org_id, task.job_space_id, item_of(task).member)
    except RedisDown:
        return Standing(where="unknown", held_by=held_by)
    where, position, size, ahead, due, key, there, in_flight, this_minute, last_minute = found
    if where == "delayed":
        held_by.append(f"not before {clock.iso(clock.from_ms(int(float(due))))}")
    if where in ("parked", "contested"):
        held_by.append(f"concurrency key {_shown(key)} is taken by {_named(there)}")
    if config.max_inflight is not None and in_flight >= config.max_inflight:
        held_by.append(f"max_inflight: {in_flight} of {config.max_inflight} are with agents")
    if room and where == "lane" and (crowded := _crowded(task, config, now)):
        held_by.append(crowded)
    pace = _pace(task.job_space_id, this_minute, last_minute, now)
    position = position if position >= 0 else None
    return Standing(
        where=where,
        position=position,
        lane_size=size,
        ahead_in_org=ahead,
        held_by=held_by,
        estimate_s=round(60 * (position + 1) / pace, 1) if pace and position is not None and where == "lane" and not held_by[:1] else None,
        per_minute=round(pace, 2),
    )


def paused_by(config: OrgConfig, lane: str) -> list[str]:
    found = []
    if config.queue_paused is not None:
        found.append(f"paused: {config.queue_paused}")
    if lane in config.paused_job_spaces:
        found.append(f"paused: the job space {lane}")
    return found


def _crowded(task: Task, config: OrgConfig, now: datetime) -> str:
    try:
        pool = AgentCandidatePoolResolver(task.org_id, config).pools([task.job_space_id], now=now)[task.job_space_id]
    except PlatformError as error:
        return f"no room: the candidates are not known: {error.sentence}"
    crowd = crowded(task, pool, config)
    return crowd.why if crowd else ""


def _pace(lane: str, this_minute: list[str], last_minute: list[str], now: datetime) -> float:
    """Dispatches of the lane in the last 60 s: this minute's, and last minute's as far as it reaches into them."""
    into = (clock.to_ms(now) % 60_000) / 60_000
    return pairs(this_minute).get(lane, 0) + (1 - into) * pairs(last_minute).get(lane, 0)


def pairs(flat: list[Any]) -> dict[str, int]:
    return {flat[i]: int(flat[i + 1]) for i in range(0, len(flat), 2)}


def _named(members: list[str]) -> str:
    names = [ids.split_task_key(member[17:])[1] for member in sorted(members)]
    more = f" and {len(names) - SHOWN} others" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "another"


def _shown(key: str) -> str:
    """As the submitter knows it: a key of his own has no path before the equals sign."""
    return json.dumps(key.removeprefix("="), ensure_ascii=False)
