"""Code written for `django.tasks` (Django 6; the package django-tasks before) runs as jobs of this platform.

    TASKS = {"default": {"BACKEND": "apps.jobs.django_tasks.JobsBackend", "OPTIONS": {"backend": "rq", "retries": 3}}}

OPTIONS are those of `as_job` (timeout, result_ttl, retries, …) and `backend`, the queue that carries them (default: the setting
JOBS_BACKEND). Whatever a job has, such a task has: it is in the admin, can be cancelled, survives its worker. Results open to
whoever knows their id, which cannot be guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from apps.core import clock, events
from apps.jobs import marks, progress, queues
from apps.jobs.calls import ANYBODY, JobCall
from apps.jobs.events import JobsMoved
from apps.jobs.manager import JobManager
from apps.jobs.models import Job, JobEvent
from apps.jobs.options import JobOptions
from apps.jobs.states import JobStatus

try:
    from django.tasks import base, exceptions, signals  # Django 6
    from django.tasks.backends.base import BaseTaskBackend
except ImportError:
    try:
        from django_tasks import base, exceptions, signals
        from django_tasks.backends.base import BaseTaskBackend
    except ImportError as missing:
        raise ImportError("TASKS before Django 6: pip install django-tasks==0.12.0") from missing

STATUSES = {
    JobStatus.QUEUED: base.TaskResultStatus.READY,
    JobStatus.RETRYING: base.TaskResultStatus.READY,
    JobStatus.STARTED: base.TaskResultStatus.RUNNING,
    JobStatus.FINISHED: base.TaskResultStatus.SUCCESSFUL,
    JobStatus.FAILED: base.TaskResultStatus.FAILED,
    JobStatus.CANCELLED: base.TaskResultStatus.FAILED,
}
"""An expired job has no result any more."""

RAISED = {"timeout": TimeoutError, "out_of_memory": MemoryError, "result_not_json": TypeError, "forbidden": PermissionError}
"""What stands for a failure that no exception of the task's own explains; of the others, RuntimeError."""

HEADER = "Traceback (most recent call last):\n"
AT_THE_MARGIN = re.compile(r"^([A-Za-z_][\w.]*)(?::|$)", re.MULTILINE)
"""After a header, the first line that is not indented begins with the name of the exception."""


@dataclass(frozen=True, kw_only=True)
class TaskMark(marks.JobMark):
    task: JobTask


@dataclass(frozen=True, kw_only=True)
class JobTask(base.Task):
    """A task that workers may run: what `@task` makes of a function when this backend is its own."""

    @property
    def as_job(self) -> TaskMark:
        options = self.get_backend().job_options(self)
        return TaskMark(options=options, body=_body(self), is_async=iscoroutinefunction(self.func), task=self)


class JobsBackend(BaseTaskBackend):
    task_class = JobTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, {"QUEUES": list(queues.known()), **params})
        self._given = {name: value for name, value in self.options.items() if name != "backend"}
        JobOptions(**self._given)  # an unknown or impossible option is said at start

    @property
    def _manager(self) -> JobManager:
        return JobManager(self.options.get("backend"))

    def validate_task(self, task: base.Task) -> None:
        super().validate_task(task)
        if not isinstance(task, JobTask):
            invalid = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError
            raise invalid(f"A worker would not find the task as one of this backend: declare it with @task(backend={self.alias!r}).")

    def job_options(self, task: base.Task) -> JobOptions:
        return JobOptions(**self._given, queue=task.queue_name, priority=task.priority, not_before=task.run_after)

    def enqueue(self, task: base.Task, args: Any, kwargs: Any) -> base.TaskResult:
        self.validate_task(task)
        args, kwargs = base.normalize_json(args), base.normalize_json(kwargs)
        call = JobCall(target=f"{task.func.__module__}:{task.func.__qualname__}", name=task.name, args=args, kwargs=kwargs)
        job = self._manager.enqueue(call, self.job_options(task), ANYBODY, now=clock.now()).job
        result = self.result(Job.objects.get(pk=job.id), task)
        signals.task_enqueued.send(type(self), task_result=result)
        return result

    def get_result(self, result_id: str) -> base.TaskResult:
        row = Job.objects.filter(pk=result_id).first()
        if row is None or row.status not in STATUSES or (task := _task(row)) is None:
            raise exceptions.TaskResultDoesNotExist(result_id)
        return self.result(row, task)

    def result(self, row: Job, task: base.Task) -> base.TaskResult:
        starts = list(JobEvent.objects.filter(job_id=row.id, new=JobStatus.STARTED).order_by("id").values_list("at", flat=True))
        result = base.TaskResult(
            task=task,
            id=row.id,
            status=STATUSES[JobStatus(row.status)],
            enqueued_at=row.created_at,
            started_at=starts[0] if starts else None,
            last_attempted_at=starts[-1] if starts else None,
            finished_at=row.ended_at,
            args=row.arguments.get("args", []),
            kwargs=row.arguments.get("kwargs", {}),
            backend=self.alias,
            errors=[_error(row)] if row.error_code else [],
            # Django counts attempts by them; the row knows the last.
            worker_ids=[row.worker] * row.attempt,
        )
        object.__setattr__(result, "_return_value", row.result)
        return result


def _task(row: Job) -> JobTask | None:
    """The task that a row runs, as `@task` declared it; None when it runs something else."""
    try:
        mark = marks.resolve(row.target).mark
    except marks.UnknownTarget:
        return None
    return mark.task if isinstance(mark, TaskMark) else None


_in_hand: dict[str, JobTask] = {}
"""Tasks that this process runs, by job: `task_finished` is sent for them when their rows have ended."""


def _body(task: JobTask) -> Callable[..., Any]:
    """The task's function, with its context and signals. It runs outside of an event loop; what an async function gives does not."""

    def call(*args: Any, **kwargs: Any) -> Any:
        job_id = progress.current().job_id
        backend = task.get_backend()
        result = backend.result(Job.objects.get(pk=job_id), task)
        _in_hand[job_id] = task
        signals.task_started.send(type(backend), task_result=result)
        return task.func(base.TaskContext(task_result=result), *args, **kwargs) if task.takes_context else task.func(*args, **kwargs)

    return call


def moved(news: JobsMoved) -> None:
    for move in news.moves:
        if move.job_id in _in_hand and move.new != JobStatus.STARTED:
            task = _in_hand.pop(move.job_id)
            if move.new in (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED):
                backend = task.get_backend()
                signals.task_finished.send(type(backend), task_result=backend.result(Job.objects.get(pk=move.job_id), task))


events.subscribe(JobsMoved, moved)


def _error(row: Job) -> base.TaskError:
    """Of the last attempt. What the task did not raise itself (a timeout, a lost worker) has no traceback: the sentence stands for it."""
    raised = RAISED.get(row.error_code)
    named = AT_THE_MARGIN.search(row.traceback.rpartition(HEADER)[2]) if raised is None else None
    path = named[1] if named else (raised or RuntimeError).__name__
    return base.TaskError(exception_class_path=path if "." in path else f"builtins.{path}", traceback=row.traceback or f"{row.error}\n")
