"""What docs/jobs.md publishes of states, reasons, options and queues is what the code has."""

from __future__ import annotations

from dataclasses import fields

from apps.jobs.listing import TEXTS, TIMES
from apps.jobs.options import PER_REQUEST, JobOptions
from apps.jobs.states import JobStatus, Reason
from jobplatform.env import BASE_DIR
from jobplatform.queues import JOB_QUEUES, QUICK_JOBS

PAGE = (BASE_DIR / "docs" / "jobs.md").read_text()


def test_states_reasons_and_options_are_those_of_the_code():
    options = [f"| `{each.name}` {'* ' if each.name in PER_REQUEST else ''}|" for each in fields(JobOptions)]
    rows = [f"| `{each.value}` |" for each in (*JobStatus, *Reason)]
    assert [row for row in (*rows, *options) if row not in PAGE] == []


def test_queues_are_those_of_the_code():
    for queue in JOB_QUEUES:
        worker = "quick" if queue in QUICK_JOBS else "long"
        assert f"| `{queue.name}` | {worker} | {queue.time_limit_s} s | {queue.memory_mb} MB | {queue.meaning} |" in PAGE, queue


def test_filters_are_those_of_the_code():
    assert [name for name in ("status", "queue", *TEXTS, *TIMES) if f"`{name}`" not in PAGE] == []
