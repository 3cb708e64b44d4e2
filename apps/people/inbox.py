"""What one subject has to do and to decide, and what a person does with a task in the inbox.

A person says the same things an agent says, and they go through the same door: `ReportDesk`, with the attempt as the fence. So
whatever was taken away meanwhile (cancelled, requeued, lapsed) stays away, and the person is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from apps.agents.holds import Holds
from apps.core import clock, ids
from apps.core.auth import Principal
from apps.core.errors import Conflict, Missing
from apps.messaging.envelope import AgentReport, ReportKind
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks import people
from apps.tasks.listing import HEAVY
from apps.tasks.models import Task
from apps.tasks.people import Identity
from apps.tasks.results import ReportDesk
from apps.tasks.states import IN_FLIGHT, TERMINAL, TaskStatus
from apps.tasks.store import LostRace

SHOWN = 100
"""Of each kind; more are counted as `more`."""
S = TaskStatus
WAITING = (S.ASSIGNED.value, S.DISPATCHED.value)
QUESTIONS = {"approvals": S.AWAITING_APPROVAL, "assignments": S.AWAITING_ASSIGNMENT, "verifications": S.AWAITING_VERIFICATION}
AFTER = {
    ReportKind.ACCEPTED: {S.RUNNING},
    ReportKind.PROGRESS: {S.RUNNING},
    ReportKind.COMPLETED: {S.COMPLETED, S.AWAITING_VERIFICATION},
    ReportKind.DECLINED: {S.QUEUED, S.FAILED},
    ReportKind.FAILED: {S.FAILED},
}
"""Where the task is when the report has counted."""


class NotInHand(Conflict):
    code, sentence, shown = "not_in_hand", "The task is not in your hands any more.", ("status",)


@dataclass(kw_only=True)
class Lists:
    """Oldest first; tasks without their heavy fields."""

    to_do: list[Task] = field(default_factory=list)
    in_progress: list[Task] = field(default_factory=list)
    approvals: list[Task] = field(default_factory=list)
    assignments: list[Task] = field(default_factory=list)
    verifications: list[Task] = field(default_factory=list)
    more: bool = False
    unknown: str = ""
    """Why questions to roles may be missing: the role service does not say who holds them."""

    @property
    def count(self) -> int:
        return sum(len(each) for each in (self.to_do, self.in_progress, self.approvals, self.assignments, self.verifications))


class Inbox:
    def __init__(self, who: Principal, *, now: datetime) -> None:
        self.who = who
        self.identity = Identity(who, now=now)

    def lists(self) -> Lists:
        found = Lists()
        mine = self._mine()
        found.to_do = self._first(mine.filter(status__in=WAITING).order_by("sequence").defer(*HEAVY), found)
        found.in_progress = self._first(mine.filter(status=S.RUNNING.value).order_by("sequence").defer(*HEAVY), found)
        for name, status in QUESTIONS.items():
            rows = Task.objects.filter(org_id=self.who.org_id, status=status.value).order_by("sequence").defer(*HEAVY)
            asked = (task for task in rows.iterator(chunk_size=500) if self.identity.may_decide(task))
            setattr(found, name, self._first(asked, found))
        found.unknown = self.identity.unknown
        return found

    def ended(self, limit: int = 10) -> list[Task]:
        """What this person has done lately, newest first."""
        rows = self._mine().filter(status__in=[status.value for status in TERMINAL]).order_by("-sequence")
        return list(rows.defer(*HEAVY)[:limit])

    def task(self, task_id: str) -> Task:
        """A task that is this person's to do, to decide, or was done by them. Everything else is missing."""
        task = Task.objects.filter(pk=ids.task_key(self.who.org_id, task_id)).first()
        if task is None or not (self._has(task) or self.asks_me(task)):
            raise Missing()
        return task

    def asks_me(self, task: Task) -> bool:
        return task.status in people.AWAITING and self.identity.may_decide(task)

    def say(self, task: Task, kind: ReportKind, *, now: datetime, **said: Any) -> Task:
        """Report on a task in hand. Raises Missing (not theirs), NotInHand, LostRace."""
        if not self._has(task):
            raise Missing()
        if task.status not in IN_FLIGHT:
            raise NotInHand(status=task.status, task_id=task.task_id)
        attempt, who = task.attempt, self.who.subject_id
        report = AgentReport(
            org_id=task.org_id, task_id=task.task_id, agent=who, kind=kind, attempt=attempt, seq=clock.sequence(), at=now, **said
        )  # fmt: skip
        ReportDesk().apply([report], now=now)
        fresh = Task.objects.get(pk=task.key)
        counted = fresh.attempt == attempt and fresh.status in AFTER[kind]
        if not counted or (kind is ReportKind.COMPLETED and fresh.result != said.get("result")):
            raise LostRace(task_id=task.task_id)
        if fresh.status == S.RUNNING:
            lease = people.lease_seconds(OrgConfigProvider().of(task.org_id))
            Holds().extend([ids.assignment_id(task.key, attempt)], now=now, lease_seconds=lease, org_id=task.org_id, agent=who)
        return fresh

    def _mine(self) -> Any:
        return Task.objects.filter(org_id=self.who.org_id, head_agent_subject_id=self.who.subject_id, held_by_person=True)

    def _has(self, task: Task) -> bool:
        return task.held_by_person and task.head_agent_subject_id == self.who.subject_id

    def _first(self, rows: Iterable[Task], found: Lists) -> list[Task]:
        tasks = list(islice(rows, SHOWN + 1))
        found.more = found.more or len(tasks) > SHOWN
        return tasks[:SHOWN]
