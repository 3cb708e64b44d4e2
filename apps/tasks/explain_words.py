"""One sentence for each thing that was decided about a task. Plain functions of rows; what users wrote stays as it is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apps.agents.market.records import Auction
from apps.core import clock
from apps.dsl import answers
from apps.dsl.models import PolicyRun
from apps.dsl.policies import Hook
from apps.tasks.models import Assignment, Decision, Task, Transition
from apps.tasks.states import TaskStatus

LONGEST = 400
S = TaskStatus
ENDED = {S.COMPLETED: "Completed", S.FAILED: "Failed", S.REJECTED: "Rejected", S.CANCELLED: "Cancelled", S.EXPIRED: "Expired"}
NAMES = {"auction_input": "auction", "plan_retrieve": "plan+retrieve"}
"""What people call a hook."""


def policy(run: PolicyRun) -> str:
    script = f"{run.script_id}@{run.script_version}" if run.script_version else run.script_id
    if run.error:
        instead = f"; {run.instead}" if run.instead else ""
        return _sentence(f"The {NAMES.get(run.hook, run.hook)} policy {script} gave no answer ({run.error}){instead}")
    said = run.output or {}
    reason = _because(said.get("reason"))
    match run.hook:
        case Hook.APPROVAL:
            verdict = {True: "approved it", False: "refused it"}.get(said.get("accepted"), "left it to a person")
            return _sentence(f"{script} {verdict}{reason}")
        case Hook.PRIORITY:
            return _sentence(f"{script} set the priority to {said.get('priority')}{reason}")
        case Hook.AUCTION_INPUT:
            besides = f"; it also said what are {found}" if (found := answers.strangers(Hook.AUCTION_INPUT, said)) else ""
            return _sentence(f"{script} set the terms of the auction{reason}{besides}")
        case _:
            return _sentence(f"{script} picked {said.get('head_agent_subject_id')}{reason}")


def auction(row: Auction) -> str:
    who = "The org's auction service" if row.source == "service" else f"An auction among {many(row.called, 'candidate')}"
    if row.winner:
        pays = f", pays {row.pays:g}" if row.pays is not None and row.pays != row.price else ""
        price = f" for {row.price:g}{pays}" if row.price is not None else ""
        of = f", out of {many(row.bids, 'bid')}" if row.bids else ""
        return _sentence(f"{who} went to {row.winner}{price}{of}{_because(row.because)}")
    return _sentence(f"{who} found nobody ({row.outcome.replace('_', ' ')}){_because(row.because)}")


def decision(row: Decision) -> str:
    if row.kind == "no_head_agent":
        found = "Nobody could be found yet, and it waits" if row.outcome == "waits" else "Nobody could be found, so it failed"
        return _sentence(f"{found}{_because(row.because)}")
    return _sentence(f"{_spoken(row.kind).capitalize()}: {row.outcome.replace('_', ' ')} by {row.actor}{_because(row.because)}")


def assignment(row: Assignment, charged: float | None = None, took_s: float | None = None) -> str:
    made = row.decision
    promise = made.get("promise") or {}
    kept = f"; it took {took_s:.3g} s, having promised {promise['eta_s']:g} s" if took_s is not None and promise.get("eta_s") else ""
    if charged is not None:
        kept += f"; it charged {charged:g}"
        if (promised := promise.get("price")) is not None:
            kept += f", having promised {promised:g}"
    pool = f" from {many(made['pool_size'], 'candidate')}" if isinstance(made.get("pool_size"), int) else ""
    refused = "".join(f"; {each['strategy']}, asked before, found nobody: {each['why']}" for each in made.get("refusals", ()))
    stale = "; the role service's last answer was used" if (made.get("roles") or {}).get("stale") else ""
    chosen = f"Attempt {row.attempt}: {row.head_agent_subject_id} was chosen by {row.strategy}{pool}{_because(row.because)}"
    return _sentence(f"{chosen}{refused}{stale}{kept}")


def transition(row: Transition) -> str:
    moved = f"{_spoken(row.old)} → {_spoken(row.new)}" if row.old else f"Came in as {_spoken(row.new)}"
    return _sentence(f"{moved}{_because(row.reason)} ({row.actor})")


def whole(task: Task, waiting: dict[str, Any] | None, *, now: datetime) -> str:
    """Where it is and why."""
    status = S(task.status)
    if status in ENDED:
        took = f" after {span(task.created_at, task.finished_at)}" if task.finished_at else ""
        by = f" by {task.head_agent_subject_id}" if task.head_agent_subject_id and status == S.COMPLETED else ""
        tries = f", in attempt {task.attempt}" if task.attempt > 1 else ""
        why = _because(task.reason) if status != S.COMPLETED else ""
        return _sentence(f"{ENDED[status]}{by}{took}{tries}{why}")
    if waiting is None:
        return _sentence(f"It is {_spoken(status)}")
    if status in (S.DISPATCHED, S.RUNNING, S.ASSIGNED):
        since = task.started_at or task.dispatched_at or task.assigned_at
        for_ = f" for {span(since, now)}" if since else ""
        doing = "works on it" if status == S.RUNNING else "has it, and has not begun,"
        progress = f", {task.progress:g} % done" if task.progress else ""
        return _sentence(f"{task.head_agent_subject_id} {doing}{for_}, attempt {task.attempt} of {task.max_attempts}{progress}")
    held = f": {'; '.join(waiting['held_by'])}" if waiting["held_by"] else ""
    place = ""
    if waiting.get("position") is not None:
        place = f", {'next' if not waiting['position'] else str(waiting['position']) + ' before it'} in its job space"
    return _sentence(f"Waits for {waiting['for']}{place}{held}")


def _because(text: Any) -> str:
    return f": {text}" if isinstance(text, str) and text else ""


def _spoken(word: str) -> str:
    return str(word).replace("_", " ")


def many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def span(since: datetime, until: datetime) -> str:
    ms = max(0, clock.to_ms(until) - clock.to_ms(since))
    if ms < 1000:
        return f"{ms} ms"
    seconds = ms / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _sentence(text: str) -> str:
    """One line that ends like one."""
    line = " ".join(text.split())
    line = line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
    return line if line.endswith((".", "…", "?", "!")) else f"{line}."
