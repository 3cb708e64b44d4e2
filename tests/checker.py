"""Decides, from what is left behind, whether the platform kept its promises.

Independent of the platform's own code paths: it reads the rows as they lie in the database and the history files that
agents wrote themselves. The invariants' numbers are those of docs (I1 nothing lost, I2 only drawn moves, I6 fencing,
I7 attempts, I8 one result).

A history line: {"event": "start" | "end", "task_id", "attempt", "agent", "pid", "at": seconds, "nonce", "outcome"}.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apps.tasks.states import TASK_STATES, TERMINAL, TaskStatus

Row = Mapping[str, Any]
CLOCK_SECONDS = 0.05
"""Two processes of one machine may read the clock in the other order by this much."""


def read_histories(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in sorted(directory.glob("*.history")) for line in file.read_text().splitlines()]


def violations(
    *,
    accepted: Iterable[str],
    tasks: Sequence[Row],
    transitions: Sequence[Row],
    assignments: Sequence[Row] = (),
    reports: Sequence[Row] = (),
    history: Sequence[Row] = (),
) -> list[str]:
    """Every broken promise in words; empty when all is well. `accepted`: ids of tasks the caller was told are accepted."""
    by_id = {row["task_id"]: row for row in tasks}
    found = [f"I1 {task_id}: accepted, but not in the database" for task_id in sorted(set(accepted) - by_id.keys())]
    moves, chosen, heard, runs = _grouped(transitions), _grouped(assignments), _grouped(reports), _grouped(history, "task_id")
    for task_id, task in sorted(by_id.items()):
        problems = [
            *_life(task, moves[task["_id"]]),
            *_attempts(task, chosen[task["_id"]], runs[task_id]),
            *_result(task, moves[task["_id"]], chosen[task["_id"]], heard[task["_id"]], runs[task_id]),
        ]
        found += [f"{problem[:2]} {task_id}: {problem[3:]}" for problem in problems]
    return found


def _grouped(rows: Sequence[Row], name: str = "task_key") -> defaultdict[str, list[Row]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[name]].append(row)
    return groups


def _life(task: Row, moves: list[Row]) -> Iterable[str]:
    """The moves form one path from birth to the present status; a terminal one is the last."""
    status = task["status"]
    if status not in TERMINAL:
        yield f"I1 never ended: {status} ({task['reason']})"
    for move in moves:
        if move["old"] and not TASK_STATES.allows(TaskStatus(move["old"]), TaskStatus(move["new"])):
            yield f"I2 moved from {move['old']} to {move['new']}, which the table does not have"
    births = sum(not move["old"] for move in moves)
    if births != 1:
        yield f"I2 was born {births} times"
    ends = [move["new"] for move in moves if move["new"] in TERMINAL]
    if len(ends) > 1 or (ends and ends != [status]):
        yield f"I2 ended as {' and '.join(sorted(ends))}, is {status}"
    # Each state is entered as often as it is left, but for the present one: then the moves make one path in some order.
    balance = Counter(move["new"] for move in moves)
    balance.subtract(move["old"] for move in moves if move["old"])
    open_ends = {state: count for state, count in balance.items() if count}
    if open_ends != {status: 1}:
        yield f"I2 its transitions do not lead to {status}: {dict(open_ends)}"


def _attempts(task: Row, chosen: list[Row], runs: list[Row]) -> Iterable[str]:
    numbers = sorted(row["attempt"] for row in chosen)
    if len(set(numbers)) != len(numbers):
        yield f"I6 an attempt number was given twice: {numbers}"
    if numbers and task["attempt"] < numbers[-1]:
        yield f"I6 is at attempt {task['attempt']}, but {numbers[-1]} was given"
    if task["attempt"] > task["max_attempts"]:
        yield f"I7 had {task['attempt']} attempts of {task['max_attempts']}"
    starts = Counter((run["attempt"]) for run in runs if run["event"] == "start")
    for attempt, count in starts.items():
        if count > 1:
            yield f"I7 attempt {attempt} was started {count} times"
    if sum(starts.values()) > task["attempt"]:
        yield f"I7 was started {sum(starts.values())} times in {task['attempt']} attempts"
    agents = {row["attempt"]: row["head_agent_subject_id"] for row in chosen}
    for run in runs:
        if agents and agents.get(run["attempt"]) != run["agent"]:
            yield f"I6 attempt {run['attempt']} was run by {run['agent']}, but given to {agents.get(run['attempt'])}"


def _result(task: Row, moves: list[Row], chosen: list[Row], heard: list[Row], runs: list[Row]) -> Iterable[str]:
    applied = [row for row in heard if row["kind"] in ("completed", "failed") and row["outcome"] == "applied"]
    for attempt, count in Counter(row["attempt"] for row in applied).items():
        if count > 1:
            yield f"I8 {count} results of attempt {attempt} were applied"
    finished = _seconds(task.get("finished_at"))
    if finished:
        late = [run for run in runs if run["event"] == "start" and run["at"] > finished + CLOCK_SECONDS]
        for run in late:
            yield f"I8 attempt {run['attempt']} was started {run['at'] - finished:.3f} s after the end"
    if task["status"] != TaskStatus.COMPLETED:
        return
    end = next((move for move in moves if move["new"] == TaskStatus.COMPLETED), None)
    if end is not None and end["attempt"] != task["attempt"]:
        yield f"I6 was completed by attempt {end['attempt']} while at {task['attempt']}"
    result = task["result"]
    if isinstance(result, Mapping) and "nonce" in result:
        if result["attempt"] != task["attempt"]:
            yield f"I6 keeps the result of attempt {result['attempt']} while at {task['attempt']}"
        if runs and result["nonce"] not in {run["nonce"] for run in runs if run["attempt"] == task["attempt"]}:
            yield "I8 keeps a result that no agent of this attempt made"


def _seconds(at: Any) -> float:
    if at is None:
        return 0.0
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
