"""A queue in this process that is closed while a job runs; the others are in tests/contracts/jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.core import clock
from apps.jobs import backends, upkeep
from apps.jobs.backends.memory import MemoryBackend
from apps.jobs.manager import JobManager
from apps.jobs.models import Job
from tests.integration.jobs import samples
from tests.integration.jobs.conftest import Desk
from tests.processes import wait_until


@pytest.fixture
def threaded(transactional_db, redis, settings):
    settings.JOBS_STOP_S = 0
    backend = MemoryBackend(threads=1)
    backends.adopt(backend)
    yield Desk(JobManager(backend))
    backend.close()
    backends.adopt(None, backend.name)


def run_and_close(desk: Desk, file: Path, **options) -> Job:
    job = desk.submit(samples.wait_for, str(file), str(file) + ".go", **options)
    wait_until(file.exists, what="it runs")
    desk.manager.backend.close()
    return Job.objects.get(pk=job.id)


def test_what_was_handed_back_costs_no_attempt(threaded, file):
    row = run_and_close(threaded, file, retries=1, retry_delays=[0], expires_in=3600)
    assert (row.status, row.error_code, row.attempt, row.handed_back) == ("retrying", "worker_stopped", 1, 1)
    assert row.sent_at is not None and row.start_before is None
    backends.adopt(MemoryBackend(threads=0))
    Job.objects.filter(pk=row.pk).update(target=f"{samples.ME}:fail", arguments={"args": ["no"], "kwargs": {}})
    for attempt, status in ((2, "retrying"), (3, "failed")):
        upkeep.tend_jobs(now=clock.now() + upkeep.sending.LOOK_AFTER)
        backends.named("memory").run_all()
        row.refresh_from_db()
        assert (row.attempt, row.status, row.error) == (attempt, status, "ValueError: no")


def test_what_may_not_run_twice_ends_at_once_and_says_why(threaded, file):
    row = run_and_close(threaded, file)
    assert (row.status, row.error_code) == ("failed", "worker_stopped")
    assert row.error == "The worker of the job was stopped before the job ended."


def test_one_that_is_to_be_cancelled_is_not_handed_back(threaded, file):
    job = threaded.submit(samples.wait_for, str(file), str(file) + ".go", retries=1)
    wait_until(file.exists, what="it runs")
    Job.objects.filter(pk=job.id).update(cancel_requested_at=clock.now())  # its process has not heard of it yet
    threaded.manager.backend.close()
    assert Job.objects.get(pk=job.id).status == "cancelled"
