"""An org with three agents that are up, tasks that travel, and silence that makes leases lapse; on a real Redis and NATS."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from apps.agents.presence import PresenceBoard
from apps.core import clock, ids
from apps.messaging.envelope import AgentReport, ReportKind
from apps.tasks.executor import JobExecutor
from apps.tasks.models import Task
from apps.tasks.queue import PriorityQueue, item_of
from apps.tasks.results import ReportDesk
from apps.tasks.sweeper import HEARING_SECONDS, Listening, Sweeper
from tests.factories import NOON, make_agent, make_entry, make_org, make_task


class Floor:
    """One org's tasks and agents; time moves by hand."""

    def __init__(self, org_id: str = "acme") -> None:
        self.org_id, self.now, self.seq, self.slots = org_id, NOON, 0, 8

    def hire(self, *names: str, **fields: Any) -> None:
        for name in names:
            make_agent(self.org_id, name, **fields)

    def later(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def beat(self, *names: str) -> None:
        for name in names:
            PresenceBoard().record(self.org_id, name, slots=self.slots, instance=f"i-{name}", leaving=False, now=self.now)

    def queue(self, *names: str, steering: dict[str, Any] | None = None, **fields: Any) -> None:
        for name in names:
            entry = make_entry(task_id=name, submitter_subject_id=f"{self.org_id}:sam", task_streeability_data=steering or {})
            task = make_task(name, org_id=self.org_id, entry=entry, sequence=clock.sequence(), now=self.now, **fields)
            PriorityQueue().push(self.org_id, [item_of(task)], now=self.now)

    def dispatch(self) -> int:
        return JobExecutor().run_batch(now=self.now)

    def task(self, name: str) -> Task:
        return Task.objects.get(pk=ids.task_key(self.org_id, name))

    def agent_of(self, name: str) -> str:
        return self.task(name).head_agent_subject_id

    def tasks(self) -> dict[str, Task]:
        return {task.task_id: task for task in Task.objects.filter(org_id=self.org_id)}

    def says(self, *names: str, kind: ReportKind, **body: Any) -> None:
        """The present agent of each task reports, all at once."""
        rows = {name: self.task(name) for name in names} if len(names) < 5 else self.tasks()
        self.seq += 1
        reports = [
            AgentReport(
                org_id=self.org_id, task_id=name, agent=rows[name].head_agent_subject_id, kind=kind, attempt=rows[name].attempt,
                seq=self.seq, at=self.now, **body,
            )
            for name in names
        ]  # fmt: skip
        ReportDesk().apply(reports, now=self.now)

    def runs(self, *names: str) -> None:
        self.says(*names, kind=ReportKind.ACCEPTED)

    def completes(self, *names: str, **body: Any) -> None:
        self.says(*names, kind=ReportKind.COMPLETED, **{"result": 1, **body})

    def fails(self, *names: str, retryable: bool = False) -> None:
        self.says(*names, kind=ReportKind.FAILED, error="broken", retryable=retryable)

    def silence(self, seconds: float = 21, *, but: Iterable[str] = ()) -> None:
        """Nobody is heard for so long `but` these, though somebody listens."""
        self.later(seconds)
        self.beat(*but)
        Listening().mark(now=self.now - timedelta(seconds=HEARING_SECONDS))
        Sweeper().lapse(now=self.now)


@pytest.fixture
def floor(transactional_db, redis, nats) -> Floor:
    make_org("acme", retry_backoff_s=0, max_attempts=5)
    return Floor()
