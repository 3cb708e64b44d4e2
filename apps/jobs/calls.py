"""What crosses the room's borders: who asks, what is to be run, and a job as others see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any

from apps.jobs.models import Job
from apps.jobs.states import ENDED, JobStatus


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who submits or asks. An empty `key` is nobody in particular: such jobs open to whoever knows their id."""

    key: str = ""
    """`user:<pk>` or `key:<key id>`."""
    org_id: str = ""
    actor: str = ""
    """For people: kept with what was done."""
    operates: bool = False
    """Sees and steers every job of the org."""

    def may_see(self, job: Job) -> bool:
        return job.owner in ("", self.key) or bool(self.operates and self.org_id and job.org_id == self.org_id)


ANYBODY = Owner()


@dataclass(frozen=True, kw_only=True)
class JobCall:
    """What is to be run: a marked method (`marks`), a snapshot of the request and arguments, all plain JSON."""

    target: str
    """`package.module:Class.method` or `package.module:function`."""
    name: str = ""
    """For people; empty: the end of the target."""
    request: Mapping[str, Any] | None = None
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    unique_key: str = ""
    """Wins over the options'."""
    body_hash: str = ""
    """With a unique key: the same key with another hash is a conflict. Empty: made from the call."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """A job as it stood when it was read."""

    id: str
    org_id: str
    owner: str
    actor: str
    target: str
    name: str
    queue: str
    backend: str
    priority: int
    options: Mapping[str, Any]
    webhook_url: str
    retry_of: str
    unique_key: str | None
    status: JobStatus
    attempt: int
    waits_for: int
    worker: str
    progress: float | None
    message: str
    rate: float | None
    eta_s: float | None
    progress_at: datetime | None
    result: Any
    result_status: int | None
    error_code: str
    error: str
    errors: list[dict[str, str]] | None
    ended_as: str
    created_at: datetime
    not_before: datetime | None
    start_before: datetime | None
    started_at: datetime | None
    deadline: datetime | None
    cancel_requested_at: datetime | None
    ended_at: datetime | None
    result_expires_at: datetime | None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @classmethod
    def of(cls, row: Job) -> JobView:
        return cls(**{name: getattr(row, name) for name in VIEW_FIELDS if name != "status"}, status=JobStatus(row.status))


VIEW_FIELDS = tuple(each.name for each in fields(JobView))


@dataclass(frozen=True, kw_only=True)
class Enqueued:
    job: JobView
    repeated: bool = False
    """The same call with the same unique key was here before; this is its job."""
