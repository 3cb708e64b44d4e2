"""Rows of workflow sessions. They live in the `tasks` database (SQLite, PostgreSQL or MongoDB).

A session is a document that runs. Its groups and steps are Step rows, the children of an expanded step Item rows, and what
travels in one message a Chunk. The chunk is the unit of messages, the item the unit of truth: joins are decided by counting
items. Ids of all but the session are derived, so writing any of them twice writes it once.
"""

from __future__ import annotations

from django.db import models

from apps.core.ordered_json import OrderedJSON
from apps.workflows.models_context import ContextDocument, ContextValue, ContextVector, ContextWrite
from apps.workflows.states import ItemStatus, SessionStatus, StepStatus

__all__ = [
    "Chunk",
    "ChunkStatus",
    "ContextDocument",
    "ContextValue",
    "ContextVector",
    "ContextWrite",
    "Item",
    "Session",
    "SessionEvent",
    "Step",
]

ID_LENGTH = 255
PATH_LENGTH = 700
STEP_ID_LENGTH = ID_LENGTH + 1 + PATH_LENGTH
CHILD_ID_LENGTH = STEP_ID_LENGTH + 40


class ChunkStatus(models.TextChoices):
    WAITING = "waiting"
    """Held back by a limit on how much may run at once."""
    SENT = "sent"
    """A message says so; nobody has claimed it yet."""
    RUNNING = "running"
    """A worker holds it until `lease_until`."""
    AWAY = "away"
    """Its items are tasks of agents; no worker holds it."""
    DONE = "done"
    CANCELLED = "cancelled"


class Session(models.Model):
    store = "tasks"

    key = models.CharField(primary_key=True, max_length=ID_LENGTH, db_column="_id", help_text="org_id/session_id")
    org_id = models.CharField(max_length=64)
    session_id = models.CharField(max_length=180)
    name = models.CharField(max_length=200, blank=True, default="")
    description = models.TextField(blank=True, default="")
    status = models.CharField(max_length=16, choices=[(s.value, s.value) for s in SessionStatus])
    reason = models.TextField(blank=True, default="", help_text="why it is in this status")
    partial = models.BooleanField(default=False, help_text="completed, though something in it did not")
    document = OrderedJSON(help_text="as submitted, its keys in their order: they order what tasks expand to")
    body_hash = models.CharField(max_length=64, help_text="SHA-256 of the document: idempotency")
    submitter = models.JSONField(default=dict, help_text="who submitted it: subject_id, key_id, role, name")
    run = models.IntegerField(default=1, help_text="rises when an ended session is taken up again")
    priority = models.IntegerField(default=0, help_text="of its tasks on agents, -1000…1000")
    job_space_id = models.CharField(max_length=180, blank=True, default="")
    sequence = models.BigIntegerField(help_text="order of arrival, microseconds since the epoch")
    prepared = models.BooleanField(default=False, help_text="its steps and its first context are written")
    compensation = models.CharField(max_length=16, blank=True, default="", help_text="of what it did: '', running, completed or failed")
    published = models.BooleanField(default=False, help_text="the final result of this run has been told")
    tell_at = models.DateTimeField(null=True, blank=True, help_text="when its result is told again on the buses; empty: they have taken it")
    missing = models.JSONField(default=list, blank=True, help_text="what the result lacks, and why")
    counts = models.JSONField(default=dict, blank=True, help_text="steps and items by status, once it has ended")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True, help_text="since when it is paused: its deadlines stand still")
    deadline = models.DateTimeField(null=True, blank=True, help_text="timed_out when not ended by then")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["org_id", "sequence"], name="session_org_sequence"),
            models.Index(fields=["org_id", "status", "sequence"], name="session_org_status"),
            models.Index(fields=["status", "updated_at"], name="session_status_updated"),
            models.Index(fields=["compensation", "updated_at"], name="session_compensation"),
            models.Index(fields=["tell_at"], name="session_tell"),
        ]

    def __str__(self) -> str:
        return self.key


class Step(models.Model):
    """One node of a session's graph: a group, a step (a task of the document), or the undoing of a step."""

    store = "tasks"

    class Kind(models.TextChoices):
        GROUP = "group"
        STEP = "step"
        COMPENSATION = "compensation"

    id = models.CharField(primary_key=True, max_length=STEP_ID_LENGTH, db_column="_id", help_text="session key:path")
    session_key = models.CharField(max_length=ID_LENGTH)
    org_id = models.CharField(max_length=64)
    path = models.CharField(max_length=PATH_LENGTH, help_text="group.task; nested: outer.inner.task")
    kind = models.CharField(max_length=16, choices=Kind.choices)
    parent = models.CharField(max_length=PATH_LENGTH, blank=True, default="", help_text="path of its group; '': the session")
    name = models.CharField(max_length=200, blank=True, default="")
    position = models.IntegerField(help_text="place in the document")
    status = models.CharField(max_length=16, choices=[(s.value, s.value) for s in StepStatus])
    reason = models.TextField(blank=True, default="")
    partial = models.BooleanField(default=False)
    run = models.IntegerField(default=1, help_text="rises when it is done again from the start, with items of their own")
    attempt = models.IntegerField(default=0, help_text="1 from its first start on; rises with each retry of its failed items")
    busy_until = models.DateTimeField(null=True, blank=True, help_text="while expanding: until when its process is believed to live")
    total = models.IntegerField(default=0, help_text="items of this run")
    completed = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    cancelled = models.IntegerField(default=0)
    skipped = models.IntegerField(default=0)
    timed_out = models.IntegerField(default=0)
    missing = models.JSONField(default=list, blank=True, help_text="items that its result lacks, and why; at most 100")
    override = models.JSONField(null=True, blank=True, help_text="input given for a re-run, over the document's")
    context_version = models.IntegerField(default=0, help_text="of the context after its one write")
    retry_at = models.DateTimeField(null=True, blank=True)
    deadline = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["session_key", "position"], name="step_session"),
            models.Index(fields=["session_key", "parent", "status"], name="step_group"),
            models.Index(fields=["status", "updated_at"], name="step_status_updated"),
            models.Index(fields=["status", "deadline"], name="step_deadline"),
            models.Index(fields=["status", "retry_at"], name="step_retry"),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def step_run(self) -> str:
        return f"{self.id}#{self.run}"


class Chunk(models.Model):
    """Items that travel in one message. Whoever claims it gets the next `fence`; results of a lower one are refused."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=CHILD_ID_LENGTH, db_column="_id", help_text="step run.attempt/number")
    session_key = models.CharField(max_length=ID_LENGTH)
    org_id = models.CharField(max_length=64)
    step_id = models.CharField(max_length=STEP_ID_LENGTH)
    step_run = models.CharField(max_length=CHILD_ID_LENGTH)
    number = models.IntegerField()
    size = models.IntegerField(help_text="items in it")
    executor = models.CharField(max_length=16, help_text="celery or agent")
    status = models.CharField(max_length=16, choices=ChunkStatus.choices)
    fence = models.IntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    deaths = models.IntegerField(default=0, help_text="leases that lapsed, since it last gave up an item")
    request = models.JSONField(null=True, blank=True, help_text="what its chord needs to hear of its end; null: no chord")
    updated_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["step_run", "number"], name="chunk_step"),
            models.Index(fields=["session_key", "status"], name="chunk_session"),
            models.Index(fields=["status", "lease_until"], name="chunk_lease"),
            models.Index(fields=["status", "updated_at"], name="chunk_status_updated"),
        ]

    def __str__(self) -> str:
        return self.id


class Item(models.Model):
    """One child of a step; a step that does not expand has exactly one."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=CHILD_ID_LENGTH, db_column="_id", help_text="step run/index, derived")
    step_run = models.CharField(max_length=CHILD_ID_LENGTH)
    chunk_id = models.CharField(max_length=CHILD_ID_LENGTH)
    session_key = models.CharField(max_length=ID_LENGTH)
    org_id = models.CharField(max_length=64)
    index = models.IntegerField()
    identifier = models.CharField(max_length=200, blank=True, default="")
    name = models.CharField(max_length=300, blank=True, default="")
    input = models.JSONField(default=dict, blank=True, help_text="values: what it was expanded to; message and input: rendered")
    status = models.CharField(max_length=16, choices=[(s.value, s.value) for s in ItemStatus])
    attempt = models.IntegerField(default=1)
    fence = models.IntegerField(default=0, help_text="of the claim under which it runs")
    reason = models.TextField(blank=True, default="")
    result = models.JSONField(null=True, blank=True)
    task_key = models.CharField(max_length=ID_LENGTH, blank=True, default="", help_text="of its task, when an agent does it")
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["step_run", "index"], name="item_step"),
            models.Index(fields=["step_run", "status"], name="item_status"),
            models.Index(fields=["chunk_id"], name="item_chunk"),
        ]

    def __str__(self) -> str:
        return self.id


class SessionEvent(models.Model):
    """One move of a session, a step or (when it failed) an item: what, why, by whom, when. Append-only."""

    store = "tasks"

    id = models.CharField(primary_key=True, max_length=32, db_column="_id")
    session_key = models.CharField(max_length=ID_LENGTH)
    org_id = models.CharField(max_length=64)
    path = models.CharField(max_length=PATH_LENGTH, blank=True, default="", help_text="of a step or group; '': the session")
    item = models.IntegerField(null=True, blank=True, help_text="index, when it is about an item")
    old = models.CharField(max_length=16, blank=True, default="")
    new = models.CharField(max_length=16)
    reason = models.TextField(blank=True, default="")
    actor = models.CharField(max_length=ID_LENGTH, blank=True, default="")
    run = models.IntegerField(default=1, help_text="of the session")
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["session_key", "id"], name="session_event")]

    def __str__(self) -> str:
        return f"{self.session_key} {self.path}: {self.old or '(new)'} → {self.new}"
