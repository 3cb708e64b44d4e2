"""The life of a session, of its nodes (groups and steps) and of a step's items, as three tables.

A table holds within one *run* of a session. Retrying or re-running reopens an ended session: its run number rises by
one, and the nodes concerned begin again as `waiting` with that number. Nothing else leads out of a state that has ended.

How the states of the drawn `TaskGroup` machine appear here:

| drawn            | here                                                                                            |
|------------------|-------------------------------------------------------------------------------------------------|
| Initialize       | the rows of session, groups and steps are written; session `running`, nodes `waiting`            |
| ValidateDeps     | `reading.parse`, before any row is written; nothing that fails it becomes a session              |
| WaitForDeps      | node `waiting`                                                                                   |
| ProcessTasks     | group `running` (its dependencies hold, its members may start)                                   |
| Expand           | step `expanding`: items are made, ids derived from (step, run, index)                            |
| Execute          | step `running`, its items `pending` → `running`                                                  |
| PublishResults   | the item's result is stored with its end: item `completed`                                       |
| ValidateResults  | inside the end of an item and of a step: the result schema is checked before `completed`         |
| TrackResults     | `plan.join` over the item counts; undecided while an item is open                                |
| UpdateContext    | written once, just before the step becomes `completed`                                           |
| HandleFailure    | item `failed` or `timed_out`; then `plan.join` says retry, fails or holds                        |
| RetryLogic       | the move `Retry`: how long to wait, whether an attempt is left                                   |
| WaitDelay        | step `retrying` until `retry_at`                                                                 |
| CleanupState     | step `expanding` again with the next attempt: its failed items go back to `pending`              |
| Cleanup          | group ended; session ended and the move `Publish`: the final result told, Redis keys deleted     |
"""

from __future__ import annotations

from enum import StrEnum

from apps.core.states import StateTable


class SessionStatus(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    """Nothing new starts; what runs may end. Its deadlines stand still."""
    COMPLETED = "completed"
    """All ended and no failure went up to the session; `partial` when something is missing."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class StepStatus(StrEnum):
    """Of a node. A group is only ever waiting, running or ended."""

    WAITING = "waiting"
    EXPANDING = "expanding"
    """Its items are being made, or made ready for another attempt."""
    RUNNING = "running"
    RETRYING = "retrying"
    """Waits for `retry_at`."""
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Never started: what it needs did not complete, or its group ended first."""
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class ItemStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Left out by a condition; no join rule asks for it."""
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


S = SessionStatus
SESSION_STATES: StateTable[SessionStatus] = StateTable(
    {
        S.RUNNING: frozenset({S.PAUSED, S.COMPLETED, S.FAILED, S.CANCELLED, S.TIMED_OUT}),
        # What was running when it was paused may end, and with it the session.
        S.PAUSED: frozenset({S.RUNNING, S.COMPLETED, S.FAILED, S.CANCELLED, S.TIMED_OUT}),
    }
)

N = StepStatus
STEP_STATES: StateTable[StepStatus] = StateTable(
    {
        N.WAITING: frozenset({N.EXPANDING, N.SKIPPED, N.CANCELLED}),
        N.EXPANDING: frozenset({N.RUNNING, N.FAILED, N.CANCELLED, N.TIMED_OUT}),
        N.RUNNING: frozenset({N.RETRYING, N.COMPLETED, N.FAILED, N.CANCELLED, N.TIMED_OUT}),
        N.RETRYING: frozenset({N.EXPANDING, N.FAILED, N.CANCELLED, N.TIMED_OUT}),
    }
)
GROUP_STATES: StateTable[StepStatus] = StateTable(
    {
        N.WAITING: frozenset({N.RUNNING, N.SKIPPED, N.CANCELLED}),
        N.RUNNING: frozenset({N.COMPLETED, N.FAILED, N.CANCELLED, N.TIMED_OUT}),
    }
)

T = ItemStatus
ITEM_STATES: StateTable[ItemStatus] = StateTable(
    {
        T.PENDING: frozenset({T.RUNNING, T.COMPLETED, T.FAILED, T.SKIPPED, T.CANCELLED, T.TIMED_OUT}),
        # Back to pending: its worker is gone, another one goes on.
        T.RUNNING: frozenset({T.PENDING, T.COMPLETED, T.FAILED, T.SKIPPED, T.CANCELLED, T.TIMED_OUT}),
        # Back to pending: another attempt of the step, which only the step's own move to `expanding` allows.
        T.FAILED: frozenset({T.PENDING}),
        T.TIMED_OUT: frozenset({T.PENDING}),
    }
)

SESSION_ENDED = frozenset(status for status in SessionStatus if SESSION_STATES.is_terminal(status))
STEP_ENDED = frozenset(status for status in StepStatus if STEP_STATES.is_terminal(status))
STEP_OPEN = frozenset(StepStatus) - STEP_ENDED
STEP_STARTED = frozenset({N.EXPANDING, N.RUNNING, N.RETRYING})
STEP_FAILED = frozenset({N.FAILED, N.TIMED_OUT})
"""What `on_failure` speaks of."""
ITEM_OPEN = frozenset({T.PENDING, T.RUNNING})
ITEM_ENDED = frozenset(ItemStatus) - ITEM_OPEN
ITEM_FAILED = frozenset({T.FAILED, T.TIMED_OUT})
"""What another attempt takes up again."""
