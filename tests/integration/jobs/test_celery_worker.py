"""Jobs on a real Celery worker: what its children do, and what becomes of those that die, hang or eat the memory."""

from __future__ import annotations

import json
import os
import signal

import pytest
from django.db import connections
from django_celery_results.models import TaskResult

from apps.core import clock
from apps.jobs import upkeep
from apps.jobs.models import Job
from tests.integration.jobs import samples
from tests.processes import wait_until

pytestmark = [
    pytest.mark.xdist_group("jobs-worker"),
    pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="the worker shares a file with the test"),
]


def pid_in(file) -> int:
    return int(wait_until(lambda: file.exists() and file.read_text(), what="the job has begun"))


def test_a_job_runs_in_a_child_of_the_worker_and_its_result_is_celerys_too(celery_desk, worker):
    job = celery_desk.ended(celery_desk.submit(samples.double, 21))
    assert (job.status, job.result, job.attempt) == ("finished", {"doubled": 42}, 1)
    assert job.worker.startswith("jobs@") and str(worker.process.pid) not in job.worker
    mirror = TaskResult.objects.get(task_id=job.id)
    assert (mirror.status, json.loads(mirror.result)) == ("SUCCESS", {"doubled": 42})
    assert celery_desk.manager.backend.result(job.id).get(timeout=5) == {"doubled": 42}


def test_an_async_function_runs_and_its_progress_is_kept(celery_desk):
    job = celery_desk.ended(celery_desk.submit(samples.double_slowly, 21))
    assert (job.status, job.result, job.progress, job.message) == ("finished", {"doubled": 42}, 50, "half of it")


def test_what_a_method_raises_is_its_end(celery_desk):
    job = celery_desk.ended(celery_desk.submit(samples.fail, "no such page; password=hunter2"))
    assert (job.status, job.error_code, job.result) == ("failed", "error", None)
    assert job.error == "ValueError: no such page; password=…"
    assert "samples.py" in Job.objects.get(pk=job.id).traceback
    seen = celery_desk.manager.backend.result(job.id)
    assert seen.failed() and "no such page" in str(seen.result)


def said(worker, job, fact: str) -> str:
    """The line of the worker's log, at its default level."""
    def look() -> str:
        return next((line for line in worker.output().splitlines() if f" {fact} " in line and f" job={job.id} " in line), "")

    return wait_until(look, what=f"the log says {fact}")


def test_the_log_of_a_worker_says_when_it_starts_and_what_failed(celery_desk, worker):
    job = celery_desk.submit(samples.fail, "no such page; password=hunter2", retries=1, retry_delays=[0])
    said(worker, job, "job.retrying")
    upkeep.tend_jobs(now=clock.now())
    job = celery_desk.ended(job)
    assert [line for line in worker.output().splitlines() if " info " in line and "worker.started worker=jobs@" in line]
    ids = f"org= queue=default method={samples.fail.__name__}"
    for fact, attempt in (("job.retrying", 1), ("job.failed", 2)):
        line = said(worker, job, fact)
        assert " warning " in line and f"{ids} attempt={attempt} code=error reason=ValueError: no such page; password=…" in line


def test_a_killed_child_fails_its_job_at_once_and_the_worker_goes_on(celery_desk, worker, file):
    job = celery_desk.submit(samples.never, str(file))
    os.kill(pid_in(file), signal.SIGKILL)
    job = celery_desk.ended(job)
    assert (job.status, job.error_code, job.error) == ("failed", "worker_lost", "The worker of the job died.")
    assert (job.ended_at - job.started_at).total_seconds() < 25, "not by the lease"
    assert " warning " in said(worker, job, "job.worker_lost")
    assert celery_desk.ended(celery_desk.submit(samples.double, 1)).status == "finished"


def test_a_child_that_is_told_to_end_hands_back_its_job(celery_desk, file):
    """So does a second Ctrl-C, which Celery passes on to its children."""
    job = celery_desk.submit(samples.never, str(file), retries=1)
    first = pid_in(file)
    file.unlink()
    os.kill(first, signal.SIGTERM)
    assert pid_in(file) != first, "another child has it, and upkeep has no part in this"
    row = Job.objects.get(pk=job.id)
    assert (row.attempt, row.handed_back, row.error_code) == (2, 1, "worker_stopped")
    celery_desk.manager.cancel(job.id, celery_desk.owner, now=clock.now())
    celery_desk.ended(job)


def test_a_killed_child_is_replaced_by_another_attempt_when_the_job_has_one(celery_desk, file):
    job = celery_desk.submit(samples.die, retries=1, retry_delays=[0])
    wait_until(lambda: celery_desk.look(job).status == "retrying", what="the first attempt is over")
    upkeep.tend_jobs(now=clock.now())
    job = celery_desk.ended(job)
    assert (job.status, job.error_code, job.attempt) == ("failed", "worker_lost", 2)


def test_a_job_is_stopped_at_its_time_limit_and_its_child_lives_on(celery_desk, file):
    job = celery_desk.ended(celery_desk.submit(samples.never, str(file), timeout=0.3))
    assert (job.status, job.error_code) == ("failed", "timeout")
    assert job.error == "The job took longer than its time limit of 0.3 s."
    os.kill(int(job.worker.rpartition("/")[2]), 0)


def out_of_time(desk, function, file):
    """A job that ended at its limit in the middle of its method: on a busy machine a short one is over before the method begins."""
    for seconds in (0.3, 1, 4, 16):
        job = desk.ended(desk.submit(function, str(file), timeout=seconds))
        if file.exists():
            return job
    raise AssertionError("it never came so far")


def test_a_job_that_heeds_no_signal_is_killed_after_the_grace(celery_desk, file):
    job = out_of_time(celery_desk, samples.deaf, file)
    assert (job.status, job.error_code) == ("failed", "timeout")
    wait_until(lambda: not os.path.exists(f"/proc/{pid_in(file)}"), what="its process is gone")


def test_a_loop_in_c_that_holds_the_interpreter_is_killed_by_the_workers_parent(celery_desk, file):
    job = out_of_time(celery_desk, samples.spin_in_c, file)
    assert (job.status, job.error_code) == ("failed", "timeout")
    wait_until(lambda: not os.path.exists(f"/proc/{pid_in(file)}"), what="its process is gone")


def test_a_job_that_eats_the_memory_fails_alone(celery_desk):
    job = celery_desk.ended(celery_desk.submit(samples.eat, 600, memory_mb=200))
    assert (job.status, job.error_code) == ("failed", "out_of_memory")
    assert job.error == "The job needed more memory than its limit of 200 MB."
    assert celery_desk.ended(celery_desk.submit(samples.eat, 100, memory_mb=200)).status == "finished", "the limit is the job's"


def test_a_running_job_is_cancelled_where_it_waits(celery_desk, file):
    job = celery_desk.submit(samples.never, str(file))
    pid = pid_in(file)
    asked = celery_desk.manager.cancel(job.id, celery_desk.owner, now=clock.now())
    assert asked.status == "started" and asked.cancel_requested_at
    job = celery_desk.ended(job)
    assert (job.status, job.error) == ("cancelled", "The job was cancelled.")
    os.kill(pid, 0)
    assert TaskResult.objects.get(task_id=job.id).status == "REVOKED"


def test_a_job_that_leaves_python_fails(celery_desk):
    job = celery_desk.ended(celery_desk.submit(samples.leave))
    assert (job.status, job.error) == ("failed", "SystemExit: 3")
