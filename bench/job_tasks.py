"""The same no-op twice: as a method decorated as a job, and as a bare Celery task that keeps its result in django-celery-results. One
worker runs both.

    celery -A bench.job_tasks worker -P prefork -c 2 -Q fast        the worker
    python -m bench.job_tasks                                       the measure: JSON in, JSON out
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import django

from jobplatform.celery import app

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
django.setup()

from django.db import connections  # noqa: E402 - once Django is there
from django_celery_results.backends import DatabaseBackend  # noqa: E402
from django_celery_results.models import TaskResult  # noqa: E402

from apps.jobs import JobManagerMixin  # noqa: E402
from apps.jobs.models import Job  # noqa: E402

QUEUE = "fast"
PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.002


class Noop(JobManagerMixin):
    @JobManagerMixin.as_job(queue=QUEUE)
    def noop(self, number: int) -> int:
        return number


@app.task(name="bench.noop", queue=QUEUE, ignore_result=False, backend=DatabaseBackend(app=app))
def bare(number: int) -> int:
    return number


def main() -> None:
    from bench import job_tasks  # by the name under which the worker knows it

    json.dump(job_tasks.measure(json.load(sys.stdin)), sys.stdout)


def measure(wishes: dict[str, Any]) -> dict[str, Any]:
    """`{"singles", "batch", "repeats", "status_seconds", "concurrent"}` → figures. Both ways take turns."""
    ways = {"job": (_submit_job, _jobs_done), "bare": (_submit_bare, _bares_done)}
    for submit, done in ways.values():
        _batch(submit, done, 50)
    singles: dict[str, list[float]] = {name: [] for name in ways}
    batches: dict[str, list[float]] = {name: [] for name in ways}
    submits: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(wishes["repeats"]):
        for name, (submit, done) in ways.items():
            singles[name] += [_batch(submit, done, 1)[1] for _ in range(wishes["singles"])]
            submitted, ended = _batch(submit, done, wishes["batch"])
            submits[name].append(submitted / wishes["batch"])
            batches[name].append(ended / wishes["batch"])
    ms = {name: round(1000 * median(found), 3) for name, found in batches.items()}
    single_ms = {name: round(1000 * median(found), 3) for name, found in singles.items()}
    return {
        "per_job_ms": ms,
        "ratio": round(ms["job"] / ms["bare"], 2),
        "single_ms": single_ms,
        "single_ratio": round(single_ms["job"] / single_ms["bare"], 2),
        "submit_ms": {name: round(1000 * median(found), 3) for name, found in submits.items()},
        "status_reads_per_second": round(_status_reads(wishes["status_seconds"]), 1),
        **_concurrent(wishes["concurrent"]),
    }


def _submit_job(number: int) -> str:
    return Noop().noop(number)["job_id"]


def _submit_bare(number: int) -> str:
    return bare.delay(number).id


def _jobs_done(ids: list[str]) -> bool:
    found = Job.objects.filter(status="finished")
    return found.filter(pk=ids[-1]).exists() and found.filter(pk__in=ids).count() == len(ids)


def _bares_done(ids: list[str]) -> bool:
    found = TaskResult.objects.filter(status="SUCCESS")
    return found.filter(task_id=ids[-1]).exists() and found.filter(task_id__in=ids).count() == len(ids)


def _batch(submit: Callable[[int], str], done: Callable[[list[str]], bool], count: int) -> tuple[float, float]:
    """Seconds until all were submitted, and until all had ended."""
    began = time.perf_counter()
    ids = [submit(number) for number in range(count)]
    submitted = time.perf_counter() - began
    while not done(ids):
        if time.perf_counter() - began > PATIENCE_SECONDS:
            raise SystemExit(f"{count} no-ops did not end in {PATIENCE_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)
    return submitted, time.perf_counter() - began


def _status_reads(seconds: float) -> float:
    job_id = _submit_job(1)
    while not _jobs_done([job_id]):
        time.sleep(LOOK_SECONDS)
    view, reads, began = Noop(), 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        answer = view._handle_job_status_request(job_id, None)
        if not answer["success"]:
            raise SystemExit(f"the status of a finished job: {answer}")
        reads += 1
    return reads / (time.perf_counter() - began)


def _concurrent(count: int) -> dict[str, Any]:
    """All at once, from 32 threads: none may be lost, doubled or answered wrongly."""

    def submit(number: int) -> tuple[str, int]:
        try:
            return _submit_job(number), number
        finally:
            connections.close_all()

    began = time.perf_counter()
    with ThreadPoolExecutor(32) as pool:
        wanted = dict(pool.map(submit, range(count)))
    submitted = time.perf_counter() - began
    while not _jobs_done(list(wanted)):
        if time.perf_counter() - began > PATIENCE_SECONDS:
            raise SystemExit(f"{count} jobs at once did not end")
        time.sleep(LOOK_SECONDS)
    took = time.perf_counter() - began
    results = dict(Job.objects.filter(pk__in=wanted).values_list("id", "result"))
    if results != wanted:
        raise SystemExit("jobs at once: results are missing or wrong")
    return {"concurrent": count, "concurrent_submit_s": round(submitted, 2), "concurrent_s": round(took, 2)}


if __name__ == "__main__":
    main()
