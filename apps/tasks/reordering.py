"""When an org's priority script changes, the tasks that wait are asked again: in batches, in the background.

What the order should follow is a *mark*: the org's script, its active version, or none. A row per org says which mark the
queue follows, and how far a change of it has come. Upkeep compares the mark with the configuration and goes on where the
last one stopped, so nothing needs to be told of a change, a restart costs nothing, and two copies do the same work twice at
worst. A priority that a person gave by hand stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from apps.core import bulk, clock
from apps.dsl.book import book
from apps.dsl.facts import task_facts
from apps.dsl.policies import Hook
from apps.dsl.runner import PolicyRequest, PolicyRunner
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.orgs.models import Org
from apps.tasks import priorities
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN
from apps.tasks.models import Decision, Reordering, Task
from apps.tasks.priorities import NewPriority
from apps.tasks.queue import PriorityQueue
from apps.tasks.states import TaskStatus

ACTOR = "priority policy"
BATCH = 500
ORGS_AT_ONCE = 200
WAITING = (TaskStatus.QUEUED, TaskStatus.AWAITING_APPROVAL)
FIELDS = (
    "key", "org_id", "task_id", "job_space_id", "status", "priority", "submitter_priority", "sequence", "last_transition_id", "entry",
    "not_before", "concurrency_key", "concurrency_limit", "concurrency_mode",
)  # fmt: skip
NONE = "-"


class Reorderer:
    def __init__(self, *, runner: PolicyRunner | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.runner = runner or PolicyRunner()
        self.configs = OrgConfigProvider()
        self._monotonic = monotonic

    def run(self, *, now: datetime, seconds: float) -> bool:
        """Bring the orgs' queues up to their marks, for about `seconds`. True when something is left to do."""
        until = self._monotonic() + seconds
        configs = self.configs.of_many(_orgs(now))
        marks = _marks(configs)
        rows = {row.org_id: row for row in Reordering.objects.filter(pk__in=list(marks))}
        left = False
        for org_id, mark in marks.items():
            row = rows.get(org_id) or _first(org_id, mark, now)
            if row.wanted != mark:
                _begin(row, mark, now)
            while row.done != row.wanted and self._monotonic() < until:
                if not self._step(row, configs[org_id], now):
                    break  # another copy is at it
            left = left or row.done != row.wanted
        return left

    def _step(self, row: Reordering, config: OrgConfig, now: datetime) -> bool:
        """One batch, and the note of it. False when somebody else noted it first."""
        tasks = _waiting(row.org_id, row.cursor)
        if not tasks:
            return _note(row, now, done=row.wanted, finished_at=now)
        changes = self._asked_again(tasks, config, now)
        changed = priorities.change_many(
            changes, actor=ACTOR, now=now, outcome=priorities.BY_POLICY, config_version=config.version
        )
        return _note(row, now, cursor=tasks[-1].sequence, seen=row.seen + len(tasks), changed=row.changed + len(changed))

    def _asked_again(self, tasks: Sequence[Task], config: OrgConfig, now: datetime) -> list[NewPriority]:
        by_hand = set(
            Decision.objects.filter(
                task_key__in=[task.key for task in tasks], kind=priorities.KIND, outcome=priorities.BY_HAND
            ).values_list("task_key", flat=True)
        )
        found: list[NewPriority] = []
        asked: list[tuple[Task, PolicyRequest]] = []
        for task in tasks:
            facts = task_facts(task.entry, org_id=task.org_id)
            script = facts["behavior"].get("priority_assigner_dsl_id") or config.priority_assigner_dsl_id
            if task.key in by_hand:
                continue
            if script:
                asked.append((task, _request(task, script, facts, config)))
            else:
                found.append(NewPriority(task=task, priority=task.submitter_priority, because="no priority script: the submitter's own"))
        decisions = self.runner.decide_many(Hook.PRIORITY, [request for _, request in asked], now=now) if asked else []
        for (task, _), decision in zip(asked, decisions, strict=True):
            priority, because = task.submitter_priority, f"{decision.script_id} gave no answer: the submitter's own"
            if not decision.error and decision.output is not None:
                priority = max(PRIORITY_MIN, min(PRIORITY_MAX, decision.output["priority"]))
                because = f"asked again: {decision.script_id} version {decision.script_version}"
            found.append(NewPriority(task=task, priority=priority, because=because, rows=(decision.row(),)))
        return found


def progress(org_id: str) -> dict[str, Any] | None:
    """How far the last change of the priority script has come; None when there never was one."""
    row = Reordering.objects.filter(pk=org_id).first()
    if row is None or row.started_at is None:
        return None
    return {
        "script": None if row.wanted == NONE else row.wanted,
        "running": row.done != row.wanted,
        "looked_at": row.seen,
        "of_about": max(row.total, row.seen),
        "changed": row.changed,
        "started_at": clock.iso(row.started_at),
        "finished_at": clock.iso(row.finished_at),
    }


def _orgs(now: datetime) -> list[str]:
    """Those with something in their lanes, and of the others a part that moves on from look to look."""
    busy = {lane.org_id for lane in PriorityQueue().lanes()}
    count = Org.objects.count()
    start = int(now.timestamp() // 5) * ORGS_AT_ONCE % max(count, 1) if count > ORGS_AT_ONCE else 0
    others = Org.objects.order_by("pk").values_list("pk", flat=True)[start : start + ORGS_AT_ONCE]
    return sorted(busy | set(others))


def _marks(configs: dict[str, OrgConfig]) -> dict[str, str]:
    """org -> what its order should follow: script and active version."""
    wanted = {org_id: config.priority_assigner_dsl_id for org_id, config in configs.items()}
    scripts = book().find_many((org_id, script) for org_id, script in wanted.items() if script)
    marks = {}
    for org_id, script_id in wanted.items():
        script = scripts.get((org_id, script_id or ""))
        marks[org_id] = f"{script_id}@{script.version}:{script.sha256[:8]}" if script else script_id or NONE
    return marks


def _first(org_id: str, mark: str, now: datetime) -> Reordering:
    """An org never looked at: without a script its order is right already."""
    row = Reordering(org_id=org_id, wanted="", done=NONE if mark == NONE else "", updated_at=now)
    if mark == NONE:
        row.wanted = NONE
    bulk.insert_missing([row])
    return Reordering.objects.get(pk=org_id)


def _begin(row: Reordering, mark: str, now: datetime) -> None:
    total = sum(Task.objects.filter(org_id=row.org_id, status=status).count() for status in WAITING)
    _note(row, now, wanted=mark, done="", cursor=0, seen=0, changed=0, total=total, started_at=now, finished_at=None)


def _note(row: Reordering, now: datetime, **fields: Any) -> bool:
    """Write how far it has come, unless another copy wrote first; the row is then as that one left it."""
    guards = {"wanted": row.wanted, "done": row.done, "cursor": row.cursor}
    won = bulk.compare_and_set(Reordering, [bulk.Change(pk=row.org_id, guards=guards, fields={**fields, "updated_at": now})])
    if won:
        for name, value in fields.items():
            setattr(row, name, value)
    else:
        row.refresh_from_db()
    return bool(won)


def _waiting(org_id: str, after: int) -> list[Task]:
    """The next batch in order of arrival. One look per status, so that each is a stretch of an index."""
    found: list[Task] = []
    for status in WAITING:
        rows = Task.objects.filter(org_id=org_id, status=status, sequence__gt=after).order_by("sequence")
        found += rows.only(*FIELDS)[:BATCH]
    return sorted(found, key=lambda task: task.sequence)[:BATCH]


def _request(task: Task, script: str, facts: dict[str, Any], config: OrgConfig) -> PolicyRequest:
    return PolicyRequest(
        org_id=task.org_id,
        task_key=task.key,
        script_id=script,
        input={"task": facts},
        timeout_ms=config.dsl_timeout_ms,
        config_version=config.version,
    )
