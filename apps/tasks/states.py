"""The life of a task, as one table. Every change of status goes through `TaskStore.move_many`, which checks it."""

from __future__ import annotations

from enum import StrEnum

from apps.core.states import StateTable


class TaskStatus(StrEnum):
    AWAITING_APPROVAL = "awaiting_approval"
    QUEUED = "queued"
    AWAITING_ASSIGNMENT = "awaiting_assignment"
    """A person chooses the head agent (execution modes manual and hybrid)."""
    ASSIGNED = "assigned"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    AWAITING_VERIFICATION = "awaiting_verification"
    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Cause(StrEnum):
    """Why an attempt ended, where the statuses do not tell. Kept with the move."""

    DECLINED = "declined"
    FAILED = "failed"
    """Its agent said so."""
    SILENT = "silent"
    """Its agent was not heard of for a lease."""
    UNFETCHED = "unfetched"
    """Likewise, and the agent had not even fetched it."""


S = TaskStatus

TASK_STATES: StateTable[TaskStatus] = StateTable(
    {
        S.AWAITING_APPROVAL: frozenset({S.QUEUED, S.REJECTED, S.CANCELLED, S.EXPIRED}),
        S.QUEUED: frozenset({S.ASSIGNED, S.AWAITING_ASSIGNMENT, S.FAILED, S.CANCELLED, S.EXPIRED}),
        # Back to queued: a person leaves the choice to the platform.
        S.AWAITING_ASSIGNMENT: frozenset({S.ASSIGNED, S.QUEUED, S.CANCELLED, S.EXPIRED}),
        # Back to queued: the publish failed. Failed: it did so on the last attempt.
        S.ASSIGNED: frozenset({S.DISPATCHED, S.QUEUED, S.FAILED, S.CANCELLED, S.EXPIRED}),
        # Back to queued: declined, or the lease was lost.
        S.DISPATCHED: frozenset({S.RUNNING, S.AWAITING_VERIFICATION, S.QUEUED, S.COMPLETED, S.FAILED, S.CANCELLED, S.EXPIRED}),
        S.RUNNING: frozenset({S.AWAITING_VERIFICATION, S.COMPLETED, S.FAILED, S.QUEUED, S.CANCELLED, S.EXPIRED}),
        S.AWAITING_VERIFICATION: frozenset({S.COMPLETED, S.FAILED, S.QUEUED, S.CANCELLED, S.EXPIRED}),
    }
)

FIRST = frozenset({S.AWAITING_APPROVAL, S.REJECTED, S.QUEUED})
"""The states a task may be born in."""

TERMINAL = frozenset(status for status in TaskStatus if TASK_STATES.is_terminal(status))
OPEN = frozenset(TaskStatus) - TERMINAL
IN_FLIGHT = frozenset({S.ASSIGNED, S.DISPATCHED, S.RUNNING})
"""An agent has it, or is about to."""
AWAITING = frozenset({S.AWAITING_APPROVAL, S.AWAITING_ASSIGNMENT, S.AWAITING_VERIFICATION})
"""A person is asked something."""
