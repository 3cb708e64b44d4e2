"""What the plan looks at and what it answers: snapshots of a neighbourhood, and moves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from apps.workflows.states import SessionStatus, StepStatus


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Items of a step's present run, by status."""

    total: int = 0
    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    timed_out: int = 0

    @property
    def open(self) -> int:
        return self.pending + self.running


@dataclass(frozen=True, kw_only=True)
class NodeState:
    status: StepStatus
    run: int = 1
    attempt: int = 0
    """Of a step: 1 from its first start on."""
    partial: bool = False
    counts: Counts = Counts()
    """Of a step that is running (others: not looked at, except open ones of an ended step)."""
    retry_at: datetime | None = None
    deadline: datetime | None = None
    busy_until: datetime | None = None
    """Of an expanding step: until when the process that expands it is believed to live."""


@dataclass(frozen=True, kw_only=True)
class Members:
    """The direct members of a group (or of the session, `ROOT`), counted."""

    statuses: Mapping[StepStatus, int]
    fatal: int
    """Members failed or timed out whose on_failure is `fail`."""
    partial: int = 0
    """Members completed with `partial`."""


@dataclass(frozen=True, kw_only=True)
class SessionState:
    key: str
    """Seeds the jitter of retries."""
    status: SessionStatus
    run: int = 1
    deadline: datetime | None = None
    published: bool = False
    """The final result of this run has been told."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A neighbourhood. What is absent was not looked at and decides nothing: absent nodes count as not ended, absent
    members as not all ended."""

    session: SessionState
    nodes: Mapping[str, NodeState]
    touched: Collection[str]
    members: Mapping[str, Members] = field(default_factory=dict)
    quiet: bool = False
    """No node of the session is open. Looked at only once the session has ended."""


# ---- moves ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Move:
    path: str
    because: str = ""


@dataclass(frozen=True, kw_only=True)
class Open(Move):
    """Group: waiting → running. Its members may start."""

    deadline: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Start(Move):
    """Step: waiting or retrying → expanding, with `attempt`; then make its items (of a waiting step) or put those that did
    not complete back to pending (of a retrying one), then expanding → running. Also given for a step left `expanding` by a
    process that is gone (`attempt` unchanged): all of that may be done again, ids are derived."""

    attempt: int
    deadline: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Retry(Move):
    """Step: running → retrying, until `at`."""

    at: datetime


@dataclass(frozen=True, kw_only=True)
class CancelItems(Move):
    """End every open item of the step as cancelled; stop what runs. The step itself moves after that."""


@dataclass(frozen=True, kw_only=True)
class Finish(Move):
    """Node → `status`. A step's context is written just before `completed`, from all its items, once."""

    status: StepStatus
    partial: bool = False
    missing: Mapping[str, int] = field(default_factory=dict)
    """How many items (of a group: members) did not complete, by status."""


@dataclass(frozen=True, kw_only=True)
class Reset(Move):
    """Of an ended session that is taken up again: an ended node → waiting, with the next run. With `keep_items` (a step
    whose inputs stay as they were): → retrying, due at once, in the same run: its completed items stand, the others go
    back to pending when it starts."""

    keep_items: bool = False


@dataclass(frozen=True, kw_only=True)
class Skip(Move):
    """Node: waiting → skipped."""


@dataclass(frozen=True, kw_only=True)
class EndSession(Move):
    status: SessionStatus
    partial: bool = False
    missing: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Publish(Move):
    """The session has ended and nothing of it is open any more: tell its final (or partial) result, once, and clean up."""


class Decision(StrEnum):
    HOLDS = "holds"
    RETRY = "retry"
    FAILS = "fails"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a step's items say. With items still open, `HOLDS` and `FAILS` mean: cancel those first."""

    decision: Decision
    because: str = ""
    missing: Mapping[str, int] = field(default_factory=dict)
