"""The platform's parts by hand, inside one process: the test calls each with the time it likes."""

from __future__ import annotations

from apps.agents.presence import PresenceBoard
from apps.core import clock
from apps.messaging.envelope import AgentReport, ReportKind
from apps.tasks.models import Task
from apps.tasks.queue import PriorityQueue, item_of
from tests.factories import make_task


def seen(*agents: str, slots: int = 1000) -> None:
    for agent in agents:
        PresenceBoard().record("acme", agent, slots=slots, instance="1", leaving=False, now=clock.now())


def queued(count: int) -> list[Task]:
    """Tasks as intake leaves them: in the database and in the queue."""
    tasks = [make_task(now=clock.now()) for _ in range(count)]
    PriorityQueue().push("acme", [item_of(task) for task in tasks], now=clock.now())
    return tasks


def report(task: Task, kind: ReportKind, *, agent: str, attempt: int, seq: int = 1, **facts) -> AgentReport:
    now = clock.now()
    return AgentReport(org_id="acme", task_id=task.task_id, agent=agent, kind=kind, attempt=attempt, seq=seq, at=now, **facts)


def fresh(task: Task) -> Task:
    return Task.objects.get(pk=task.key)
