"""Submitting, following and steering jobs. The row is written first; then the backend is told, and if that fails upkeep tells it."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import IntegrityError, router, transaction

from apps.core import bulk, clock, events
from apps.core.errors import Conflict, Missing
from apps.jobs import dependencies, moves, news, sending
from apps.jobs.backends import of
from apps.jobs.backends.base import JobBackend
from apps.jobs.calls import Enqueued, JobCall, JobView, Owner
from apps.jobs.events import JobMoved, JobsMoved
from apps.jobs.models import Job
from apps.jobs.moves import Step
from apps.jobs.options import JobOptions
from apps.jobs.states import WAITING, JobStatus, Reason

LOOK_AGAIN_SECONDS = 5.0
"""How long a wait trusts the news before it reads the row anyway."""

KEPT_BY_A_RETRY = (
    "org_id", "owner", "actor", "target", "name", "queue", "backend", "priority", "arguments", "options", "webhook_url",
)  # fmt: skip


class UnknownJob(Missing):
    """There is no such job, or it is somebody else's: the same answer."""

    sentence = "Job not found."


class HasEnded(Conflict):
    code, sentence, shown = "job_ended", "The job has already ended.", ("status",)


class NotEnded(Conflict):
    code, sentence, shown = "job_not_failed", "Only a failed or cancelled job can be tried again.", ("status",)


class OtherBody(Conflict):
    code, sentence = "unique_key_reused", "This key was used for another call."


class JobManager:
    """One per backend; cheap to make."""

    def __init__(self, backend: JobBackend | Any = None) -> None:
        self.backend = of(backend)

    def enqueue(self, call: JobCall, options: JobOptions, owner: Owner, *, now: datetime) -> Enqueued:
        """A new job, or the one of the same unique key. Raises Invalid (field depends_on, webhook_url) and OtherBody."""
        return self.enqueue_many([(call, options)], owner, now=now)[0]

    def enqueue_many(self, calls: Sequence[tuple[JobCall, JobOptions]], owner: Owner, *, now: datetime) -> list[Enqueued]:
        """All of them or, when one is wrong, none."""
        rows = [self._row(call, options, owner, now=now) for call, options in calls]
        waits = [options.depends_on for _, options in calls]
        parents = dependencies.load({each for ids_ in waits for each in ids_}, owner)
        with bulk.atomic(Job, savepoint=False):
            repeated = self._repeated([row for row in rows if row.unique_key])
            new = [row for row in rows if row.id not in repeated]
            self._open_webhooks(new, owner, now=now)
            self._insert(new, repeated)
            pairs = ((row, options) for row, (_, options) in zip(rows, calls, strict=True) if row.id not in repeated)
            dependencies.insert([(row, on, options.depends_on_when) for row, options in pairs for on in options.depends_on])
            transaction.on_commit(lambda: self._told(new, parents, now=now), using=router.db_for_write(Job))
        return [Enqueued(job=JobView.of(repeated.get(row.id, row)), repeated=row.id in repeated) for row in rows]

    def status(self, job_id: str, owner: Owner) -> JobView:
        """Raises UnknownJob."""
        return JobView.of(self._get(job_id, owner))

    def cancel(self, job_id: str, owner: Owner, *, now: datetime, reason: str = "") -> JobView:
        """A waiting job is cancelled at once, a running one is asked to stop. Cancelling twice is harmless. Raises UnknownJob, HasEnded."""
        while True:
            row = self._get(job_id, owner)
            if row.status in WAITING:
                said = {"error_code": Reason.CANCELLED.value, "error": "The job was cancelled."}
                fields = {"ended_at": now, **said, **moves.kept_until(row, now=now)}
                if moves.move(
                    Step(job=row, end=JobStatus.CANCELLED, fields=fields, reason=reason or "cancelled", actor=owner.actor), now=now
                ):
                    return JobView.of(row)
            elif row.status == JobStatus.STARTED:
                guard = Job.objects.filter(pk=row.id, status=JobStatus.STARTED, attempt=row.attempt)
                asked = {"cancel_requested_at": now, "cancel_actor": owner.actor, "cancel_reason": reason[:1000]}
                if row.cancel_requested_at or guard.update(**asked):
                    row.cancel_requested_at = row.cancel_requested_at or now
                    news.ask_to_stop(row.id)
                    return JobView.of(row)
            elif row.status == JobStatus.CANCELLED:
                return JobView.of(row)
            else:
                raise HasEnded(status=row.status)
            # It moved between our read and our write; look again.

    def retry(self, job_id: str, owner: Owner, *, now: datetime) -> JobView:
        """A new job that does the same as a failed or cancelled one. Raises UnknownJob, NotEnded."""
        old = self._get(job_id, owner)
        if old.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
            raise NotEnded(status=old.status)
        kept = {name: getattr(old, name) for name in KEPT_BY_A_RETRY}
        backend = self.backend if self.backend.name == old.backend else of(old.backend)
        row = bulk.new(
            Job, **kept, request=_copied(old.request), id=_new_id(), sequence=clock.sequence(), retry_of=old.id,
            created_at=now, sent_at=now, tend_at=sending.look_at(now=now),
        )  # fmt: skip
        with bulk.atomic(Job, savepoint=False):
            bulk.insert([row])
            transaction.on_commit(lambda: self._told([row], {}, now=now, backend=backend), using=router.db_for_write(Job))
        return JobView.of(row)

    def wait(self, job_id: str, seconds: float, owner: Owner | None = None) -> JobView:
        """The job when it has ended, or as it is after `seconds`. Woken, not polled. Raises UnknownJob."""
        until = time.monotonic() + seconds
        with news.listen(job_id) as ear:
            while True:
                view = JobView.of(self._get(job_id, owner))
                left = until - time.monotonic()
                if view.has_ended or left <= 0:
                    return view
                ear.wait(min(left, LOOK_AGAIN_SECONDS))

    # ---- inside ------------------------------------------------------------------------------------------------

    def _get(self, job_id: str, owner: Owner | None) -> Job:
        row = Job.objects.filter(pk=job_id).first() if isinstance(job_id, str) and "\0" not in job_id else None
        if row is None or (owner is not None and not owner.may_see(row)):
            raise UnknownJob()
        return row

    def _row(self, call: JobCall, options: JobOptions, owner: Owner, *, now: datetime) -> Job:
        due = options.due(now)
        key = call.unique_key or (options.unique_key if isinstance(options.unique_key, str) else "")
        waits = len(options.depends_on)
        start_before = now + timedelta(seconds=options.expires_in) if options.expires_in is not None else None
        is_sent = not waits and (due is None or due <= now)
        return bulk.new(
            Job,
            id=_new_id(),
            org_id=owner.org_id,
            owner=owner.key,
            actor=owner.actor,
            sequence=clock.sequence(),
            target=call.target,
            name=(call.name or call.target.rpartition(":")[2])[:200],
            queue=options.queue,
            backend=self.backend.name,
            priority=options.priority,
            request=call.request,
            arguments={"args": list(call.args), "kwargs": dict(call.kwargs)} if call.args or call.kwargs else {},
            options=options.json(),
            webhook_url=options.webhook_url,
            unique_key=key or None,
            body_hash=(call.body_hash or _hash(call)) if key else "",
            waits_for=waits,
            created_at=now,
            not_before=due,
            start_before=start_before,
            sent_at=now if is_sent else None,
            tend_at=sending.look_at(now=now, due=None if waits else due, start_before=start_before, is_sent=is_sent, waits=bool(waits)),
        )

    def _repeated(self, rows: Iterable[Job]) -> dict[str, Job]:
        """By the id of the new row: the one that has its key. Raises OtherBody."""
        found = {}
        for row in rows:
            older = Job.objects.filter(owner=row.owner, unique_key=row.unique_key).first()
            if older is not None:
                if older.body_hash != row.body_hash:
                    raise OtherBody()
                found[row.id] = older
        return found

    def _insert(self, rows: list[Job], repeated: dict[str, Job]) -> None:
        """Two calls with the same key at the same moment: the database lets one of them in."""
        plain = [row for row in rows if not row.unique_key]
        if plain:
            bulk.insert(plain)
        for row in [row for row in rows if row.unique_key]:
            try:
                with bulk.atomic(Job):
                    bulk.insert([row])
            except IntegrityError:
                found = self._repeated([row])
                if not found:
                    raise
                repeated.update(found)
                rows.remove(row)

    def _open_webhooks(self, rows: Iterable[Job], owner: Owner, *, now: datetime) -> None:
        """The address is judged before anything is stored."""
        for row in rows:
            if row.webhook_url:
                from apps.jobs import callbacks

                callbacks.open(row.webhook_url, org_id=owner.org_id, by=owner.actor, now=now)

    def _told(self, rows: Sequence[Job], parents: dict[str, Job], *, now: datetime, backend: JobBackend | None = None) -> None:
        sending.send(backend or self.backend, [row for row in rows if row.sent_at is not None])
        # Read again: one of them may have ended between our look at it and the commit, and found nobody who waits.
        dependencies.settle(parents, now=now)
        events.publish(JobsMoved(moves=tuple(_birth(row) for row in rows)))


def get_job_manager(backend: Any = None) -> JobManager:
    """The manager of a backend, or of the one that the setting JOBS_BACKEND names."""
    return JobManager(backend)


def _copied(request: dict[str, Any] | None) -> dict[str, Any] | None:
    """A snapshot with uploads of its own: those of the old job go with it."""
    if request is None:
        return None
    from apps.jobs import snapshot

    return snapshot.copied(request)


def _birth(row: Job) -> JobMoved:
    facts = {"job_id": row.id, "org_id": row.org_id, "queue": row.queue, "actor": row.actor, "at": row.created_at}
    return JobMoved(old="", new=row.status, reason="", attempt=row.attempt, **facts)


def _new_id() -> str:
    return f"job_{secrets.token_hex(16)}"


def _hash(call: JobCall) -> str:
    body = [call.target, call.request, list(call.args), dict(call.kwargs)]
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
