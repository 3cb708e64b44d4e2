"""An org whose queue is looked at, and short ways to give it tasks and to dispatch them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from apps.tasks.executor import JobExecutor
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Task
from apps.tasks.queue import PriorityQueue, item_of
from tests.factories import NOON, make_agent, make_org, make_task


class Yard:
    """Tasks of `acme` (or another org): stored, queued, dispatched, ended."""

    def org(self, org_id: str = "acme", *, agents: int = 1, **config: Any) -> None:
        from apps.orgs.config_store import OrgConfigProvider

        make_org(org_id, retry_backoff_s=0, **config)
        for number in range(agents):
            make_agent(org_id, f"agent-{number}")
        OrgConfigProvider().refresh(org_id)
        TaskLoader().reconcile(now=NOON)

    def put(self, *names: str, org: str = "acme", key: str = "", limit: int = 1, mode: str = "queue", **fields: Any) -> list[Task]:
        if key:
            fields |= {"concurrency_key": key, "concurrency_limit": limit, "concurrency_mode": mode}
        tasks = [make_task(name, org_id=org, **fields) for name in names]
        PriorityQueue().push(org, [item_of(task) for task in tasks], now=fields.get("now", NOON))
        return tasks

    def dispatch(self, now: datetime = NOON) -> int:
        return JobExecutor().run_batch(now=now)

    def status(self, name: str, org: str = "acme") -> str:
        return Task.objects.get(pk=f"{org}/{name}").status

    def with_agents(self, org: str = "acme") -> list[str]:
        rows = Task.objects.filter(org_id=org, status__in=["assigned", "dispatched", "running"])
        return sorted(rows.values_list("task_id", flat=True))

    def end(self, *names: str, org: str = "acme", kind: str = "completed", now: datetime = NOON) -> None:
        from apps.messaging.envelope import AgentReport, ReportKind
        from apps.tasks.results import ReportDesk

        tasks = [Task.objects.get(pk=f"{org}/{name}") for name in names]
        more = {"result": {}} if kind == "completed" else {"error": "x", "retryable": True}
        reports = [
            AgentReport(
                org_id=org, task_id=task.task_id, agent=task.head_agent_subject_id, kind=ReportKind(kind), attempt=task.attempt,
                seq=1, at=now, **more,
            )
            for task in tasks
        ]  # fmt: skip
        ReportDesk().apply(reports, now=now)


@pytest.fixture
def yard() -> Yard:
    return Yard()


@pytest.fixture
def caller() -> Callable[..., Any]:
    from tests.factories import make_key
    from tests.integration.tasks_api.conftest import Caller

    def make(role: str = "submitter", org_id: str = "acme") -> Any:
        make_org(org_id)
        return Caller(make_key(org_id, role))

    return make
