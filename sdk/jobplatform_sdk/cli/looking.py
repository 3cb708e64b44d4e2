"""`tasks`, `show`, `inbox`, and the verbs that steer: `cancel`, `approve`, `reject`, `assign`, `verify`."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from jobplatform_sdk.cli.screen import Exit, Screen, age, between, clean, clock, duration, each_task, json_text, status_text
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_values import OPEN, HistoryItem, Task

# ---- tasks ------------------------------------------------------------------------------------------------


def tasks(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    statuses = [*(options.status or []), *(OPEN if options.open else [])]
    found = client.tasks(
        limit=options.limit + 1 if options.limit else None,
        status=list(dict.fromkeys(statuses)), agent=options.agent, job_space=options.space, submitter=options.submitter,
        created_from=options.since, created_to=options.until, priority_min=options.priority_min, priority_max=options.priority_max,
        q=options.prefix, schedule=options.schedule, retry_of=options.retry_of, where=options.where,
    )  # fmt: skip
    shown = itertools.islice(found, options.limit or None)
    if screen.json:
        for task in shown:
            screen.document(task.data)
    elif rows := [_row(task) for task in shown]:
        titles = ("TASK", "STATUS", "PRIORITY", "AGENT", "AGE", "TOOK", "GOAL")
        screen.table(titles, rows, flexible="GOAL", shorten=("TASK", "AGENT"))
    else:
        screen.note("no tasks")
    if next(found, None) is not None:
        screen.note(f"the newest {options.limit}; there are more: --limit")
    return Exit.FINE


def _row(task: Task) -> tuple[str | Text, ...]:
    times = task.times
    took = between(times.created, times.finished)
    return (task.task_id, _status(task), str(task.priority), task.agent, age(times.created), took, task.goal)


def _status(task: Task) -> Text:
    text = status_text(task.status)
    if task.status == "running" and task.progress:
        text.append(f" {task.progress:.0f}%")
    elif task.status == "queued" and task.times.not_before and task.times.not_before > datetime.now(UTC):
        text.append(f" in {duration((task.times.not_before - datetime.now(UTC)).total_seconds())}")
    return text


# ---- show -------------------------------------------------------------------------------------------------


def show(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    task, history = client.get(options.task_id), client.events(options.task_id)
    if screen.json:
        screen.document({**task.data, "events": [item.data for item in history]})
        return Exit.FINE
    screen.line(Text(clean(task.task_id), style="bold"), status_text(task.status))
    for name, value in _facts(task):
        screen.line(Text(f"  {name:<9}", style="dim"), value)
    if task.result is not None:
        screen.line(Text("\nResult", style="bold"))
        screen.result(task.result)
    screen.line(Text("\nTimeline", style="bold"))
    start = history[0].at if history else None
    for item in history:
        passed = f"+{between(start, item.at)}"
        screen.line(Text(f"  {clock(item.at)} {passed:>9}  {clean(item.kind):<10}", style="dim"), *_happened(item))
    return Exit.FINE


def _facts(task: Task) -> list[tuple[str, str]]:
    """(name, text) of what is known; whatever is not is left out."""
    times, choice = task.times, task.assignment
    priority = str(task.priority)
    if task.priority != task.submitter_priority:
        priority += f" (submitted with {task.submitter_priority})"
    found = [
        ("goal", task.goal),
        ("intent", task.intent),
        ("submitter", task.submitter_subject_id),
        ("retry of", str(task.data.get("retry_of") or "")),
        ("schedule", str(task.data.get("schedule_id") or "")),
        ("space", task.job_space_id),
        ("mode", task.execution_mode if task.execution_mode != "auto" else ""),
        ("priority", priority),
        ("reason", task.reason),
        ("waits for", ", ".join(map(str, task.waiting_for.get("of") or ()))),
        ("part of", task.parent_task_id),
        ("parts", _parts(task)),
        ("agent", task.agent),
        ("why", f"{choice.strategy}: {choice.because}" if choice else ""),
        ("attempt", f"{task.attempt} of {task.max_attempts}" if task.attempt else ""),
        ("progress", f"{task.progress:g}% {task.progress_message}" if not task.ended and task.progress else ""),
        ("queue", _position(task.queue_position)),
        ("submitted", f"{clock(times.created, date=True)} ({age(times.created)} ago)" if times.created else ""),
        ("not before", clock(times.not_before, date=True)),
        ("deadline", clock(times.deadline, date=True)),
        ("stages", _stages(task)),
    ]
    return [(name, value) for name, value in found if value]


def _parts(task: Task) -> str:
    parts = task.sub_tasks
    if not parts:
        return ""
    where = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in parts.get("by_status", {}).items())
    return f"{parts.get('total')} sub-tasks ({where})"


def _position(before: int | None) -> str:
    return {None: "", 0: "next", 1: "one task is before it"}.get(before, f"{before} tasks are before it")


def _stages(task: Task) -> str:
    """How long it spent where."""
    t = task.times
    parts = [
        ("waited", between(t.queued or t.created, t.assigned)),
        ("to the agent", between(t.assigned, t.started or t.dispatched)),
        ("worked", between(t.started, t.finished)),
        ("in all", between(t.created, t.finished)),
    ]
    return " · ".join(f"{name} {spent}" for name, spent in parts if spent)


def _happened(item: HistoryItem) -> list[str | Text]:
    data = item.data
    if item.kind == "transition":
        return [status_text(str(data.get("status", ""))), str(data.get("reason") or ""), _by(data.get("actor"))]
    if item.kind == "policy":
        script = f"{data['script_id']} version {data.get('script_version')}" if data.get("script_id") else "no script"
        return [str(data.get("hook")), script, str(data.get("error") or json_text(data.get("output")))]
    if item.kind == "assignment":
        return [f"attempt {data.get('attempt')}", str(data.get("agent")), f"{data.get('strategy')}: {data.get('because')}"]
    if item.kind == "decision":
        outcome = str(data.get("outcome") or "").replace("_", " ")
        return [str(data.get("decided") or "").replace("_", " "), outcome, str(data.get("because") or ""), _by(data.get("actor"))]
    if item.kind == "report":
        outcome = "" if data.get("outcome") == "applied" else str(data.get("outcome"))
        return [str(data.get("agent")), str(data.get("type")), _said(data.get("body")), outcome]
    return [json_text(data)]


def _by(actor: Any) -> Text:
    return Text(f"by {clean(actor)}" if actor else "", style="dim")


def _said(body: Any) -> str:
    """What an agent's report says beyond its kind."""
    body = body if isinstance(body, dict) else {}
    percent = f"{body['percent']:g}%" if isinstance(body.get("percent"), int | float) else ""
    words = next((str(body[name]) for name in ("message", "error", "reason") if body.get(name)), "")
    return f"{percent} {words}".strip()


# ---- inbox ------------------------------------------------------------------------------------------------


def inbox(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    found = client.inbox()
    if screen.json:
        screen.document(found.data)
        return Exit.FINE
    lists = [
        ("to do", found.to_do),
        ("in progress", found.in_progress),
        ("to approve", found.approvals),
        ("to assign", found.assignments),
        ("to verify", found.verifications),
    ]
    rows = [(what, task.task_id, age(task.times.created), task.reason, task.goal) for what, tasks in lists for task in tasks]
    if rows:
        screen.table(("WHAT", "TASK", "AGE", "REASON", "GOAL"), rows, flexible="GOAL", shorten=("TASK", "REASON"))
    else:
        screen.note("nothing to do")
    if found.more:
        screen.note("there is more than is shown")
    return Exit.FINE


# ---- cancel, approve, reject ------------------------------------------------------------------------------


def steer(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    verbs: dict[str, Callable[[str, str], Task]] = {
        "cancel": client.cancel,
        "approve": client.approve,
        "reject": client.reject,
        "assign": lambda task_id, reason: client.assign(task_id, options.to, reason),
        "verify": lambda task_id, reason: client.verify(task_id, options.verdict, reason),
    }
    verb = verbs[options.command]

    def one(task_id: str) -> None:
        task = verb(task_id, options.reason)
        if screen.json:
            screen.document(task.data)
        else:
            screen.line(task.task_id, status_text(task.status))

    return each_task(options.task_ids, one, screen)
