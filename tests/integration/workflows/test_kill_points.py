"""A process dies at a named point, whichever: the final result is the same, every item one row, every step one write.

Dying is an exception that nothing catches, at the place where SIGKILL would strike; tests/faults does the same with processes.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from apps.core import clock, failpoint
from apps.tasks.models import Task
from apps.workflows.models import Chunk, Item, Session, Step
from apps.workflows.models_context import ContextWrite
from jobplatform.env import BASE_DIR
from tests.integration.workflows.test_engine import bare, ends, task

pytestmark = pytest.mark.store

POINTS = sorted(
    {
        name
        for file in Path(BASE_DIR / "apps" / "workflows").rglob("*.py")
        for name in re.findall(r'failpoint\("([^"]+)"\)', file.read_text())
    }
)
ELSEWHERE = {"session.steps_written"}
"""Where steps are written in one transaction with their session nobody passes this."""

DOCUMENT = {
    "session_id": "killed",
    "context": {"numbers": list(range(12)), "docs": ["a", "b"]},
    "task_groups": [
        {
            "key": "g",
            "tasks": [
                task("fan", chunk_size=3, expansion_config=bare("n", "numbers")),
                {
                    "key": "flaky", "agent_class": "Fails", "rows": [1, 2], "max_retries": 1, "retry_delays": [1],
                    "expansion_config": bare("until", "rows"),
                },
                {"key": "read", "executor": "agent", "message_template": "{doc}", "expansion_config": bare("doc", "docs")},
                task("race", rows=[1, 2, 3], chunk_size=1, join={"first": 1}, expansion_config=bare("n", "rows")),
            ],
        },
        {
            "key": "h",
            "dependencies": ["g"],
            "tasks": [
                task("sum", input={"fan": "{fan}", "flaky": "{flaky}", "read": "{read}"}, result_keys=["sum"]),
                {"key": "bad", "agent_class": "Fails", "on_failure": "fail", "dependencies": ["sum"]},
            ],
        },
    ],
}  # fmt: skip
SUM = {
    "fan": [{"n": n} for n in range(12)], "flaky": [{"attempt": 1}, {"attempt": 2}], "read": ["done a", "done b"],
}  # fmt: skip


class Died(BaseException):
    pass


@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_any_point_changes_nothing_in_the_end(flow, nats, settings, monkeypatch, point):
    deaths = []

    def die(*_signal):
        deaths.append(point)
        raise Died()

    monkeypatch.setattr("apps.core.failpoint.os.kill", die)
    settings.FAILPOINTS = f"{point}:kill@1"
    failpoint.reset()
    try:
        for _ in range(2):  # whoever submits and hears nothing submits again
            survive(lambda: flow.start(DOCUMENT))
        lived(flow)
        assert flow.get("killed")["status"] == "failed"
        survive(lambda: flow.sessions.retry(flow.principal, "killed", now=clock.now()))
        if flow.get("killed")["run"] == 1:
            flow.sessions.retry(flow.principal, "killed", now=clock.now())
        lived(flow)
    finally:
        settings.FAILPOINTS = ""
        failpoint.reset()
    assert deaths or point in ELSEWHERE
    told = flow.get("killed")
    assert (told["status"], told["run"]) == ("failed", 2)
    assert flow.results("killed")["sum"] == SUM
    assert len(flow.results("killed")["race"]) >= 1
    assert Item.objects.count() == 12 + 2 + 2 + 3 + 1 + 1
    assert not Item.objects.filter(status__in=["pending", "running"]).exists()
    writers = list(ContextWrite.objects.values_list("writer", flat=True))
    assert len(writers) == len(set(writers)) == 6
    assert Task.objects.count() == 2
    assert not Chunk.objects.exclude(status__in=["done", "cancelled"]).exists()


def survive(act) -> None:
    with contextlib.suppress(Died):
        act()


def lived(flow) -> None:
    """Deliver and tend, as time goes by, until it has ended; what dies is a process, not the platform."""
    hand = flow.hand
    for number in range(1, 40):
        while hand.hints:
            survive(lambda: hand.deliver())
        ends(Task.objects.filter(status="queued"))
        # Whoever died: its leases lapse.
        Chunk.objects.filter(status="running").update(lease_until=clock.from_ms(0))
        Step.objects.filter(status="expanding").update(busy_until=clock.from_ms(1))
        if not Session.objects.filter(published=False).exists():
            return
        survive(lambda number=number: hand.tend(30.0 * number))
    raise AssertionError(list(Step.objects.values_list("path", "status", "reason")))
