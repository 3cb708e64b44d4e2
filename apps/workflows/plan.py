"""What must happen next in a session: a pure function from a snapshot of a neighbourhood to moves.

    touched = spec.to_touch_after(changed)                 # or a timer's node, or every node, at recovery
    snapshot = look(spec, reader, session, touched)        # reads only what the decision needs
    moves = next_moves(spec, snapshot, now=now)            # carry each out with a compare-and-set, then look again

Whoever carries a move out compares-and-sets on the status (and run, and attempt) that the snapshot showed; a move that
loses its race changes nothing. A move may be given again and again until its effect is in the truth, so nothing here
remembers what it said before, and any process may stop between any two writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from apps.workflows.spec import NodeSpec, SessionSpec
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


class Reader(Protocol):
    """What `look` asks the store. Each answer is the truth at the time of the call; they need not be of one instant."""

    def nodes(self, paths: Collection[str]) -> Mapping[str, NodeState]: ...

    def open_member(self, group: str) -> bool:
        """Is any direct member of the group not ended? (One indexed row.)"""

    def members(self, group: str) -> Members: ...

    def open_node(self) -> bool:
        """Is any node of the session not ended?"""


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
    """Step: waiting or retrying → expanding, with `attempt`; then make its items (attempt 1) or put its failed items back
    to pending (later ones), then expanding → running. Also given for a step left `expanding` by a process that is gone
    (`attempt` unchanged): all of that may be done again."""

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


def look(spec: SessionSpec, reader: Reader, session: SessionState, touched: Collection[str]) -> Snapshot:
    """The snapshot that `next_moves` needs for the touched nodes, and no more."""
    raise NotImplementedError


def next_moves(spec: SessionSpec, snapshot: Snapshot, *, now: datetime) -> list[Move]:
    raise NotImplementedError


def join(node: NodeSpec, counts: Counts, *, attempt: int) -> Verdict:
    raise NotImplementedError
