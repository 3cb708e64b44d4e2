"""What a lost lease means for the task: another attempt, the end of its attempts, or quarantine.

An agent that dies takes with it whatever it had begun, and only one of these tasks may have killed it. So a loss puts those
tasks under suspicion (`crashed` in `excluded_agents`) that have crashed most agents before; beside such a suspect the others
are innocent: their attempt is not counted. What the agent had not even fetched is innocent anyway. A task that has
crashed `quarantine_after_crashes` different agents, and was the only one under suspicion when the last of them died, is
poison: it fails, with a decision of kind `quarantine`, and is given to nobody any more. Those under suspicion together come
back one after the other, so that they do not meet again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from apps.orgs.config_store import OrgConfig
from apps.tasks.attempts import CRASHED
from apps.tasks.executor import back_to_queue
from apps.tasks.models import Decision, Task
from apps.tasks.results import backoff
from apps.tasks.states import Cause, TaskStatus
from apps.tasks.store import Move

KIND = "quarantine"
LOST = "lost"
APART = timedelta(seconds=1)
"""Between the returns of tasks that are under suspicion together."""


def after_loss(
    tasks: Sequence[Task],
    unfetched: Collection[str],
    *,
    config_of: Callable[[str], OrgConfig],
    lease_of: Callable[[Task], float],
    actor: str,
    now: datetime,
) -> list[Move]:
    """A move for each task that was taken from its silent agent in one go. `unfetched`: keys of tasks that an agent which is
    away had not fetched yet. `lease_of`: seconds the task's holder may be silent."""
    by_agent: dict[tuple[str, str], list[Task]] = defaultdict(list)
    for task in tasks:
        if not task.held_by_person:
            by_agent[task.org_id, task.head_agent_subject_id].append(task)
    of_people = [_of_a_person(task, config_of(task.org_id), lease_of(task), actor, now) for task in tasks if task.held_by_person]
    return of_people + [
        move
        for (org_id, agent), group in by_agent.items()
        for move in _of_one_agent(agent, group, unfetched, config_of(org_id), actor, now)
    ]


def _of_a_person(task: Task, config: OrgConfig, seconds: float, actor: str, now: datetime) -> Move:
    """People do not crash, and nobody holds their silence against them."""
    silent = f"{task.head_agent_subject_id} did not answer for {seconds:g} s (attempt {task.attempt})"
    if task.attempt >= task.max_attempts:
        return Move(task=task, end=TaskStatus.FAILED, reason=f"{silent}; that was the last attempt", actor=actor)
    return back_to_queue(task, reason=silent, actor=actor, not_before=now + backoff(config, task.attempt), excluded=LOST)


def _of_one_agent(agent: str, group: list[Task], unfetched: Collection[str], config: OrgConfig, actor: str, now: datetime) -> list[Move]:
    begun = [task for task in group if task.key not in unfetched]
    most = max((len(crashed(task, but=agent)) for task in begun), default=0)
    suspects = sum(len(crashed(task, but=agent)) == most for task in begun)
    apart = timedelta(0)
    moves = []
    for task in group:
        silent = f"{agent} was not heard of for {config.lease_seconds:g} s (attempt {task.attempt})"
        again = now + backoff(config, task.attempt)
        if task.key in unfetched:
            reason, cause = f"{silent} and had not fetched it", Cause.UNFETCHED
            moves.append(back_to_queue(task, reason=reason, actor=actor, not_before=again, cause=cause, excluded=LOST, free=True))
        elif len(crashed(task, but=agent)) < most:
            reason = f"{silent}; another task of that moment is under suspicion"
            cause = Cause.SILENT
            moves.append(back_to_queue(task, reason=reason, actor=actor, not_before=again, cause=cause, excluded=LOST, free=True))
        else:
            moves.append(_suspect(task, agent, silent, config, actor, again + apart, now, alone=suspects == 1))
            apart += APART
    return moves


def _suspect(task: Task, agent: str, silent: str, config: OrgConfig, actor: str, again: datetime, now: datetime, *, alone: bool) -> Move:
    agents = sorted(crashed(task) | {agent})
    marked = {"excluded_agents": {**task.excluded_agents, agent: CRASHED}}
    if alone and 0 < config.quarantine_after_crashes <= len(agents):
        reason = f"quarantined: it crashed {len(agents)} agents ({', '.join(agents)}); {silent}"
        decision = Decision(
            id=f"{task.key}!{KIND}", task_key=task.key, org_id=task.org_id, kind=KIND, outcome=TaskStatus.FAILED.value, actor=actor,
            because=reason, details={"agents": agents, "attempt": task.attempt, "after_crashes": config.quarantine_after_crashes},
            config_version=config.version, at=now,
        )  # fmt: skip
        return Move(
            task=task, end=TaskStatus.FAILED, reason=reason, actor=actor, fields=marked, rows=(decision,), cause=Cause.SILENT,
            dead_letter="poison",
        )  # fmt: skip
    if task.attempt >= task.max_attempts:
        reason = f"{silent}; that was the last attempt"
        return Move(task=task, end=TaskStatus.FAILED, reason=reason, actor=actor, fields=marked, cause=Cause.SILENT)
    return back_to_queue(task, reason=silent, actor=actor, not_before=again, cause=Cause.SILENT, excluded=CRASHED)


def crashed(task: Task, *, but: str = "") -> set[str]:
    """Agents that were lost while they had this task, as far as it is under suspicion; without one of them."""
    return {agent for agent, why in task.excluded_agents.items() if why == CRASHED and agent != but}
