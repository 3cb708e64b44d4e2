"""Tasks and their history as JSON. Plain functions: these shapes are made thousands of times a second."""

from __future__ import annotations

import contextlib
import operator
import time
from collections.abc import Sequence
from typing import Any

import orjson
from django.db.models import Count

from apps.core import clock, ids, redis
from apps.dsl.models import PolicyRun
from apps.tasks import people, sub_tasks
from apps.tasks.models import Assignment, Decision, Report, Task, Transition
from apps.tasks.standing import standing
from apps.tasks.states import OPEN, TERMINAL, TaskStatus

COUNTS_SECONDS, COUNTS_WORTH_KEEPING_SECONDS = 10.0, 0.01
"""<p>:counts:<org>   STRING   the counts of tasks by status, as JSON; expires."""
REPORTS_SHOWN = 1000
"""An agent may log without end; a history shows the latest."""


def briefs(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """A page of tasks, each with what its sub-tasks come to; one read for them all."""
    parts = sub_tasks.roll_ups([task.key for task in tasks if task.kind != sub_tasks.SUB_TASK])
    return [brief(task, parts.get(task.key)) for task in tasks]


def brief(task: Task, parts: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a list shows of a task. `parts` is what its sub-tasks come to."""
    return {
        "task_id": task.task_id,
        "kind": task.kind,
        "parent_task_id": ids.split_task_key(task.parent_key)[1] or None,
        "sub_tasks": parts,
        "status": task.status,
        "terminal": TaskStatus(task.status) in TERMINAL,
        "reason": task.reason,
        "goal": task.goal,
        "intent": task.intent,
        "submitter_subject_id": task.submitter_subject_id,
        "job_space_id": task.job_space_id,
        "execution_mode": task.execution_mode,
        "submitter_priority": task.submitter_priority,
        "priority": task.priority,
        "retry_of": task.retry_of or None,
        "schedule_id": task.schedule_id or None,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "agent": task.head_agent_subject_id or None,
        "progress": parts["progress"] if parts and task.status not in TERMINAL else task.progress,
        "progress_message": task.progress_message,
        "times": {
            "created": clock.iso(task.created_at),
            "updated": clock.iso(task.updated_at),
            "queued": clock.iso(task.queued_at),
            "assigned": clock.iso(task.assigned_at),
            "dispatched": clock.iso(task.dispatched_at),
            "started": clock.iso(task.started_at),
            "finished": clock.iso(task.finished_at),
            "not_before": clock.iso(task.not_before),
            "deadline": clock.iso(task.deadline),
            "assign_by": clock.iso(task.assign_by),
        },
    }


def full(task: Task) -> dict[str, Any]:
    """Everything a submitter needs to know of one task."""
    return {
        **brief(task, None if task.parent_key else sub_tasks.roll_ups([task.key]).get(task.key)),
        "result": task.result,
        "entry": task.entry,
        "waiting_for": people.shown(task),
        "assignment": _present_assignment(task),
        **_queue(task),
    }


def _present_assignment(task: Task) -> dict[str, Any] | None:
    found = Assignment.objects.filter(task_key=task.key).order_by("-attempt").first() if task.attempt else None
    return _assignment(found) if found else None


def has_ended(task: Task) -> bool:
    return TaskStatus(task.status) in TERMINAL


def _queue(task: Task) -> dict[str, Any]:
    """Its place in the queue and what it waits for; nothing of it when it is not waiting, or nobody can say right now."""
    found = standing(task, now=clock.now(), room=False)
    return {
        "queue_position": found.position if found.where == "lane" else None,
        "held_by": found.held_by,
        "concurrency": {"key": task.concurrency_key.removeprefix("="), "limit": task.concurrency_limit, "mode": task.concurrency_mode}
        if task.concurrency_key
        else None,
    }


def counts(org_id: str) -> dict[str, Any]:
    """Counted in the database at most a twentieth of the time: an answer serves until counting has paid for itself, so the
    more there is to count the older it may be, up to `COUNTS_SECONDS`; that of a small org is always of now."""
    name = redis.key("counts", org_id)
    try:
        if kept := redis.client().get(name):
            return orjson.loads(kept)
    except redis.RedisDown:
        return _counted(org_id)
    began = time.perf_counter()
    found = _counted(org_id)
    took = time.perf_counter() - began
    if took >= COUNTS_WORTH_KEEPING_SECONDS:
        with contextlib.suppress(*redis.RedisDown):
            redis.client().set(name, orjson.dumps(found), px=int(1000 * min(COUNTS_SECONDS, 20 * took)))
    return found


def _counted(org_id: str) -> dict[str, Any]:
    found = dict(Task.objects.filter(org_id=org_id).order_by().values_list("status").annotate(count=Count("pk")))
    by_status = {status.value: found.get(status.value, 0) for status in TaskStatus}
    return {
        "counts": by_status,
        "open": sum(by_status[status.value] for status in OPEN),
        "total": sum(by_status.values()),
    }


# ---- history ----------------------------------------------------------------------------------------------


def history(key: str) -> list[dict[str, Any]]:
    """Policy runs, assignments, decisions, reports and transitions of a task in the order they happened; five reads."""
    runs = PolicyRun.objects.filter(task_key=key).defer("input").order_by("id")
    assignments = Assignment.objects.filter(task_key=key).order_by("attempt")
    decisions = Decision.objects.filter(task_key=key).order_by("at", "id")[:REPORTS_SHOWN]
    reports = Report.objects.filter(task_key=key).order_by("-at")[:REPORTS_SHOWN]
    transitions = Transition.objects.filter(task_key=key).order_by("id")
    # Of what happened in one millisecond the cause stands before the move it led to; sorting is stable.
    return sorted(
        [
            *map(_run, runs),
            *map(decision, decisions),
            *map(_assigned, assignments),
            *map(_report, reversed(list(reports))),
            *map(_transition, transitions),
        ],
        key=operator.itemgetter("at"),
    )


def _run(run: PolicyRun) -> dict[str, Any]:
    return {
        "kind": "policy",
        "at": clock.iso(run.at),
        "id": run.id,
        "hook": run.hook,
        "script_id": run.script_id,
        "script_version": run.script_version,
        "script_sha256": run.script_sha256,
        "output": run.output,
        "error": run.error,
        "duration_us": run.duration_us,
        "config_version": run.config_version,
    }


def _assignment(assignment: Assignment) -> dict[str, Any]:
    return {
        "attempt": assignment.attempt,
        "agent": assignment.head_agent_subject_id,
        "strategy": assignment.strategy,
        "because": assignment.because,
        "at": clock.iso(assignment.at),
    }


def _assigned(assignment: Assignment) -> dict[str, Any]:
    return {"kind": "assignment", "id": assignment.id, **_assignment(assignment), "decision": assignment.decision}


def _report(report: Report) -> dict[str, Any]:
    return {
        "kind": "report",
        "at": clock.iso(report.at),
        "id": report.id,
        "attempt": report.attempt,
        "agent": report.agent,
        "type": report.kind,
        "outcome": report.outcome,
        "body": report.body,
    }


def decision(made: Decision) -> dict[str, Any]:
    return {
        "kind": "decision",
        "at": clock.iso(made.at),
        "id": made.id,
        "decided": made.kind,
        "outcome": made.outcome,
        "because": made.because,
        "actor": made.actor,
        "details": made.details,
        "config_version": made.config_version,
    }


def _transition(transition: Transition) -> dict[str, Any]:
    return {
        "kind": "transition",
        "at": clock.iso(transition.at),
        "id": transition.id,
        "old": transition.old,
        "status": transition.new,
        "reason": transition.reason,
        "actor": transition.actor,
        "attempt": transition.attempt,
    }
