"""SIGKILL in the middle of a session, one process after the other, then the stores: its result is the one it would have had.

200 items, half on agents, half in workers, and steps that wait for both. The faults come while it runs, each at its share of the
items done; nobody waits for the platform to heal in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.test_kills import empty_redis, kill_and_replace_an_agent, kill_nats_and_lose_its_disk, kill_redis, on
from tests.processes import wait_until
from tests.stacks import Org

pytestmark = pytest.mark.faults

ITEMS = 100
"""On agents, and as many in workers."""
Fault = Callable[[Org], None]


def kill(*names: str) -> Fault:
    """Those processes, and nobody waits until they are up again."""

    def fault(org: Org) -> None:
        for name in [child for child in org.stack.pids if child.startswith(names)]:
            org.stack.kill_outright(name)

    fault.__name__ = f"killing {', '.join(names)}"
    return fault


def lose_redis_and_nats(org: Org) -> None:
    empty_redis(org)
    kill_nats_and_lose_its_disk(org)


def document(session_id: str) -> dict[str, Any]:
    each = {"type": "array", "array_mapping": {"n": "numbers"}, "process_array_output": False}
    return {
        "session_id": session_id,
        "context": {"numbers": list(range(ITEMS))},
        "task_groups": [
            {
                "key": "work",
                "tasks": [
                    {"key": "asked", "message_template": "look at {n}", "input": {"do": {"seconds": 0.6}}, "expansion_config": each},
                    {
                        "key": "done", "agent_class": "Sleeps", "input": {"seconds": 0.1, "n": "{n}"}, "chunk_size": 5,
                        "expansion_config": each,
                    },
                    {
                        "key": "both", "agent_class": "Echo", "dependencies": ["asked", "done"],
                        "input": {"asked": "{asked}", "done": "{done}"},
                    },
                ],
            },
            {
                "key": "after",
                "dependencies": ["work"],
                "tasks": [
                    {"key": "last", "agent_class": "Echo", "input": {"count": "{done}"}},
                    {"key": "word", "message_template": "that is all", "dependencies": ["last"]},
                ],
            },
        ],
    }  # fmt: skip


def hurt(org: Org, session_id: str, faults: dict[float, Fault]) -> None:
    answer = org.api.post("/api/v1/sessions", document(session_id))
    assert answer.status == 201, answer.body

    def done() -> int:
        return sum(row["status"] == "completed" for row in org.stack.rows.workflow_items(org.org_id) if session_id in row["_id"])

    for share, fault in faults.items():
        wait_until(lambda share=share: done() >= share * 2 * ITEMS, seconds=60, what=f"{share:.0%} are done", every=0.1)
        assert done() < 2 * ITEMS, f"{fault.__name__} came too late to be in the middle"
        fault(org)

    def ended() -> dict[str, Any] | None:
        found = org.api.get(f"/api/v1/sessions/{session_id}").json
        return found if found["status"] not in ("running", "paused") else None

    session = wait_until(ended, seconds=90, what=f"{session_id} has ended", every=0.2)
    assert (session["status"], session["partial"]) == ("completed", False), session
    assert_nothing_is_lost_or_doubled(org, session_id)


def assert_nothing_is_lost_or_doubled(org: Org, session_id: str) -> None:
    results = org.api.get(f"/api/v1/sessions/{session_id}/results").json["results"]
    assert [len(results[key]) for key in ("asked", "done")] == [ITEMS, ITEMS]
    assert all(one["words"] == 3 for one in results["asked"])
    assert results["both"] == {"asked": results["asked"], "done": results["done"]}
    assert results["last"] == {"count": results["done"]}
    items = [row for row in org.stack.rows.workflow_items(org.org_id) if session_id in row["_id"]]
    assert Counter(row["status"] for row in items) == {"completed": 2 * ITEMS + 3}
    by_index = {row["index"]: row["result"] for row in items if ".asked#" in row["_id"]}
    assert results["asked"] == [by_index[index] for index in range(ITEMS)]
    # Each item of an agent is one task, which ended once; whoever did it twice was told so by its attempt.
    tasks = [task_id for task_id, row in org.tasks().items() if session_id in str(row["entry"])]
    assert len(tasks) == ITEMS + 1
    wait_until(lambda: not org.violations(tasks), seconds=20, every=0.5, what=f"no promise is broken: {org.violations(tasks)[:5]}")
    events = org.api.get(f"/api/v1/sessions/{session_id}/events?limit=500").json
    ends = Counter((one["path"], one["new"]) for one in events["items"] if one.get("item") is None)
    assert {key: count for key, count in ends.items() if key[1] == "completed" and count != 1} == {}


@on("sqlite")
def test_whoever_dies_the_session_ends_as_if_nobody_had(org):
    faults = {
        0.1: kill("workflows-1"),
        0.2: kill_and_replace_an_agent,
        0.4: kill("listener", "upkeep", "beat"),
        0.6: kill("workflows"),
    }
    hurt(org, "bodies", faults)


@on("sqlite")
def test_whatever_is_lost_but_the_database_the_session_ends_as_if_nothing_had_been(org):
    hurt(org, "stores", {0.15: kill_redis, 0.4: lose_redis_and_nats})
