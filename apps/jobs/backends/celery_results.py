"""Ended jobs as Celery's own results (django-celery-results): an `AsyncResult` on that backend and its admin show them. A mirror, written
in the transaction that ends the job; the row of the job stays the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.db import connections, router

from apps.jobs.models import Job
from apps.jobs.states import JobStatus

INSERT = (
    "INSERT INTO django_celery_results_taskresult (task_id, task_name, status, worker, content_type, content_encoding, result, "
    "date_created, date_started, date_done, traceback, meta) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
    "ON CONFLICT (task_id) DO NOTHING"
)
"""By hand: Django's own way costs as much as the rest of the end of a job."""
NO_CHILDREN = '{"children": []}'
CELERY_STATES = {JobStatus.FINISHED: "SUCCESS", JobStatus.FAILED: "FAILURE", JobStatus.CANCELLED: "REVOKED"}


def writer(job: Job, end: JobStatus, fields: Mapping[str, Any], *, now: datetime) -> Callable[[], None]:
    return lambda: _write(job, end, fields, now=now)


def _write(job: Job, end: JobStatus, fields: Mapping[str, Any], *, now: datetime) -> None:
    if end == JobStatus.FINISHED:
        result = fields["result"]
    else:
        result = {"exc_type": fields["error_code"], "exc_message": [fields["error"]], "exc_module": "builtins"}
    connection = connections[router.db_for_write(Job)]
    instant = connection.ops.adapt_datetimefield_value
    values = (
        job.id, job.name, CELERY_STATES[end], job.worker[:100] or None, "application/json", "utf-8", json.dumps(result),
        instant(now), instant(job.started_at), instant(now), fields.get("traceback") or None, NO_CHILDREN,
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(INSERT, values)


def forget(job_id: str) -> None:
    """With the result of the job."""
    from django_celery_results.models import TaskResult

    TaskResult.objects.filter(task_id=job_id).delete()
