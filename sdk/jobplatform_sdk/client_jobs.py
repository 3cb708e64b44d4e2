"""Jobs from Python: what a view answered 202 for. Follow one, wait for its result, cancel it, try it again, look at many.

    answer = httpx.post("https://app.example.com/documents", json={"files": ["a.pdf"]}, headers=…).json()
    job = client.wait_job(answer["job_id"], timeout=60)
    print(job.result if job.finished else job.error)

The same methods on `Client` and `AsyncClient` (there each is awaited, and what gives many is an async iterator).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson

from jobplatform_sdk.client_calls import Answer, Call, Pages, Tries, _post, plain
from jobplatform_sdk.client_errors import BadAnswer, NotEnded, NotFound
from jobplatform_sdk.client_streams import Following
from jobplatform_sdk.client_values import Json, Page, Reader

JOBS = "/api/v1/jobs"
OPEN = frozenset({"queued", "started", "retrying"})


# ---- values -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Job:
    job_id: str
    status: str
    """queued, started, retrying, finished, failed, cancelled or expired"""
    name: str = ""
    queue: str = ""
    priority: int = 0
    attempt: int = 0
    progress: float | None = None
    """Percent; None: it does not say."""
    message: str = ""
    eta_s: float | None = None
    result: Any = None
    error: str = ""
    error_code: str = ""
    submitter: str = ""
    retry_of: str = ""
    created: datetime | None = None
    started: datetime | None = None
    ended_at: datetime | None = None
    data: Json = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        return self.status not in OPEN

    @property
    def finished(self) -> bool:
        return self.status == "finished"


def read_job(data: Any) -> Job:
    r = Reader(data, "job")
    return Job(
        job_id=r.needed("job_id"), status=r.needed("status"), name=r.text("name"), queue=r.text("queue"), priority=r.whole("priority"),
        attempt=r.whole("attempt"), progress=r.maybe_number("progress"), message=r.text("message"), eta_s=r.maybe_number("eta_s"),
        result=data.get("result"), error=r.text("error"), error_code=r.text("error_code"),
        submitter=r.text("submitted_by") or r.text("submitter"),
        retry_of=r.text("retry_of"), created=r.time("created_at"), started=r.time("started_at"), ended_at=r.time("ended_at"), data=data,
    )  # fmt: skip


def _job(answer: Answer) -> Job:
    return read_job(answer.json())


# ---- calls ------------------------------------------------------------------------------------------------


def path_of(job_id: str, *rest: str) -> str:
    if not isinstance(job_id, str):
        raise TypeError("A job_id is a string.")
    if not job_id.strip("."):
        raise NotFound("There is no job with that id.", code="not_found")
    return "/".join((JOBS, quote(job_id, safe=""), *rest))


def _get(path: str, read: Callable[[Answer], Any]) -> Call[Any]:
    return Call(method="GET", path=path, read=read)


class JobPages(Pages):
    @staticmethod
    def read(answer: Answer) -> Page:
        r = Reader(answer.json(), "page")
        return Page(tasks=tuple(map(read_job, r.list("items"))), next_cursor=r.text("next_cursor"))


def _pages(filters: Mapping[str, Any], limit: int | None, page_size: int) -> JobPages:
    return JobPages(plain(filters), limit=limit, page_size=page_size, path=JOBS)


class JobFollowing(Following):
    """Where we are in the stream of one job: each event tells how it stands."""

    def __init__(self, job_id: str) -> None:
        super().__init__()
        self._path, self._one = path_of(job_id, "stream"), True

    def take(self, chunk: bytes) -> list[Job]:  # type: ignore[override]
        found = []
        for kind, _, raw in self._parser.take(chunk):
            try:
                data = orjson.loads(raw)
            except orjson.JSONDecodeError:
                raise BadAnswer("The platform sent an event that is not JSON.", code="bad_answer") from None
            if kind in ("status", "end"):
                found.append(read_job(data))
                self.ended = self.ended or kind == "end"
        return found


# ---- methods ----------------------------------------------------------------------------------------------


class JobCalls:
    """Each is one call; `_ask` is the client's."""

    _ask: Callable[[Call[Any]], Any]

    def job(self, job_id: str) -> Job:
        return self._ask(_get(path_of(job_id), _job))

    def job_summary(self) -> Json:
        """How many jobs are in each status, and how many wait or run in each queue."""
        return self._ask(_get(f"{JOBS}/summary", lambda answer: answer.json()))

    def job_events(self, job_id: str) -> list[Json]:
        """Its moves, oldest first."""
        return self._ask(_get(path_of(job_id, "events"), lambda answer: Reader(answer.json(), "page").list("items")))

    def cancel_job(self, job_id: str, reason: str = "") -> Job:
        """A waiting one at once; a running one is asked to stop. Conflict when it has ended another way."""
        return self._ask(_post(path_of(job_id, "cancel"), {"reason": reason} if reason else {}, _job))

    def retry_job(self, job_id: str) -> Job:
        """A new job that does what a failed or cancelled one was to do. Conflict when it is neither."""
        return self._ask(_post(path_of(job_id, "retry"), {}, _job, repeatable=False))


class JobMethods(JobCalls):
    """Of `Client`."""

    _patience: Any
    _follow: Any

    def jobs(self, *, limit: int | None = None, page_size: int = 100, **filters: Any) -> Iterator[Job]:
        """Newest first; without results. filters: status and queue (one or a list), name, q (beginning of the id), submitter,
        error_code, retry_of, created_from, created_to, ended_from, ended_to."""
        pages = _pages(filters, limit, page_size)
        while call := pages.next_call():
            yield from pages.take(self._ask(call))

    def follow_job(self, job_id: str, timeout: float | None = None) -> Iterator[Job]:
        """The job as it is, then after each change or progress, until it has ended (or `timeout` seconds are over). Survives
        broken connections."""
        until = None if timeout is None else time.monotonic() + timeout
        return self._follow(JobFollowing(job_id), until=until)

    def wait_job(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has ended, whichever way. NotEnded (a TimeoutError) after `timeout` seconds."""
        for _ in self.follow_job(job_id, timeout):
            pass
        return _done(self.job(job_id), timeout)


class AsyncJobMethods(JobCalls):
    """Of `AsyncClient`: what is said of each in `JobMethods` holds here too."""

    _patience: Any
    _follow: Any

    async def jobs(self, *, limit: int | None = None, page_size: int = 100, **filters: Any) -> AsyncIterator[Job]:
        pages = _pages(filters, limit, page_size)
        while call := pages.next_call():
            for job in pages.take(await self._ask(call)):
                yield job

    def follow_job(self, job_id: str) -> AsyncIterator[Job]:
        return self._follow(JobFollowing(job_id), Tries(self._patience))

    async def wait_job(self, job_id: str) -> Job:
        async with aclosing(self.follow_job(job_id)) as news:
            async for _ in news:
                pass
        return _done(await self.job(job_id), None)


def _done(job: Job, timeout: float | None) -> Job:
    if not job.ended:
        raise NotEnded(f"The job is still {job.status} after {timeout or 0:g} s.", code="not_ended", facts={"job": job})
    return job
