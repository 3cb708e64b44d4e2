"""Code written for django.tasks on this platform; after django-tasks' own tests of its backends (BSD 3-Clause, Jake Howard)."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from django_tasks import TaskResultStatus, default_task_backend, task, task_backends
from django_tasks.exceptions import InvalidTaskError, TaskResultDoesNotExist, TaskResultMismatch
from django_tasks.signals import task_enqueued, task_finished, task_started

from apps.core import clock
from apps.jobs import backends, upkeep
from apps.jobs.backends.memory import MemoryBackend
from apps.jobs.calls import ANYBODY
from apps.jobs.django_tasks import JobsBackend, JobTask
from apps.jobs.manager import JobManager
from apps.jobs.models import Job
from apps.jobs.states import JobStatus

pytestmark = pytest.mark.django_db(transaction=True)
JOBS = {"BACKEND": "apps.jobs.django_tasks.JobsBackend"}
CASES = "tests.integration.jobs_tasks.tasks"


@pytest.fixture(autouse=True)
def memory(settings, redis):
    """Jobs wait until `run_all`."""
    settings.TASKS = {
        "default": {**JOBS, "OPTIONS": {"backend": "memory"}},
        "flaky": {**JOBS, "OPTIONS": {"backend": "memory", "retries": 1, "retry_delays": [0]}},
        "few": {**JOBS, "QUEUES": ["fast"], "OPTIONS": {"backend": "memory"}},
        "elsewhere": {"BACKEND": "django_tasks.backends.dummy.DummyBackend", "QUEUES": []},
    }
    backend = MemoryBackend(threads=0)
    backends.adopt(backend)
    yield backend
    backends.adopt(None, "memory")


@pytest.fixture
def tasks(memory):
    """Imported here: what `@task` makes depends on what the alias stands for."""
    from tests.integration.jobs_tasks import tasks

    return tasks


def test_a_task_is_a_job(tasks, memory):
    assert isinstance(task_backends["default"], JobsBackend)
    assert default_task_backend == task_backends["default"]
    assert not list(default_task_backend.check())
    assert all(isinstance(each, JobTask) for each in (tasks.noop, tasks.noop_bare, tasks.noop_async))
    assert import_string(tasks.noop.module_path) is tasks.noop
    for each in (tasks.noop, tasks.noop_bare, tasks.noop_async):
        result = each.enqueue(1, two=3)
        assert (result.status, result.task, result.args, result.kwargs) == (TaskResultStatus.READY, each, [1], {"two": 3})
        assert (result.started_at, result.finished_at, result.attempts) == (None, None, 0)
        with pytest.raises(ValueError, match="Task has not finished yet"):
            _ = result.return_value
        row = Job.objects.get(pk=result.id)
        assert (row.target, row.name, row.owner) == (f"{CASES}:{each.name}", each.name, "")
        memory.run_all()
        result.refresh()
        assert (result.status, result.is_finished, result.return_value, result.attempts) == (TaskResultStatus.SUCCESSFUL, True, None, 1)
        assert result.enqueued_at <= result.started_at <= result.finished_at
        assert result.last_attempted_at == result.started_at


def test_everything_works_from_async_code_too(tasks, memory):
    async def story():
        result = await tasks.double.aenqueue(21)
        return result, await tasks.double.aget_result(result.id)

    result, again = async_to_sync(story)()
    assert dataclasses.asdict(result) == dataclasses.asdict(again)
    row = Job.objects.get(pk=result.id)
    assert (row.queue, row.priority) == ("fast", 10)
    memory.run_all()
    async_to_sync(result.arefresh)()
    assert result.return_value == 42
    with pytest.raises(TaskResultDoesNotExist):
        async_to_sync(tasks.noop.aget_result)("123")
    with pytest.raises(TaskResultMismatch):
        async_to_sync(tasks.noop.aget_result)(result.id)


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("fails", ValueError, "ValueError: This task failed due to ValueError\n"),
        ("exits", SystemExit, "SystemExit: This task failed due to SystemExit\n"),
        ("fails_with_an_error_in_an_error", ValueError, "ValueError: This task failed\n"),
        ("gives_what_json_cannot_say", TypeError, "JSON"),
    ],
)
def test_a_failure_is_kept_with_its_exception(tasks, memory, name, kind, says):
    result = getattr(tasks, name).enqueue()
    memory.run_all()
    result.refresh()
    assert (result.status, result.is_finished, result.attempts) == (TaskResultStatus.FAILED, True, 1)
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value
    (error,) = result.errors
    assert error.exception_class is kind
    assert says in error.traceback
    assert result._return_value is None


def test_of_a_chain_of_exceptions_the_last_one_is_named(tasks, memory):
    result = tasks.fails_in_our_own_way.enqueue()
    memory.run_all()
    result.refresh()
    assert result.errors[0].exception_class_path == f"{CASES}.OurError"
    assert "KeyError" in result.errors[0].traceback


def test_a_task_that_takes_a_context_knows_its_result_and_attempt(tasks, memory):
    first, second = tasks.own_id.enqueue(), tasks.own_attempt.enqueue({"a": 1})
    memory.run_all()
    first.refresh()
    second.refresh()
    assert first.return_value == first.id
    assert second.return_value == [1, {"a": 1}]


def test_a_task_is_tried_again_when_its_backend_says_so(tasks, memory):
    result = tasks.succeeds_the_second_time.enqueue()
    memory.run_all()
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.READY, 1)
    assert result.errors[0].exception_class is RuntimeError
    upkeep.tend_jobs(now=clock.now() + timedelta(seconds=1))
    memory.run_all()
    result.refresh()
    assert (result.return_value, result.attempts, result.backend) == (2, 2, "flaky")
    assert result.started_at < result.last_attempted_at


def test_a_later_time_a_priority_and_a_queue_can_be_given(tasks, memory):
    later = timezone.now() + timedelta(hours=1)
    result = tasks.meaning_of_life.using(run_after=later, priority=-100, queue_name="slow").enqueue()
    row = Job.objects.get(pk=result.id)
    assert (row.not_before, row.priority, row.queue) == (later, -100, "slow")
    assert memory.run_all() == 0
    for name in ("run_after", "priority", "queue_name"):
        assert getattr(tasks.meaning_of_life, name) in (None, 0, "default")


def test_what_cannot_be_is_refused_before_anything_is_stored(tasks):
    with pytest.raises(TypeError, match="Unsupported type: <class 'datetime.datetime'>"):
        tasks.noop.enqueue(datetime.now())  # noqa: DTZ005
    with pytest.raises(InvalidTaskError, match="run_after must be an aware datetime"):
        tasks.noop.using(run_after=datetime.now())  # noqa: DTZ005
    for priority in (-101, 101, 3.1):
        with pytest.raises(InvalidTaskError, match="priority must be a whole number between -100 and 100"):
            tasks.noop.using(priority=priority)
    with pytest.raises(InvalidTaskError, match="Queue 'nowhere' is not valid for backend"):
        tasks.noop.using(queue_name="nowhere")
    with pytest.raises(InvalidTaskError, match="Queue 'slow' is not valid for backend"):
        tasks.noop.using(queue_name="slow", backend="few")
    with pytest.raises(InvalidTaskError, match="module level"):
        task()(any)
    assert not Job.objects.exists()


def test_a_task_of_another_backend_is_not_taken_over_as_no_worker_would_find_it(tasks):
    foreign = task(backend="elsewhere")(tasks.meaning_of_life.func)
    with pytest.raises(InvalidTaskError, match="declare it with"):
        foreign.using(backend="default")


def test_a_wrong_option_is_said_at_start(settings):
    settings.TASKS = {"default": {**JOBS, "OPTIONS": {"retriez": 1}}}
    with pytest.raises(TypeError, match="retriez"):
        _ = task_backends["default"]


def test_its_signals_are_sent(tasks, memory):
    heard = []

    def hear(sender, task_result, **_):
        heard.append((sender, task_result.id, task_result.status))

    for signal in (task_enqueued, task_started, task_finished):
        signal.connect(hear)
    try:
        good, bad = tasks.meaning_of_life.enqueue(), tasks.fails.enqueue()
        memory.run_all()
    finally:
        for signal in (task_enqueued, task_started, task_finished):
            signal.disconnect(hear)
    ready, running = TaskResultStatus.READY, TaskResultStatus.RUNNING
    assert {sender for sender, _, _ in heard} == {JobsBackend}
    assert [status for _, id_, status in heard if id_ == good.id] == [ready, running, TaskResultStatus.SUCCESSFUL]
    assert [status for _, id_, status in heard if id_ == bad.id] == [ready, running, TaskResultStatus.FAILED]


def test_in_a_transaction_the_task_is_sent_when_that_is_committed(tasks, memory):
    with transaction.atomic():
        result = tasks.meaning_of_life.enqueue()
        assert memory.run_all() == 0
    memory.run_all()
    result.refresh()
    assert result.return_value == 42


def test_a_result_ends_with_its_job(tasks, memory):
    cancelled, expired = tasks.meaning_of_life.enqueue(), tasks.meaning_of_life.enqueue()
    JobManager("memory").cancel(cancelled.id, ANYBODY, now=clock.now())
    cancelled.refresh()
    assert cancelled.status == TaskResultStatus.FAILED
    memory.run_all()
    upkeep.tend_jobs(now=clock.now() + timedelta(seconds=501))
    assert Job.objects.get(pk=expired.id).status == JobStatus.EXPIRED
    with pytest.raises(TaskResultDoesNotExist):
        tasks.meaning_of_life.get_result(expired.id)
