"""SIGKILL in the middle of 500 tasks: every accepted task ends, exactly once, whoever dies.

The checker reads the database's rows and the agents' own histories; it knows nothing of how the platform recovers.
"""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import psutil
import pytest
import redis

from tests.checker import read_histories
from tests.processes import wait_until
from tests.stacks import Org

pytestmark = pytest.mark.faults
SECONDS = 0.08
"""What one task takes: two agents of eight slots need about three seconds for 500, so a fault comes in the middle."""

Fault = Callable[[Org], None]


def kill_a_dispatcher(org: Org) -> None:
    org.stack.kill("dispatch-1")


def kill_all_dispatchers(org: Org) -> None:
    for name in [name for name in org.stack.pids if name.startswith("dispatch")]:
        org.stack.kill(name)


def kill_the_listener(org: Org) -> None:
    org.stack.kill("listener")


def kill_upkeep_and_beat(org: Org) -> None:
    org.stack.kill("upkeep-1")
    org.stack.kill("beat")


def kill_an_agent(org: Org) -> None:
    org.processes["ada"].kill()


def kill_and_replace_an_agent(org: Org) -> None:
    org.processes["ada"].kill()
    org.start("ada")


def kill_redis(org: Org) -> None:
    org.stack.kill("redis")


def empty_redis(org: Org) -> None:
    with redis.Redis.from_url(org.stack.state["urls"]["redis"]) as client:
        client.flushall()


def kill_nats(org: Org) -> None:
    org.stack.kill("nats")


def kill_nats_and_lose_its_disk(org: Org) -> None:
    supervisor = org.stack.process.process
    supervisor.send_signal(signal.SIGSTOP)  # else it would have a new server up before the disk is gone
    try:
        before = org.stack.kill_outright("nats")
        shutil.rmtree(org.stack.data / "nats" / "jetstream")
    finally:
        supervisor.send_signal(signal.SIGCONT)
    wait_until(lambda: org.stack.pids.get("nats", before) != before, what="nats is started again")


def lose_everything_but_the_database(org: Org) -> None:
    empty_redis(org)
    kill_nats_and_lose_its_disk(org)


FAULTS: tuple[Fault, ...] = (
    kill_a_dispatcher,
    kill_all_dispatchers,
    kill_the_listener,
    kill_upkeep_and_beat,
    kill_an_agent,
    kill_and_replace_an_agent,
    kill_redis,
    empty_redis,
    kill_nats,
    kill_nats_and_lose_its_disk,
    lose_everything_but_the_database,
)
AGAIN_ON_MONGODB: tuple[Fault, ...] = (kill_all_dispatchers, kill_the_listener, kill_redis, lose_everything_but_the_database)
"""Where the store's own way of writing makes a difference; fewer tasks, because secantusdb is slow."""


def on(store: str) -> Any:
    """The platform of a test, by the home of its tasks."""
    return pytest.mark.parametrize("stack", [store], indirect=True, scope="session")


def by_name(faults: tuple[Fault, ...]) -> Any:
    return pytest.mark.parametrize("fault", faults, ids=lambda fault: fault.__name__)


def frozen_at_work(org: Org, name: str) -> bool:
    """Freeze the agent; true when it stopped inside a task that holds all of it, so its result comes before it hears of anything."""
    process = org.processes[name].process
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, what="frozen", every=0.001)
    events = Counter(line["event"] for line in read_histories(org.history) if line["agent"] == name)
    if events["start"] > events["end"]:
        return True
    process.send_signal(signal.SIGCONT)
    return False


def submit(org: Org, count: int, **do: Any) -> list[str]:
    """Submit so many tasks; their ids."""
    entries = [org.entry(do=do or {"seconds": SECONDS}) for _ in range(count)]
    *verdicts, _summary = org.api.submit_bulk(entries)
    assert {verdict["status"] for verdict in verdicts} == {"queued"}
    return [entry["task_id"] for entry in entries]


def completed(org: Org) -> int:
    return org.stack.rows.statuses(org.org_id).get("completed", 0)


def hurt(org: Org, fault: Fault, count: int) -> None:
    task_ids = submit(org, count)
    wait_until(lambda: completed(org) >= count // 5, what="in the middle", every=0.02)
    assert completed(org) < count, "the fault came too late to be in the middle"
    fault(org)
    assert org.all_ended(count, seconds=120) == {"completed": count}
    if org.stack.tasks_url:
        # No transactions there: what a killed mover did not come to tell is told by the next reconciliation.
        wait_until(lambda: not org.violations(task_ids), seconds=40, every=0.5, what="the history is complete")
    assert org.violations(task_ids) == []


@on("sqlite")
@by_name(FAULTS)
def test_every_accepted_task_ends_exactly_once(org, fault):
    hurt(org, fault, 500)


@on("mongodb")
@by_name(AGAIN_ON_MONGODB)
def test_every_accepted_task_ends_exactly_once_on_mongodb_too(org, fault):
    hurt(org, fault, 120)


@on("sqlite")
def test_a_web_server_killed_under_clients_that_try_again_makes_one_task_of_each(org):
    entries = [org.entry() for _ in range(60)]

    def submit_until_answered(entry: dict[str, Any]) -> int:
        def answered() -> int | None:
            try:
                answer = org.api.submit(entry, wait=0)
            except (OSError, HTTPException):  # the server was killed before it answered: nobody knows, so ask again with the same id
                return None
            return answer.status if answer.status < 500 else None

        return wait_until(answered, seconds=60, every=0.1, what="an answer")

    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(submit_until_answered, entry) for entry in entries]
        for share in (10, 30):
            wait_until(lambda share=share: sum(answer.done() for answer in answers) >= share, every=0.01)
            org.stack.kill("web")
        assert {answer.result() for answer in answers} <= {200, 202}
    assert org.all_ended(60) == {"completed": 60}
    assert org.violations([entry["task_id"] for entry in entries]) == []


@on("sqlite")
def test_an_agent_frozen_past_its_lease_loses_its_tasks_and_its_late_results_change_nothing(org):
    ada = org.processes["ada"].process
    task_ids = submit(org, 100, block=SECONDS)
    wait_until(lambda: completed(org) >= 10, what="in the middle", every=0.02)
    wait_until(lambda: frozen_at_work(org, "ada"), what="frozen inside a task", every=0.02)
    try:
        assert org.all_ended(100, seconds=90) == {"completed": 100}
    finally:
        ada.send_signal(signal.SIGCONT)
    replaced = [task for task in org.tasks().values() if task["attempt"] > 1]
    assert replaced
    before = {task["task_id"]: (task["result"], task["last_transition_id"]) for task in replaced}

    def late_voices() -> int:
        return sum(row["outcome"] == "stale" for row in org.stack.rows.reports(org.org_id))

    wait_until(late_voices, what="the frozen agent woke up and reported")
    assert {task["task_id"]: (task["result"], task["last_transition_id"]) for task in org.tasks().values() if task["attempt"] > 1} == before
    assert Counter(task["head_agent_subject_id"] for task in replaced) == {"bo": len(replaced)}
    assert org.violations(task_ids) == []
