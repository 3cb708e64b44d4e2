"""What the platform answers, as frozen values. Fields that an older or newer platform does not know stay at their
default; `data` always holds the answer as it came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from jobplatform_sdk.client_errors import BadAnswer, FieldError

Json = dict[str, Any]
T = TypeVar("T")

OPEN = ("awaiting_approval", "queued", "awaiting_assignment", "assigned", "dispatched", "running", "awaiting_verification")
TERMINAL = ("completed", "failed", "rejected", "cancelled", "expired")
STATUSES = OPEN + TERMINAL


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What became of one submitted entry. A policy's no is an answer too: status `rejected`, and the reason."""

    task_id: str
    status: str
    subject_id: str = ""
    """The head agent, once one is chosen."""
    reason: str = ""
    repeated: bool = False
    """The same entry was submitted before; this is where that task is now."""
    task: Task | None = None

    @property
    def accepted(self) -> bool:
        """It has a future, or a good past: not rejected, failed, cancelled or expired."""
        return self.status not in TERMINAL or self.status == "completed"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one line of a bulk submission. `status` `invalid`: nothing was stored, and `code`, `message`,
    `errors` say why."""

    line: int
    """From 1, in the order the entries were given."""
    task_id: str
    status: str
    reason: str = ""
    repeated: bool = False
    code: str = ""
    message: str = ""
    errors: tuple[FieldError, ...] = ()

    @property
    def stored(self) -> bool:
        return self.status != "invalid"

    @property
    def accepted(self) -> bool:
        return self.stored and (self.status not in TERMINAL or self.status == "completed")

    @property
    def why(self) -> str:
        """One line for people."""
        return self.reason or "; ".join(map(str, self.errors)) or self.message or self.code

    def json(self) -> Json:
        found: Json = {"line": self.line, "task_id": self.task_id or None, "status": self.status}
        found |= {name: value for name in ("reason", "code", "message", "repeated") if (value := getattr(self, name))}
        if self.errors:
            found["errors"] = [{"field": e.field, "code": e.code, "message": e.message} for e in self.errors]
        return found


@dataclass(frozen=True, kw_only=True)
class Times:
    """When the task reached each stage; None: not (yet)."""

    created: datetime | None = None
    updated: datetime | None = None
    queued: datetime | None = None
    assigned: datetime | None = None
    dispatched: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    not_before: datetime | None = None
    deadline: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Why this agent: the current assignment."""

    attempt: int
    agent: str
    strategy: str
    because: str
    at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Task:
    task_id: str
    status: str
    reason: str = ""
    goal: str = ""
    intent: str = ""
    submitter_subject_id: str = ""
    job_space_id: str = ""
    execution_mode: str = ""
    submitter_priority: int = 0
    priority: int = 0
    attempt: int = 0
    max_attempts: int = 0
    agent: str = ""
    progress: float = 0.0
    """percent, 0…100"""
    progress_message: str = ""
    times: Times = Times()
    kind: str = "task"
    """`task` or `sub_task`."""
    parent_task_id: str = ""
    sub_tasks: Json = field(default_factory=dict)
    """What its sub-tasks come to: `total`, `by_status`, `progress`; {} when it has none."""
    waiting_for: Json = field(default_factory=dict)
    """What a person is asked about it, and who may answer; {} when nothing is."""
    result: Any = None
    entry: Json = field(default_factory=dict)
    """As submitted, wire names; only from `get` and `wait`, like `result`, `assignment` and `queue_position`."""
    assignment: Choice | None = None
    queue_position: int | None = None
    data: Json = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL

    @property
    def completed(self) -> bool:
        return self.status == "completed"


@dataclass(frozen=True, kw_only=True)
class Page:
    tasks: tuple[Task, ...]
    next_cursor: str = ""


@dataclass(frozen=True, kw_only=True)
class Inbox:
    """What somebody has to do and to decide, oldest first."""

    subject_id: str
    to_do: tuple[Task, ...] = ()
    in_progress: tuple[Task, ...] = ()
    approvals: tuple[Task, ...] = ()
    assignments: tuple[Task, ...] = ()
    verifications: tuple[Task, ...] = ()
    more: bool = False
    """There is more than is shown."""
    data: Json = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class HistoryItem:
    """One thing that happened to a task: `kind` is transition, policy, assignment, decision or report; the rest is in `data`."""

    kind: str
    at: datetime | None
    data: Json


@dataclass(frozen=True, kw_only=True)
class TaskEvent:
    """News from a stream.

    kind      task      the task as it is now (`task`); first on the stream of one task
              status    it moved from `old` to `status`
              progress  `percent`, `message`
              summary   `counts` of the whole org; first on the stream of all tasks, and again after every reconnect
              lagged    `dropped` events were lost: you read too slowly
    """

    kind: str
    task_id: str = ""
    status: str = ""
    old: str = ""
    reason: str = ""
    actor: str = ""
    attempt: int = 0
    agent: str = ""
    at: datetime | None = None
    percent: float = 0.0
    message: str = ""
    result: Any = None
    task: Task | None = None
    counts: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    data: Json = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """The task will not move any more."""
        return self.kind in ("task", "status") and self.status in TERMINAL


# ---- reading ----------------------------------------------------------------------------------------------


class Reader:
    """Takes typed fields out of a decoded answer. A missing or null field is its default; another type is a BadAnswer."""

    def __init__(self, data: Any, what: str) -> None:
        if not isinstance(data, dict):
            raise BadAnswer(f"The platform's {what} is not an object.", code="bad_answer")
        self.data, self.what = data, what

    def _get(self, name: str, kinds: tuple[type, ...], default: T) -> T:
        value = self.data.get(name)
        if value is None:
            return default
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self.wrong(name)
        return value  # type: ignore[return-value]

    def wrong(self, name: str) -> BadAnswer:
        return BadAnswer(f"The platform's {self.what} has no usable {name!r}.", code="bad_answer", facts={"answer": self.data})

    def text(self, name: str) -> str:
        return self._get(name, (str,), "")

    def needed(self, name: str) -> str:
        if not (value := self.text(name)):
            raise self.wrong(name)
        return value

    def whole(self, name: str) -> int:
        return self._get(name, (int,), 0)

    def number(self, name: str) -> float:
        return float(self._get(name, (int, float), 0.0))

    def maybe_number(self, name: str) -> float | None:
        return None if self.data.get(name) is None else self.number(name)

    def flag(self, name: str) -> bool:
        return self._get(name, (bool,), False)

    def parcel(self, name: str) -> Json:
        return self._get(name, (dict,), {})

    def list(self, name: str) -> list[Any]:
        return self._get(name, (list,), [])

    def time(self, name: str) -> datetime | None:
        value = self.text(name)
        try:
            return datetime.fromisoformat(value) if value else None
        except ValueError:
            raise self.wrong(name) from None


def read_errors(raw: Any) -> tuple[FieldError, ...]:
    """Leniently: an error about an error helps nobody."""
    items = [item for item in raw if isinstance(item, dict)] if isinstance(raw, list) else []
    return tuple(FieldError(**{name: str(item.get(name) or "") for name in ("field", "code", "message")}) for item in items)


def read_task(data: Any) -> Task:
    r = Reader(data, "task")
    times = Reader(r.parcel("times"), "task.times")
    choice = Reader(data["assignment"], "task.assignment") if data.get("assignment") else None
    return Task(
        task_id=r.needed("task_id"), status=r.needed("status"), reason=r.text("reason"), goal=r.text("goal"), intent=r.text("intent"),
        submitter_subject_id=r.text("submitter_subject_id"), job_space_id=r.text("job_space_id"), execution_mode=r.text("execution_mode"),
        submitter_priority=r.whole("submitter_priority"), priority=r.whole("priority"),
        attempt=r.whole("attempt"), max_attempts=r.whole("max_attempts"), agent=r.text("agent"),
        progress=r.number("progress"), progress_message=r.text("progress_message"),
        kind=r.text("kind") or "task", parent_task_id=r.text("parent_task_id"), sub_tasks=r.parcel("sub_tasks"),
        waiting_for=r.parcel("waiting_for"), times=Times(**{name: times.time(name) for name in Times.__dataclass_fields__}),
        result=data.get("result"), entry=r.parcel("entry"),
        assignment=choice and Choice(
            attempt=choice.whole("attempt"), agent=choice.text("agent"), strategy=choice.text("strategy"),
            because=choice.text("because"), at=choice.time("at"),
        ),
        queue_position=None if data.get("queue_position") is None else r.whole("queue_position"),
        data=data,
    )  # fmt: skip


def read_page(data: Any) -> Page:
    r = Reader(data, "page of tasks")
    if "items" not in data:
        raise r.wrong("items")
    return Page(tasks=tuple(map(read_task, r.list("items"))), next_cursor=r.text("next_cursor"))


def read_inbox(data: Any) -> Inbox:
    r = Reader(data, "inbox")
    names = ("to_do", "in_progress", "approvals", "assignments", "verifications")
    lists = {name: tuple(map(read_task, r.list(name))) for name in names}
    return Inbox(subject_id=r.needed("subject_id"), more=r.flag("more"), data=data, **lists)


def read_history(data: Any) -> list[HistoryItem]:
    r = Reader(data, "history")
    if "items" not in data:
        raise r.wrong("items")
    items = [Reader(item, "event") for item in r.list("items")]
    return [HistoryItem(kind=item.needed("kind"), at=item.time("at"), data=item.data) for item in items]


def read_counts(data: Any) -> dict[str, int]:
    r = Reader(data, "summary")
    counts = r.parcel("counts")
    if not all(type(count) is int for count in counts.values()):
        raise r.wrong("counts")
    return counts


def read_verdict(data: Json, *, line: int, task_id: str) -> Verdict:
    """`line` and `task_id` are ours: the platform counts within one request, we within the whole submission."""
    r = Reader(data, "verdict")
    return Verdict(
        line=line, task_id=task_id, status=r.needed("status"), reason=r.text("reason"), repeated=r.flag("repeated"),
        code=r.text("code"), message=r.text("message"), errors=read_errors(data.get("errors")),
    )  # fmt: skip


def snapshot(task: Task) -> TaskEvent:
    """What the stream of one task begins with."""
    return TaskEvent(
        kind="task", task_id=task.task_id, status=task.status, reason=task.reason, attempt=task.attempt, agent=task.agent,
        at=task.times.updated, percent=task.progress, message=task.progress_message, result=task.result, task=task, data=task.data,
    )  # fmt: skip


def _status_event(r: Reader) -> TaskEvent:
    return TaskEvent(
        kind="status", task_id=r.needed("task_id"), status=r.needed("status"), old=r.text("old"), reason=r.text("reason"),
        actor=r.text("actor"), attempt=r.whole("attempt"), agent=r.text("agent"), at=r.time("at"),
        result=r.data.get("result"), data=r.data,
    )  # fmt: skip


def _progress_event(r: Reader) -> TaskEvent:
    task_id, percent, message = r.needed("task_id"), r.number("percent"), r.text("message")
    return TaskEvent(kind="progress", task_id=task_id, percent=percent, message=message, at=r.time("at"), data=r.data)


EVENTS: dict[str, Callable[[Reader], TaskEvent]] = {
    "task": lambda r: snapshot(read_task(r.data)),
    "status": _status_event,
    "progress": _progress_event,
    "summary": lambda r: TaskEvent(kind="summary", counts=read_counts(r.data), data=r.data),
    "lagged": lambda r: TaskEvent(kind="lagged", dropped=r.whole("dropped"), data=r.data),
}


def read_event(kind: str, data: Any) -> TaskEvent | None:
    """None: a kind of a newer platform, which an older client may leave alone."""
    read = EVENTS.get(kind)
    return read(Reader(data, f"{kind} event")) if read else None
