"""Webhooks of jobs: two rooms that know nothing of each other, put together.

    {"type": "job.finished", "timestamp": "2026-11-22T12:00:00.000Z",
     "data": {"org_id", "job_id", "name", "queue", "status", "previous_status", "reason", "error_code", "attempt", "retry_of",
              "created_at", "started_at", "ended_at", "event_id"}}

Each move of a job is a row, written with it; the webhooks' cursor walks over these as it does over the moves of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from apps.core import clock
from apps.jobs import callbacks
from apps.jobs.events import JobsMoved
from apps.jobs.models import Job, JobEvent
from apps.jobs.states import WAITING, JobStatus
from apps.webhooks import derive, event_types, sources
from apps.webhooks.book import WebhookBook
from apps.webhooks.sources import Move

ROW = ("webhook_url", "name", "queue", "retry_of", "error_code", "created_at", "started_at", "ended_at")


class JobMoves:
    name = "jobs"

    def page(self, after: str, upto: str, limit: int) -> list[Move]:
        rows = JobEvent.objects.filter(pk__gt=after)
        if upto:
            rows = rows.filter(pk__lte=upto)
        return _moves(list(rows.order_by("pk")[:limit]))

    def awaited(self, org_id: str) -> list[str]:
        running = Job.objects.filter(org_id=org_id, ended_at__isnull=True).exclude(webhook_url="")
        return list(running.values_list("webhook_url", flat=True).distinct())

    def bodies(self, moves: Sequence[Move]) -> list[str]:
        return [_body(move.event, *move.facts) for move in moves]


def _moves(found: list[JobEvent]) -> list[Move]:
    jobs = {row.pk: row for row in Job.objects.filter(pk__in={each.job_id for each in found}).only(*ROW)}
    return [
        Move(
            id=each.id, org_id=each.org_id, event=(event := _event(each, jobs)), job_id=each.job_id, facts=(each, jobs.get(each.job_id)),
            callback=jobs[each.job_id].webhook_url if event in event_types.JOB_ENDS else "",
        )
        for each in found
    ]  # fmt: skip


def _event(move: JobEvent, jobs: dict[str, Job]) -> str:
    """Nobody is told that a result's time is over, nor of a job that is purged already."""
    if move.job_id not in jobs or (move.new == JobStatus.EXPIRED and move.old not in WAITING):
        return ""
    return f"job.{move.new}"


def _body(event: str, move: JobEvent, job: Job) -> str:
    has_ended = event in event_types.JOB_ENDS
    data = {
        "org_id": move.org_id or None,
        "job_id": move.job_id,
        "name": job.name,
        "queue": job.queue,
        "status": move.new,
        "previous_status": move.old,
        "reason": move.reason,
        "error_code": job.error_code or None if has_ended else None,
        "attempt": move.attempt,
        "retry_of": job.retry_of or None,
        "created_at": clock.iso(job.created_at),
        "started_at": clock.iso(job.started_at) if has_ended else None,
        "ended_at": clock.iso(move.at) if has_ended else None,
        "event_id": move.id,
    }
    return event_types.body(event, move.at, data)


def open_callback(url: str, *, org_id: str, by: str, now: datetime) -> None:
    WebhookBook(org_id=org_id, by=by, now=now).for_job(url)


def heard(news: JobsMoved) -> None:
    derive.ring(move.org_id for move in news.moves)


def connect() -> None:
    sources.add(JobMoves())
    callbacks.use(open_callback)
