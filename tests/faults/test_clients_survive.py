"""The web process dies under clients that submit, follow and wait: they take up where they were, and nothing is lost or doubled."""

from __future__ import annotations

import threading

import pytest

from jobplatform_sdk import Client, Patience
from tests.stacks import STORES

pytestmark = pytest.mark.faults
LASTING = Patience(retries=30, ceiling_seconds=2.0)


@pytest.mark.parametrize("stack", STORES, indirect=True, scope="session")
def test_clients_outlive_the_web_process(org):
    count = 600 if org.stack.tasks_url else 1500
    followed, seen = [], threading.Event()

    def follow(task_id: str) -> None:
        with Client(org.stack.url, org.keys["sam"], patience=LASTING) as client:
            for event in client.follow(task_id):
                followed.append(event)
                if event.status == "running":
                    seen.set()

    with Client(org.stack.url, org.keys["sam"], patience=LASTING) as client:
        slow = client.submit(goal="g", intent="i", payload={"do": {"seconds": 12}}, wait=0).task_id
        follower = threading.Thread(target=follow, args=(slow,), daemon=True)
        follower.start()
        assert seen.wait(30)
        killer = threading.Thread(target=org.stack.kill, args=("web",), daemon=True)
        verdicts = []
        for verdict in client.submit_many({"task_id": f"t{number}", "goal": "g", "intent": "i"} for number in range(count)):
            verdicts.append(verdict)
            if len(verdicts) == count // 3:
                killer.start()
        killer.join(60)
        assert sorted(verdict.line for verdict in verdicts) == list(range(1, count + 1))
        assert all(verdict.accepted for verdict in verdicts)
        assert client.wait(slow, timeout=60).completed
    follower.join(60)
    assert followed[-1].status == "completed"
    moves = [(event.old, event.status) for event in followed if event.kind == "status"]
    assert len(moves) == len(set(moves))  # one attempt, so each move was told once
    ids = [slow, *(verdict.task_id for verdict in verdicts)]
    assert org.all_ended(len(ids), seconds=120) == {"completed": len(ids)}
    assert org.violations(ids) == []
