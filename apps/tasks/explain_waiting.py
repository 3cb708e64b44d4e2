"""What an open task waits for, what holds it, and how long that may take."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any

from apps.agents.candidates import AgentCandidatePoolResolver, CandidatePool
from apps.core import clock
from apps.core.errors import PlatformError
from apps.core.redis import RedisDown
from apps.orgs.config_store import OrgConfig
from apps.tasks.batch import facts_of
from apps.tasks.crowding import crowded
from apps.tasks.models import Task
from apps.tasks.standing import paused_by, standing
from apps.tasks.states import TaskStatus

__all__ = ["paused_by", "pool_shown", "waiting"]

CANDIDATES_SHOWN = 50
S = TaskStatus
PEOPLE = {"awaiting_approval": "a person's approval", "awaiting_assignment": "a person to choose the head agent",
          "awaiting_verification": "the verifier's decision"}  # fmt: skip


def waiting(task: Task, config: OrgConfig, *, now: datetime) -> dict[str, Any]:
    """`held_by`: one sentence for each thing that keeps it where it is; empty when it is simply next in line."""
    if task.status in PEOPLE:
        found = _person(task)
    elif task.status == S.QUEUED:
        found = _agent(task, config, now)
    else:
        found = _work(task, now)
    times = {"deadline": task.deadline, "assign_by": task.assign_by if task.status == S.QUEUED else None}
    return {"for": "", "since": clock.iso(task.updated_at), "held_by": [], "estimate_s": None, "estimate_why": "", **found,
            **{name: clock.iso(at) for name, at in times.items() if at}}  # fmt: skip


def _person(task: Task) -> dict[str, Any]:
    asked = task.people or {}
    of = [_named(who) for who in (asked.get("then") if asked.get("escalated") else asked.get("of")) or ["@operators"]]
    held = [f"asked: {', '.join(of)}" + (" (escalated)" if asked.get("escalated") else "")]
    if task.reason:
        held.append(task.reason)
    times = {"escalates_at": task.escalate_at, "expires_at": task.decide_by}
    return {
        "for": PEOPLE[task.status],
        "held_by": held,
        "asked": of,
        "estimate_why": "a person decides",
        **{name: clock.iso(at) for name, at in times.items() if at},
    }


def _named(who: str) -> str:
    if who == "@operators":
        return "any operator"
    return f"whoever holds a role of type {who.removeprefix('role:')}" if who.startswith("role:") else who


def _agent(task: Task, config: OrgConfig, now: datetime) -> dict[str, Any]:
    place = standing(task, now=now, config=config, room=False)
    held_by, pool, crowd = list(place.held_by), None, None
    try:
        pool = AgentCandidatePoolResolver(task.org_id, config).pools([task.job_space_id], now=now)[task.job_space_id]
        if crowd := crowded(task, pool, config):
            held_by.append(crowd.why)
    except (PlatformError, *RedisDown) as error:
        held_by.append(f"the candidates are not known: {getattr(error, 'sentence', 'Redis is away')}")
    if place.where == "unknown":
        held_by.append("Redis is away; the task is queued again when it is back")
    elif place.where == "nowhere":
        held_by.append("it is not in the queue yet; the loader brings it within seconds")
    estimate, why = place.estimate_s, ""
    if crowd and crowd.busy and len(held_by) == 1 and place.position is not None:
        seconds = crowd.seconds(place.position, org_id=task.org_id, now=now)
        estimate = None if seconds is None else round(seconds, 1)
        why = held_by[0] if seconds is None else "when those who are busy go on as they did lately"
    elif held_by:
        estimate, why = None, held_by[0]
    elif estimate is None:
        why = "nothing was dispatched in this job space in the last minute" if place.where == "lane" else "a dispatcher has it now"
    return {
        "for": "an agent",
        "held_by": held_by,
        "where": place.where,
        "position": place.position,
        "lane_size": place.lane_size,
        "ahead_in_org": place.ahead_in_org,
        "per_minute": place.per_minute,
        "estimate_s": estimate,
        "estimate_why": why,
        "candidates": pool_shown(pool, task) if pool is not None else None,
    }


def pool_shown(pool: CandidatePool, task: Task) -> dict[str, Any]:
    """The pool as it is now, and as this task sees it: whoever cannot have it is not eligible for it."""
    out = pool.kept_out(facts_of(task))
    eligible = [candidate for candidate in pool.eligible if candidate.subject_id not in out]
    return {
        "size": len(pool),
        "free": min(sum(candidate.free for candidate in eligible), 2**53),
        "eligible": {c.subject_id: c.shown() for c in eligible[:CANDIDATES_SHOWN]},
        "barred": dict(islice({**out, **pool.barred}.items(), CANDIDATES_SHOWN)),
        "excluded": dict(task.excluded_agents),
        "roles": pool.source,
    }


def _work(task: Task, now: datetime) -> dict[str, Any]:
    since = task.started_at or task.dispatched_at or task.assigned_at
    elapsed = (now - since).total_seconds() if since else 0.0
    estimate, why = None, "the agent has not said how far it is"
    if 0 < task.progress < 100 and elapsed > 0:
        estimate, why = round(elapsed * (100 - task.progress) / task.progress, 1), "from the agent's progress"
    return {
        "for": f"{task.head_agent_subject_id} to finish" if task.status == S.RUNNING else f"{task.head_agent_subject_id} to begin",
        "agent": task.head_agent_subject_id,
        "progress": task.progress,
        "progress_message": task.progress_message,
        "estimate_s": estimate,
        "estimate_why": why,
    }
