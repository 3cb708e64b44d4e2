"""A job as the API shows it: what its status URL answers (`answers.status_body`), and what else is known of it."""

from __future__ import annotations

from typing import Any

from apps.core import clock
from apps.jobs import answers
from apps.jobs.calls import JobView
from apps.jobs.models import Job, JobDependency, JobEvent
from apps.jobs.states import JobStatus


def full(row: Job, *, operates: bool) -> dict[str, Any]:
    """`operates`: with what only the org's operators are shown."""
    view = JobView.of(row)
    body = {**_facts(row), **answers.status_body(view)}
    body.pop("status_code", None)  # of the status URL: the job is still here, what it gave is not
    body["depends_on"] = list(JobDependency.objects.filter(job_id=row.id).order_by("id").values_list("on_id", flat=True))
    if operates:
        body |= {"target": row.target, "worker": row.worker, "traceback": row.traceback}
    return body


def brief(row: Job) -> dict[str, Any]:
    """Without its result, and without another look at the database."""
    facts = _facts(row)
    ended = row.status in (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)
    times = {name: clock.iso(getattr(row, name)) for name in ("created_at", "started_at", "ended_at")}
    body = {"success": not ended, "job_id": row.id, "status": row.status, **times, **facts}
    return {**body, "error": row.error, "error_code": row.error_code} if ended else body


def events(row: Job) -> list[dict[str, Any]]:
    """Its moves, oldest first; the first is its birth."""
    born = {"id": "", "old": None, "new": JobStatus.QUEUED.value, "attempt": 0, "reason": "", "actor": row.actor}
    moves = JobEvent.objects.filter(job_id=row.id).order_by("id")
    return [{**born, "at": clock.iso(row.created_at)}, *(event(each) for each in moves)]


def event(move: JobEvent) -> dict[str, Any]:
    names = ("id", "old", "new", "attempt", "reason", "actor")
    return {**{name: getattr(move, name) for name in names}, "at": clock.iso(move.at)}


def _facts(row: Job) -> dict[str, Any]:
    options = row.options or {}
    return {
        "name": row.name,
        "queue": row.queue,
        "backend": row.backend,
        "priority": row.priority,
        "attempt": row.attempt,
        "retries": options.get("retries", 0),
        "timeout_s": options.get("timeout_s"),
        "waits_for": row.waits_for,
        "progress": row.progress,
        "message": row.message,
        "rate": row.rate,
        "eta_s": row.eta_s,
        "submitter": row.owner,
        "submitted_by": row.actor,
        "retry_of": row.retry_of or None,
        "unique_key": row.unique_key,
        "webhook_url": row.webhook_url,
        "not_before": clock.iso(row.not_before),
        "start_before": clock.iso(row.start_before),
        "cancel_requested_at": clock.iso(row.cancel_requested_at),
        "result_expires_at": clock.iso(row.result_expires_at),
    }
