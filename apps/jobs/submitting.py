"""In the web process: a call of a decorated method becomes a job, and a question after a job its answer.

Everything here is synchronous and knows no framework; `adapters` do. Whatever is wrong with what a client sent is an answer
in the shape of `answers`, whatever the framework.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import orjson
from django.conf import settings
from django.db import router, transaction

from apps.core import clock
from apps.core.errors import Invalid, Missing, PlatformError, Problem
from apps.core.streaming import seats
from apps.jobs import adapters, answers, faults, files, marks, streaming
from apps.jobs.adapters import Call
from apps.jobs.answers import Answer, Preference
from apps.jobs.calls import JobCall, JobView, Owner
from apps.jobs.manager import JobManager
from apps.jobs.marks import JobMark
from apps.jobs.models import Job
from apps.jobs.options import PER_REQUEST, JobOptions
from apps.jobs.people import owner_of
from apps.jobs.snapshot import RequestSnapshot, as_json

log = logging.getLogger(__name__)

overrides: ContextVar[Mapping[str, Any]] = ContextVar("job_options", default={})  # noqa: B039 (never changed in place)
"""Options of the calls made within `job_options(...)`."""


def submit(view: Any, mark: JobMark, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any], loaded: Any, *, may_wait: bool) -> Any:
    """The framework's response. `view` is None for a function; `loaded` is what the adapter read on the event loop."""
    try:
        if call.request is not None:
            call.adapter.admit(view, call.request)
        answer = _submit(view, mark, call, args, kwargs, loaded, may_wait=may_wait)
    except PlatformError as error:
        return call.adapter.refuse(view, call.request, error)
    return call.adapter.respond(view, call.request, answer)


def status(view: Any, job_id: str, request: Any) -> Any:
    """The response to a question after a job; an event stream for whoever accepts one."""
    adapter = adapters.of(request) or adapters.named("plain")
    try:
        owner = _asker(view, adapter, request)
        manager = manager_of(view)
        header = _headers(adapter, request)
        if "text/event-stream" in header("accept") and adapter.method(request) == "GET":
            return adapter.stream(request, streaming.events(manager, job_id, owner))
        prefer = Preference.read(header("prefer"))
        job = manager.status(job_id, owner)
        if prefer.wait_s and not job.has_ended:
            job = _wait(manager, job, min(prefer.wait_s, settings.JOBS_MAX_WAIT_S))
        answer = answers.status(job, now=clock.now(), if_none_match=header("if-none-match"))
        answer = replace(answer, headers={**answer.headers, **prefer.applied(is_async=False)})
    except Missing:
        answer = answers.UNKNOWN
    except PlatformError as error:
        answer = answers.refused(error)
    return adapter.respond(view, request, answer)


def cancel(view: Any, job_id: str, request: Any) -> Any:
    adapter = adapters.of(request) or adapters.named("plain")
    try:
        owner = _asker(view, adapter, request)
        job = manager_of(view).cancel(job_id, owner, now=clock.now())
        answer = Answer(status=200 if job.has_ended else 202, body={**answers.status_body(job), "success": True})
    except Missing:
        answer = answers.UNKNOWN
    except PlatformError as error:
        answer = answers.refused(error)
    return adapter.respond(view, request, answer)


def asked_after(call: Call) -> str | None:
    """The `job_id` that a function view is asked after; a class has `get` and `delete` for that."""
    if call.request is None or call.adapter.method(call.request) not in ("GET", "HEAD", "DELETE"):
        return None
    return call.adapter.query(call.request, "job_id")


def answer_after(view: Any, job_id: str, request: Any) -> Any:
    adapter = adapters.of(request)
    return (cancel if adapter is not None and adapter.method(request) == "DELETE" else status)(view, job_id, request)


async def aload(call: Call) -> Any:
    """What only the event loop can read; what is wrong with it is `submit`'s to answer."""
    try:
        return None if call.request is None else await call.adapter.aload(call.request)
    except PlatformError as error:
        return error


def load(call: Call) -> Any:
    """As `aload`, from synchronous code."""
    try:
        return None if call.request is None else call.adapter.load(call.request)
    except PlatformError as error:
        return error


def manager_of(view: Any) -> JobManager:
    given = getattr(view, "job_manager", None)
    return given if isinstance(given, JobManager) else JobManager(given)


# ---- inside -------------------------------------------------------------------------------------------------


def _submit(view: Any, mark: JobMark, call: Call, args: Sequence[Any], kwargs: Mapping[str, Any], loaded: Any, *, may_wait: bool) -> Answer:
    header, now = _headers(call.adapter, call.request), clock.now()
    target = marks.address(None if view is None else type(view), mark)
    if isinstance(loaded, PlatformError):
        raise loaded
    asked = call.adapter.read(view, call.request, loaded)
    changes = overrides.get()
    options = _resolved(mark.options.but(**changes) if changes else mark.options, call.request)
    owner = owner_of(asked.user)
    if mark.accepts is not None:
        _check(mark.accepts, call.request.data if hasattr(call.request, "data") else asked.snapshot.data)
    plain = as_json({
        "data": asked.snapshot.data,
        "query": asked.snapshot.query,
        "url": {"args": asked.snapshot.view_args, "kwargs": {name: _text(each) for name, each in asked.snapshot.view_kwargs.items()}},
        "args": [None if call.place == str(index) else each for index, each in enumerate(args)],
        "kwargs": {name: each for name, each in kwargs.items() if name != call.place},
    })  # fmt: skip
    snapshot = replace(
        asked.snapshot, data=plain["data"], query=plain["query"], view_args=plain["url"]["args"], view_kwargs=plain["url"]["kwargs"],
        user=owner.key, place=call.place, files=files.keep(asked.uploads),
    )  # fmt: skip
    unique_key = _unique_key(options, header("idempotency-key"), target, owner)
    job_call = JobCall(
        target=target,
        request=snapshot.json() if call.request is not None else None,
        args=plain["args"],
        kwargs=plain["kwargs"],
        unique_key=unique_key,
        body_hash=_hash(target, snapshot, plain) if unique_key else "",
    )
    manager = manager_of(view)
    try:
        enqueued = manager.enqueue(job_call, options, owner, now=now)
    except BaseException:
        files.delete(ref.stored for ref in snapshot.files)
        raise
    if enqueued.repeated:
        files.delete(ref.stored for ref in snapshot.files)
    prefer, job = Preference.read(header("prefer")), enqueued.job
    seconds = prefer.seconds(inline=not options.return_job_id, default_s=options.wait, most_s=settings.JOBS_MAX_WAIT_S)
    if seconds and may_wait and not job.has_ended:
        job = _wait(manager, job, seconds)
    if seconds and job.has_ended:
        return answers.own_result(job, prefer.applied(is_async=False))
    answer = answers.created(job, path=call.adapter.path(call.request), repeated=enqueued.repeated, now=now)
    return replace(answer, headers={**answer.headers, **prefer.applied(is_async=True)})


def _wait(manager: JobManager, job: JobView, seconds: float) -> JobView:
    """As it is after so long, or at once when too many wait already, or nobody can see the row before our transaction ends."""
    if transaction.get_connection(router.db_for_write(Job)).in_atomic_block:
        return job
    seat = seats().take()
    if seat is None:
        return job
    with seat:
        return manager.wait(job.id, seconds)


def _resolved(options: JobOptions, request: Any) -> JobOptions:
    """With what functions among the options say about this request; what they trip over is the request's fault."""
    for name in PER_REQUEST:
        function = getattr(options, name)
        if callable(function):
            try:
                options = options.but(**{name: function(request)})
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                log.info("job.option_unresolved", extra={"option": name, "error": str(error)})
                problem = Problem(field=name, code="wrong", message="cannot be told from this request")
                raise Invalid([problem], "The request does not say all that its job needs.") from None
    return options


def _unique_key(options: JobOptions, header: str, target: str, owner: Owner) -> str:
    key = options.unique_key
    if isinstance(key, str):
        return key if len(key) <= 200 else hashlib.sha256(key.encode()).hexdigest()
    # Nobody in particular has no keys of his own: another nobody could guess them.
    return f"header:{hashlib.sha256(f'{target} {header}'.encode()).hexdigest()}" if header and owner.key else ""


def _hash(target: str, snapshot: RequestSnapshot, plain: Any) -> str:
    """Of what is asked for: the same request has the same, whatever its headers and wherever its uploads lie."""
    said = [target, snapshot.method, snapshot.path, plain, sorted([ref.field, ref.sha256, ref.name] for ref in snapshot.files)]
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _check(accepts: Any, data: Any) -> None:
    """By a serializer class of DRF, or by a function that raises Invalid or ValueError."""
    if not isinstance(accepts, type):
        try:
            accepts(data)
        except ValueError as error:
            raise Invalid([Problem(field="data", code="wrong", message=str(error))]) from None
        return
    serializer = accepts(data=data)
    if not serializer.is_valid():
        raise Invalid(faults.problems_of(serializer.errors))


def _asker(view: Any, adapter: Any, request: Any) -> Owner:
    if request is not None:
        adapter.admit(view, request)
    return owner_of(adapter.user(request))


def _headers(adapter: Any, request: Any) -> Any:
    return (lambda name: adapter.header(request, name)) if request is not None else (lambda _name: "")


def _text(captured: Any) -> Any:
    """What the URL captured, as it stood there: a path converter may have made anything of it."""
    return captured if isinstance(captured, (str, int, float, type(None))) else str(captured)
