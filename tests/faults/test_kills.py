"""SIGKILL in the middle of 500 tasks: every accepted task ends, exactly once, whoever dies.

The checker reads the database's rows and the agents' own histories; it knows nothing of how the platform recovers.
"""

from __future__ import annotations

import shutil
import signal

import pytest
import redis

from tests.processes import wait_until
from tests.stacks import Org

pytestmark = pytest.mark.faults
TASKS = 500
SECONDS = 0.08
"""What one task takes: two agents of eight slots need about three seconds for all, so a fault comes in the middle."""


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


FAULTS = (
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
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_every_accepted_task_ends_exactly_once(org, fault):
    entries = [org.entry(do={"seconds": SECONDS}) for _ in range(TASKS)]
    *verdicts, _summary = org.api.submit_bulk(entries)
    assert {verdict["status"] for verdict in verdicts} == {"queued"}
    wait_until(lambda: org.stack.rows.statuses(org.org_id).get("completed", 0) >= TASKS // 5, what="in the middle", every=0.02)
    fault(org)
    middle = org.stack.rows.statuses(org.org_id)
    assert middle.get("completed", 0) < TASKS, "the fault came too late to be in the middle"
    assert org.all_ended(TASKS, seconds=90) == {"completed": TASKS}
    assert org.violations([entry["task_id"] for entry in entries]) == []
