"""Rows of the task store. They live in the `tasks` database (SQLite, PostgreSQL or MongoDB).

Explicit string primary keys with column `_id`; filters and sorts are on real indexed fields; JSON is a sealed
parcel. One document and one conditional update decide each step (`store.py`), never a multi-row transaction.
"""

from __future__ import annotations

from django.db import models

from apps.tasks.models_operating import BulkAction, DeadLetter
from apps.tasks.models_queue import OrgQueue
from apps.tasks.models_scheduling import Schedule, ScheduleFiring
from apps.tasks.states import TaskStatus

__all__ = [
    "Assignment", "BulkAction", "DeadLetter", "Decision", "OrgQueue", "Reordering", "Report", "Schedule", "ScheduleFiring", "Task",
    "Transition",
]  # fmt: skip

ID_LENGTH = 255


class Task(models.Model):
    store = "tasks"

    key = models.CharField(primary_key=True, max_length=ID_LENGTH, db_column="_id", help_text="org_id/task_id")
    org_id = models.CharField(max_length=64)
    task_id = models.CharField(max_length=180)
    kind = models.CharField(max_length=16, default="task", help_text="task or sub_task")
    parent_key = models.CharField(max_length=ID_LENGTH, blank=True, default="", help_text="of a sub-task: the task it is a part of")
    goal = models.TextField()
    intent = models.TextField()
    submitter_subject_id = models.CharField(max_length=ID_LENGTH)
    job_space_id = models.CharField(max_length=180, blank=True, default="")
    execution_mode = models.CharField(max_length=16, default="auto")
    retry_of = models.CharField(max_length=180, blank=True, default="", help_text="the ended task that this one does again")
    schedule_id = models.CharField(max_length=64, blank=True, default="", help_text="the schedule that fired it")
    entry = models.JSONField(help_text="the TaskEntry as submitted, wire names")
    body_hash = models.CharField(max_length=64, help_text="SHA-256 of the submitted entry: idempotency")

    status = models.CharField(max_length=24, choices=[(s.value, s.value) for s in TaskStatus])
    reason = models.TextField(blank=True, default="", help_text="why it is in this status")
    submitter_priority = models.IntegerField(default=0)
    priority = models.IntegerField(default=0, help_text="the priority that orders the queue, -1000…1000")
    sequence = models.BigIntegerField(help_text="order of arrival, microseconds since the epoch")
    trace = models.CharField(max_length=55, blank=True, default="", help_text="W3C traceparent of its birth; empty without tracing")
    last_transition_id = models.CharField(max_length=32, blank=True, default="")

    attempt = models.IntegerField(default=0, help_text="number of the current assignment; the fencing token")
    max_attempts = models.IntegerField(default=5)
    head_agent_subject_id = models.CharField(max_length=180, blank=True, default="")
    delivery_seq = models.BigIntegerField(default=0, help_text="JetStream sequence of the current delivery")
    excluded_agents = models.JSONField(default=dict, blank=True, help_text="agent: declined, failed or lost")
    progress = models.FloatField(default=0.0, help_text="percent, 0…100")
    progress_message = models.TextField(blank=True, default="")
    result = models.JSONField(null=True, blank=True)
    held_by_person = models.BooleanField(default=False, help_text="its head agent is a person: inbox, not wire")
    people = models.JSONField(default=dict, blank=True, help_text="what people are asked about it, and their notes (apps.tasks.people)")
    escalate_at = models.DateTimeField(null=True, blank=True, help_text="while a person is asked: when more people are")
    decide_by = models.DateTimeField(null=True, blank=True, help_text="while a person is asked: expires when not decided by then")

    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    not_before = models.DateTimeField(null=True, blank=True, help_text="do not claim before")
    deadline = models.DateTimeField(null=True, blank=True, help_text="expires when not ended by then")
    assign_by = models.DateTimeField(null=True, blank=True, help_text="fails when no agent has it by then")
    concurrency_key = models.CharField(max_length=220, blank=True, default="", help_text="tasks with the same key share its limit")
    concurrency_limit = models.IntegerField(default=0, help_text="how many of the key may be in flight")
    concurrency_mode = models.CharField(max_length=16, blank=True, default="", help_text="queue, cancel_newest or cancel_running")
    queued_at = models.DateTimeField(null=True, blank=True)
    assigned_at = models.DateTimeField(null=True, blank=True)
    dispatched_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["org_id", "sequence"], name="task_org_sequence"),
            models.Index(fields=["org_id", "status", "sequence"], name="task_org_status"),
            models.Index(fields=["status", "updated_at"], name="task_status_updated"),
            models.Index(fields=["status", "deadline"], name="task_deadline"),
            models.Index(fields=["status", "assign_by"], name="task_assign_by"),
            models.Index(fields=["parent_key", "sequence"], name="task_parent"),
            models.Index(fields=["kind", "status"], name="task_kind_status"),
            models.Index(fields=["status", "decide_by"], name="task_decide_by"),
            models.Index(fields=["status", "escalate_at"], name="task_escalate_at"),
            models.Index(fields=["org_id", "head_agent_subject_id", "status"], name="task_holder"),
            models.Index(fields=["org_id", "schedule_id", "sequence"], name="task_schedule"),
        ]

    def __str__(self) -> str:
        return self.key


class Transition(models.Model):
    """One move of one task: what, why, by whom, when. Append-only."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=32, db_column="_id")
    task_key = models.CharField(max_length=ID_LENGTH)
    org_id = models.CharField(max_length=64)
    old = models.CharField(max_length=24, blank=True, default="")
    new = models.CharField(max_length=24)
    reason = models.TextField(blank=True, default="")
    actor = models.CharField(max_length=ID_LENGTH)
    attempt = models.IntegerField(default=0)
    cause = models.CharField(max_length=16, null=True, blank=True, help_text="why an attempt ended, where the statuses do not tell")
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["task_key", "id"], name="transition_task")]

    def __str__(self) -> str:
        return f"{self.task_key}: {self.old or '(new)'} → {self.new}"


class Assignment(models.Model):
    """One choice of a head agent. Its id is derived from task and attempt, so choosing twice writes once."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=ID_LENGTH + 12, db_column="_id")
    task_key = models.CharField(max_length=ID_LENGTH)
    org_id = models.CharField(max_length=64)
    attempt = models.IntegerField()
    head_agent_subject_id = models.CharField(max_length=180)
    strategy = models.CharField(max_length=32)
    because = models.TextField(help_text="one sentence: why this agent")
    decision = models.JSONField(help_text="the pool as it was seen, scores, exclusions, config version")
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["task_key", "attempt"], name="assignment_task")]

    def __str__(self) -> str:
        return f"{self.id} → {self.head_agent_subject_id}"


class Report(models.Model):
    """What an agent said that is worth keeping: progress, logs, and everything that changed nothing and why."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=ID_LENGTH + 32, db_column="_id", help_text="assignment id:sequence, derived")
    task_key = models.CharField(max_length=ID_LENGTH)
    org_id = models.CharField(max_length=64)
    attempt = models.IntegerField()
    agent = models.CharField(max_length=180)
    kind = models.CharField(max_length=16)
    body = models.JSONField()
    outcome = models.CharField(max_length=16, help_text="applied, stale, duplicate or refused")
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["task_key", "at"], name="report_task")]

    def __str__(self) -> str:
        return f"{self.id} {self.kind} {self.outcome}"


class Decision(models.Model):
    """A decision about a task that is neither a policy's run nor a choice of head agent: by a person, or by a rule. Append-only."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=ID_LENGTH + 32, db_column="_id", help_text="time-ordered, or derived to write once")
    task_key = models.CharField(max_length=ID_LENGTH)
    org_id = models.CharField(max_length=64)
    kind = models.CharField(max_length=32, help_text="what was decided: approval, verification, …")
    outcome = models.CharField(max_length=32)
    actor = models.CharField(max_length=ID_LENGTH)
    because = models.TextField(blank=True, default="", help_text="one sentence for people")
    details = models.JSONField(default=dict, blank=True)
    config_version = models.IntegerField(default=0)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["task_key", "id"], name="decision_task")]

    def __str__(self) -> str:
        return f"{self.task_key}: {self.kind} {self.outcome}"


class Reordering(models.Model):
    """Which priority script an org's queue follows, and how far a change of it has come (`apps.tasks.reordering`)."""

    store = "tasks"

    org_id = models.CharField(primary_key=True, max_length=64, db_column="_id")
    wanted = models.CharField(max_length=180, help_text="script, version and hash that the order should follow")
    done = models.CharField(max_length=180, blank=True, default="", help_text="that it follows; differs while it is under way")
    cursor = models.BigIntegerField(default=0, help_text="arrival of the last task that was asked again")
    seen = models.IntegerField(default=0)
    changed = models.IntegerField(default=0)
    total = models.IntegerField(default=0, help_text="waiting tasks when it began")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.org_id}: {self.wanted}"
