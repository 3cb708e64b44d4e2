"""Shapes of real workflows on a whole platform: fans of 1,000 and 10,000 items, a graph of 400 tasks and 2,000 edges (with
--every-store of 2,000 and 10,000), groups eight levels deep. Every item is a row of its own, done exactly once, and nothing starts
before what it waits for has ended."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from typing import Any

import pytest

from tests.processes import wait_until
from tests.stacks import Org

pytestmark = pytest.mark.acceptance
SECONDS = 240
WIDTH = 100


def ended(org: Org, document: dict[str, Any]) -> dict[str, Any]:
    """The session, handed in and waited for."""
    created = org.api.post("/api/v1/sessions", document)
    assert created.status in (201, 202), (created.status, created.body[:500])
    path = f"/api/v1/sessions/{created.json['session_id']}"

    def over() -> dict[str, Any] | None:
        found = org.api.get(path).json
        return found if found["status"] not in ("running", "paused") else None

    return wait_until(over, seconds=SECONDS, every=0.2, what=f"session {created.json['session_id']} has ended")


def items(org: Org, session: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows of the session's items by the path of their step, in order."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    key = f"{org.org_id}/{session['session_id']}"
    for row in org.stack.rows.workflow_items(org.org_id):
        if row["session_key"] == key:
            found[row["step_run"].removeprefix(f"{key}:").partition("#")[0]].append(row)
    return {path: sorted(rows, key=lambda row: row["index"]) for path, rows in found.items()}


@pytest.mark.parametrize("count", [1_000, 10_000])
def test_a_fan_is_done_item_by_item_and_merged_in_order(org, count):
    config = {"type": "array", "array_mapping": {"n": "numbers"}, "output_format": "merge"}
    fan = {"key": "fan", "agent_class": "Echo", "expansion_config": config}
    after = {"key": "after", "agent_class": "Echo", "dependencies": ["fan"], "message_template": "{fan.summary}"}
    session = ended(org, {"context": {"numbers": list(range(count))}, "tasks": [fan, after]})
    assert session["status"] == "completed", session
    results = org.api.get(f"/api/v1/sessions/{session['session_id']}/results").json["results"]
    assert [one["n"] for one in results["fan"]["results"]] == list(range(count))
    assert results["after"]["message"] == f"{count} of {count} items completed."
    rows = items(org, session)["main.fan"]
    assert [row["index"] for row in rows] == list(range(count))
    assert {(row["status"], row["attempt"]) for row in rows} == {("completed", 1)}


def graph(rng: random.Random, tasks: int) -> dict[str, list[str]]:
    """Who waits for whom, five edges a task: layers of WIDTH tasks, each waiting for some of the layers before its own."""
    names = [f"t{number}" for number in range(tasks)]
    waits: dict[str, set[str]] = {name: set() for name in names}
    for number in range(WIDTH, tasks):
        waits[names[number]].add(names[number - WIDTH - number % WIDTH + rng.randrange(WIDTH)])
    edges = tasks - WIDTH
    while edges < 5 * tasks:
        number = rng.randrange(WIDTH, tasks)
        other = names[rng.randrange(max(0, number - number % WIDTH - 3 * WIDTH), number - number % WIDTH)]
        edges += other not in waits[names[number]]
        waits[names[number]].add(other)
    return {name: sorted(others) for name, others in waits.items()}


def test_each_task_of_a_graph_starts_once_when_all_it_waits_for_has_ended(org, pytestconfig):
    count = 2_000 if pytestconfig.getoption("every_store") else 400
    waits = graph(random.Random(7), count)
    assert sum(map(len, waits.values())) == 5 * count
    tasks = [
        {"key": name, "agent_class": "Echo", "input": {"me": name}, "dependencies": others, "result_keys": []}
        for name, others in waits.items()
    ]
    session = ended(org, {"tasks": tasks})
    assert session["status"] == "completed", session
    rows = items(org, session)
    assert len(rows) == count
    assert all(len(mine) == 1 and (mine[0]["status"], mine[0]["attempt"]) == ("completed", 1) for mine in rows.values())
    for name, others in waits.items():
        started = str(rows[f"main.{name}"][0]["started_at"])
        assert all(str(rows[f"main.{other}"][0]["finished_at"]) <= started for other in others), name


def test_groups_eight_levels_deep_with_chains_and_diamonds(org):
    def task(key: str, *others: str) -> dict[str, Any]:
        return {"key": key, "agent_class": "Echo", "input": {"me": key}, "dependencies": list(others), "result_keys": [f"{key}_said"]}

    def group(level: int) -> dict[str, Any]:
        """A diamond, and the next level between its sides and its end."""
        a, b, c, d = (f"{side}{level}" for side in "abcd")
        inner = [{**group(level + 1), "dependencies": [b, c]}] if level < 8 else []
        return {
            "key": f"g{level}",
            "tasks": [task(a), task(b, a), task(c, a), task(d, *([f"g{level + 1}"] if inner else [b, c]))],
            "task_groups": inner,
        }

    began = time.monotonic()
    session = ended(org, {"task_groups": [group(1)]})
    assert session["status"] == "completed", (session, time.monotonic() - began)
    rows = items(org, session)
    assert len(rows) == 32
    at = {path.rpartition(".")[2]: (str(mine[0]["started_at"]), str(mine[0]["finished_at"])) for path, mine in rows.items()}
    for level in range(1, 9):
        for early, late in (("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")):
            assert at[f"{early}{level}"][1] <= at[f"{late}{level}"][0]
        if level < 8:
            assert at[f"b{level}"][1] <= at[f"a{level + 1}"][0] and at[f"d{level + 1}"][1] <= at[f"d{level}"][0]
