"""The life of a job, as one table. Every change of status goes through `moves`, which checks it."""

from __future__ import annotations

from enum import StrEnum

from apps.core.states import StateTable


class JobStatus(StrEnum):
    QUEUED = "queued"
    """Waits: for its time, for other jobs, or for a worker."""
    STARTED = "started"
    """A worker holds it until `tend_at` and says so again before."""
    RETRYING = "retrying"
    """An attempt failed; the next one waits for its time."""
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """What it gave is erased, or nobody started it in time."""


class Reason(StrEnum):
    """Why a job is `failed`, `retrying` or `expired`: its `error_code`."""

    ERROR = "error"
    """Its method raised."""
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"
    """Its worker died, or was not heard of for a lease."""
    WORKER_STOPPED = "worker_stopped"
    """Its worker was told to stop, and waited for it no longer."""
    OUT_OF_MEMORY = "out_of_memory"
    DEPENDENCY_FAILED = "dependency_failed"
    """A job it waits for did not finish."""
    FORBIDDEN = "forbidden"
    """Whoever submitted it may no longer do so."""
    NOT_FOUND = "unknown_target"
    """The method is not there, or is not one that may run as a job."""
    BAD_RESULT = "result_not_json"
    CANCELLED = "cancelled"
    NOT_STARTED = "not_started_in_time"


S = JobStatus

JOB_STATES: StateTable[JobStatus] = StateTable(
    {
        # Straight to failed: a job it waits for did not finish.
        S.QUEUED: frozenset({S.STARTED, S.FAILED, S.CANCELLED, S.EXPIRED}),
        S.STARTED: frozenset({S.FINISHED, S.FAILED, S.RETRYING, S.CANCELLED}),
        S.RETRYING: frozenset({S.STARTED, S.FAILED, S.CANCELLED, S.EXPIRED}),
        S.FINISHED: frozenset({S.EXPIRED}),
        S.FAILED: frozenset({S.EXPIRED}),
        S.CANCELLED: frozenset({S.EXPIRED}),
    }
)

WAITING = frozenset({S.QUEUED, S.RETRYING})
OPEN = WAITING | {S.STARTED}
ENDED = frozenset(JobStatus) - OPEN
