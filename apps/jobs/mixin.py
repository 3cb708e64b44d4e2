"""Any method as a job.

    class Documents(JobManagerMixin, APIView):
        @JobManagerMixin.as_job(queue="embeddings", timeout=3600)
        def post(self, request):
            ...

Calling the method answers at once with a job id (202); the method itself runs in a worker, on a fresh instance, with the
request as it was. `GET <path>?job_id=…` tells how it stands, `DELETE` cancels it. Works in Django REST framework, plain
Django (synchronous and async), FastAPI and without a framework: which one it is follows from the request.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from apps.jobs import adapters, offloading, progress, submitting
from apps.jobs.fitting import before, fit
from apps.jobs.marks import ATTRIBUTE, JobMark, mark_of
from apps.jobs.options import JobOptions


def as_job(
    queue: str | Callable[..., Any] = "default",
    timeout: float | None = None,
    result_ttl: float | None = 500,
    return_job_id: bool = True,
    *,
    accepts: Any = None,
    result: Any = None,
    **options: Any,
) -> Any:
    """Mark a method or function as a job; calling it submits one. Further `options` are those of `JobOptions`.

    `accepts`: what the request's data must satisfy when it is submitted, a DRF serializer class or a function that raises
    ValueError. `result`: what it answers, for OpenAPI (else its return annotation). The function as it was written is
    `method.run_now(self, request)`. Raises TypeError or ValueError for an option that cannot be.
    """
    if callable(queue):
        return as_job()(queue)
    known = JobOptions(queue=queue, timeout=timeout, result_ttl=result_ttl, return_job_id=return_job_id, **options)

    def decorate(body: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.isfunction(body):
            raise TypeError(f"as_job marks functions and methods, not {type(body).__name__}: put it below @staticmethod and the like")
        mark = JobMark(options=known, body=body, is_async=inspect.iscoroutinefunction(body), accepts=accepts, result=result)
        return submitter(mark, is_async=mark.is_async)

    return decorate


def submitter(mark: JobMark, *, is_async: bool) -> Callable[..., Any]:
    """What stands in the method's place."""
    body = mark.body
    is_method = "." in body.__qualname__.rpartition("<locals>.")[2]

    def split(args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        return (args[0], args[1:]) if is_method else (None, args)

    @functools.wraps(body)
    def submit(*args: Any, **kwargs: Any) -> Any:
        if progress.current() is not None:
            return body(*args, **kwargs)  # in a job: a part of it
        view, args = split(args)
        call = adapters.find(view, args, kwargs)
        if view is None and (job_id := submitting.asked_after(call)):
            return offloading.run(call.adapter, submitting.answer_after, view, job_id, call.request)
        loaded = submitting.load(call)
        return offloading.run(call.adapter, submitting.submit, view, mark, call, args, kwargs, loaded, may_wait=not offloading.on_a_loop())

    @functools.wraps(body)
    async def asubmit(*args: Any, **kwargs: Any) -> Any:
        if progress.current() is not None:
            return await body(*args, **kwargs)
        view, args = split(args)
        call = adapters.find(view, args, kwargs)
        if view is None and (job_id := submitting.asked_after(call)):
            return await offloading.arun(call.adapter, submitting.answer_after, view, job_id, call.request)
        loaded = await submitting.aload(call)
        return await offloading.arun(call.adapter, submitting.submit, view, mark, call, args, kwargs, loaded, may_wait=True)

    wrapper = asubmit if is_async else submit
    wrapper.run_now = body  # type: ignore[attr-defined]
    setattr(wrapper, ATTRIBUTE, mark)
    return wrapper


class JobManagerMixin:
    """For any class, in any order among its parents. `job_manager`: a Celery app, an rq.Queue, a Dramatiq broker, a
    JobManager or the name of a backend; without one, the setting JOBS_BACKEND decides."""

    job_manager: Any = None
    as_job = staticmethod(as_job)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fit(cls, submitter)

    # ---- for methods ------------------------------------------------------------------------------------------

    def update_progress(self, percent: float, message: str = "") -> None:
        """How far this job is, 0…100; never less than before. Outside of a job it does nothing. Raises JobCancelled once
        the job is to stop."""
        progress.update(percent, message)

    @contextmanager
    def job_options(self, **options: Any) -> Iterator[None]:
        """Other options for the jobs submitted within: `with self.job_options(depends_on=[first]): return self.second(request)`."""
        token = submitting.overrides.set({**submitting.overrides.get(), **options})
        try:
            yield
        finally:
            submitting.overrides.reset(token)

    # ---- to override ------------------------------------------------------------------------------------------

    @classmethod
    def for_job(cls, **arguments: Any) -> Self:
        """The instance that a job runs on, in the worker. `arguments`: what the URL table gave `as_view()`."""
        return cls(**arguments)

    # ---- for callers ------------------------------------------------------------------------------------------

    @classmethod
    def get_async_methods(cls) -> dict[str, dict[str, Any]]:
        """The methods that are jobs, with their settings."""
        marks = {name: mark_of(inspect.getattr_static(cls, name, None)) for name in dir(cls)}
        return {name: dict(vars(mark.options)) for name, mark in marks.items() if mark is not None}

    @before("status")
    def get(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Only asked without a `job_id`: the parent's `get`, or the framework's 405."""
        return self._of_parent("get", request, *args, **kwargs)

    @before("cancel")
    def delete(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self._of_parent("delete", request, *args, **kwargs)

    def _handle_job_status_request(self, job_id: str, request: Any = None) -> Any:
        """The answer to `GET ?job_id=`."""
        return submitting.status(self, job_id, request)

    def _handle_job_cancel_request(self, job_id: str, request: Any = None) -> Any:
        return submitting.cancel(self, job_id, request)

    def _of_parent(self, verb: str, request: Any, *args: Any, **kwargs: Any) -> Any:
        handler = getattr(super(), verb, None)
        if handler is not None:
            return handler(request, *args, **kwargs)
        adapter = adapters.of(request) or adapters.named("plain")
        return adapter.not_allowed(self, request, args, kwargs)
