"""Tasks as they live: through intake, queue, agents and reports, on the real services."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from django.apps import apps

from apps.agents.heartbeats import tend as tend_agents
from apps.core import clock, ids
from apps.core.auth import Principal
from apps.messaging import subjects
from apps.messaging.connection import wire
from apps.messaging.consumer import PullConsumer
from apps.messaging.envelope import AgentReport, ReportKind
from apps.tasks.executor import JobExecutor
from apps.tasks.intake import TaskIntake
from apps.tasks.models import Task
from apps.tasks.parser import InitialJobParser
from apps.tasks.results import ReportDesk
from tests.factories import make_entry

OURS = ("agents", "dsl", "jobs", "orgs", "people", "roles", "tasks", "webhooks", "workflows")


def models() -> list:
    """Every table of our own rooms, as its model."""
    return [model for label in OURS for model in apps.get_app_config(label).get_models() if not model._meta.proxy]


def rows() -> Counter[str]:
    """How many rows each table has."""
    return Counter({model._meta.label: number for model in models() if (number := model._base_manager.count())})


def submit(org_id: str, *task_ids: str, kind: str = "task", **more) -> None:
    who = Principal(org_id=org_id, role="submitter", subject_id="sam", key_id="k1", name="sam's key")
    parse = InitialJobParser().parse
    entries = [
        parse(make_entry(**{"task_id": one, "submitter_subject_id": f"{org_id}:sam", **more}), kind=kind)
        for one in task_ids
    ]
    verdicts = TaskIntake().submit_many(entries, who, now=clock.now())
    assert all(verdict.status is not None for verdict in verdicts), [verdict.error for verdict in verdicts]


def dispatch(now: datetime) -> None:
    """Give everything that waits to agents; they fetch it."""
    while JobExecutor().run_batch(now=now):
        pass
    holders = Task.objects.filter(status="dispatched").order_by().values_list("org_id", "head_agent_subject_id")
    for org_id, agent in set(holders):
        token = subjects.agent_token(org_id, agent)
        inbox = PullConsumer(subjects.DELIVERIES, token)
        while (there := wire().deliveries_of(token)).unfetched or there.unacknowledged:
            inbox.ack(inbox.fetch(200, 0.1))
        inbox.close()


def report(task: Task, kind: ReportKind, *, seq: int, now: datetime, **body) -> AgentReport:
    return AgentReport(
        org_id=task.org_id, task_id=task.task_id, agent=task.head_agent_subject_id, kind=kind, attempt=task.attempt, seq=seq, at=now, **body
    )


def do(org_id: str, *task_ids: str, kind: ReportKind = ReportKind.COMPLETED, **body) -> None:
    """Dispatch what waits, and have agents end these."""
    now = clock.now()
    dispatch(now)
    tasks = list(Task.objects.filter(pk__in=[ids.task_key(org_id, one) for one in task_ids], status="dispatched"))
    assert len(tasks) == len(task_ids), list(Task.objects.values_list("key", "status", "reason"))
    told = {ReportKind.COMPLETED: {"result": {"words": 7}}, ReportKind.FAILED: {"error": "no", "retryable": False}}[kind]
    ReportDesk().apply([report(task, ReportKind.PROGRESS, seq=1, now=now, percent=40.0, message="reading") for task in tasks], now=now)
    ReportDesk().apply([report(task, kind, seq=2, now=now, **told, **body) for task in tasks], now=now)
    tend_agents(now=now)
