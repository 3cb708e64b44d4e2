"""Ended jobs as Celery's own results (django-celery-results): `AsyncResult(job_id)`, Flower and its admin show them. A mirror, written
in the transaction that ends the job; the row of the job stays the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from apps.jobs.models import Job
from apps.jobs.states import JobStatus

CELERY_STATES = {JobStatus.FINISHED: "SUCCESS", JobStatus.FAILED: "FAILURE", JobStatus.CANCELLED: "REVOKED"}


def writer(job: Job, end: JobStatus, fields: Mapping[str, Any], *, now: datetime) -> Callable[[], None]:
    return lambda: _write(job, end, fields, now=now)


def _write(job: Job, end: JobStatus, fields: Mapping[str, Any], *, now: datetime) -> None:
    from django_celery_results.models import TaskResult

    if end == JobStatus.FINISHED:
        result = fields["result"]
    else:
        result = {"exc_type": fields["error_code"], "exc_message": [fields["error"]], "exc_module": "builtins"}
    row = TaskResult(
        task_id=job.id,
        task_name=job.name,
        status=CELERY_STATES[end],
        worker=job.worker[:100] or None,
        content_type="application/json",
        content_encoding="utf-8",
        result=json.dumps(result),
        date_created=job.created_at,
        date_started=job.started_at,
        date_done=now,
        traceback=fields.get("traceback") or None,
        meta=json.dumps({"children": []}),
    )
    TaskResult.objects.bulk_create([row], ignore_conflicts=True)


def forget(job_id: str) -> None:
    """With the result of the job."""
    from django_celery_results.models import TaskResult

    TaskResult.objects.filter(task_id=job_id).delete()
