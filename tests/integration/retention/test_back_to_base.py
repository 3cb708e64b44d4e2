"""Whatever ran, its time over, the platform is as large as it was before: rows, keys and streams."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core import clock
from apps.jobs import upkeep as jobs_upkeep
from apps.messaging import streams
from apps.messaging.connection import wire
from apps.messaging.envelope import ReportKind
from apps.retention.keeper import Keeper
from apps.tasks.models import Task
from apps.tasks.operating import dead_letters
from apps.tasks.results import ReportDesk
from apps.webhooks.derive import Deriver
from apps.webhooks.models import Delivery
from apps.workflows.models import Session
from tests.factories import make_agent
from tests.integration.jobs import samples
from tests.integration.retention.life import dispatch, do, report, rows, submit
from tests.integration.webhooks.conftest import serve
from tests.processes import wait_until

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]

TASKS, JOBS, SESSIONS = 20, 5, 2


def stored() -> dict[str, int]:
    """Messages in each stream."""

    async def look() -> dict[str, int]:
        found = await streams.call(wire().link, "STREAM.LIST", {})
        return {one["config"]["name"]: one["state"]["messages"] for one in found["streams"] or []}

    return wire().call(look(), 5)


def for_good(redis) -> set[str]:
    """Keys that do not go by themselves."""
    return {name for name in redis.keys("*") if redis.ttl(name) == -1}


def run_everything(flow, hand, desk, queue, row) -> None:
    names = [f"t{number}" for number in range(TASKS)]
    submit("acme", *names)
    do("acme", *names[:-5])
    do("acme", *names[-5:-3], kind=ReportKind.FAILED)
    for name in names[-5:-3]:
        dead_letters.discard(dead_letters.find("acme", name), reason="seen", actor="olga", now=clock.now())
    items = {"type": "array", "array_mapping": {"doc": "docs"}}
    step = {"key": "read", "executor": "agent", "message_template": "Read {doc}", "expansion_config": items}
    echo = {"key": "echo", "agent_class": "Echo", "expansion_config": items, "dependencies": ["read"]}
    for _ in range(SESSIONS):
        flow.start({"context": {"docs": ["a", "b", "c"]}, "tasks": [step, echo]})
    hand.deliver()
    dispatch(clock.now())
    now = clock.now()
    left = list(Task.objects.filter(status="dispatched"))
    ReportDesk().apply([report(task, ReportKind.COMPLETED, seq=1, now=now, result="read") for task in left], now=now)
    hand.settle()
    for number in range(JOBS):
        desk.submit(samples.double, number)
    queue.run_all()
    tell(row)


def tell(row) -> None:
    Deriver().run(now=clock.now())
    serve(row, now=clock.now(), waves=500)


def test_rows_keys_and_streams_return_to_what_they_were(flow, hand, desk, queue, endpoint, redis):
    from tests.factories import make_org

    make_org("acme", task_retention_days=30, webhook_retention_days=30, default_agent_slots=100)
    make_agent("acme", "ada")
    row, _ = endpoint()
    submit("acme", "warm-up")
    do("acme", "warm-up")
    tell(row)
    Keeper().run(now=clock.now() + timedelta(days=31))
    wait_until(lambda: not any(stored().values()), what="acknowledged messages are gone")
    base = rows(), for_good(redis), stored()
    run_everything(flow, hand, desk, queue, row)
    assert set(Task.objects.values_list("status", flat=True)) == {"completed", "failed"}
    assert Session.objects.filter(status="completed").count() == SESSIONS
    assert Delivery.objects.exclude(state="delivered").count() == 0 < Delivery.objects.count()
    assert sum(rows().values()) > sum(base[0].values()) + TASKS * 5

    late = clock.now() + timedelta(days=31)
    Keeper().run(now=late)
    jobs_upkeep.tend_jobs(now=late)
    jobs_upkeep.tend_jobs(now=late + timedelta(days=31))
    assert (rows(), for_good(redis)) == base[:2]
    wait_until(lambda: stored() == base[2], what="acknowledged messages are gone")
