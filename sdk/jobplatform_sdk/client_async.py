"""`AsyncClient`: what `Client` does, for asyncio. The meaning of every method is told there.

async with AsyncClient() as client:
    submission = await client.submit(goal="Count the words", intent="a first task", payload={"text": "to be"})
    async for event in client.follow(submission.task_id):
        print(event.status, event.percent)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import httpx

from jobplatform_sdk import client_calls as calls
from jobplatform_sdk import client_queue as queue_calls
from jobplatform_sdk.client_admin import AdminCalls
from jobplatform_sdk.client_agents import AsyncAgentMethods
from jobplatform_sdk.client_bulk import Batch, Cutter
from jobplatform_sdk.client_calls import Answer, Call, Patience, Tries
from jobplatform_sdk.client_errors import ClientError, Unavailable
from jobplatform_sdk.client_explaining import Explaining
from jobplatform_sdk.client_jobs import AsyncJobMethods
from jobplatform_sdk.client_operating import SCHEDULES, DeadLetter, LetterPages, Operating, Schedule, read_schedule
from jobplatform_sdk.client_policies import PolicyCalls
from jobplatform_sdk.client_sessions import AsyncSessionMethods
from jobplatform_sdk.client_streams import Following
from jobplatform_sdk.client_values import HistoryItem, Inbox, Json, Submission, Task, TaskEvent, Verdict
from jobplatform_sdk.version import VERSION

T = TypeVar("T")


class AsyncClient(AdminCalls, PolicyCalls, Operating, Explaining, AsyncAgentMethods, AsyncSessionMethods, AsyncJobMethods):
    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience: Patience = Patience(),  # noqa: B008  frozen
        connect_seconds: float = 5.0,
    ) -> None:
        self._settings = calls.settings(url, api_key, VERSION)
        self._patience, self._connect_seconds = patience, connect_seconds
        self._http = httpx.AsyncClient(headers=self._settings.headers, follow_redirects=False, verify=self._settings.tls)
        self._sleep = asyncio.sleep

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # ---- submitting ----

    async def submit(
        self,
        *,
        goal: str,
        intent: str,
        priority: int = 0,
        task_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
        job_space_id: str | None = None,
        wait: float = 5.0,
        **entry: Any,
    ) -> Submission:
        found = calls.entry(
            goal=goal, intent=intent, priority=priority, task_id=task_id, payload=payload, job_space_id=job_space_id, **entry
        )
        return await self.submit_entry(found, wait=wait)

    async def submit_entry(self, entry: Mapping[str, Any], *, wait: float = 5.0) -> Submission:
        return await self._ask(calls.submit(calls.complete(entry), wait=wait))

    async def sub_task(self, parent_id: str, *, goal: str, intent: str, parent_subject_ids: Sequence[str], **fields: Any) -> Task:
        found = {"goal": goal, "intent": intent, "parent_subject_ids": list(parent_subject_ids), **fields}
        return await self._ask(calls.sub_task(parent_id, found))

    async def submit_many(self, entries: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]) -> AsyncIterator[Verdict]:
        cutter = Cutter()
        async with aclosing(_timed(entries)) as source:
            async for entry, seconds in source:
                if batch := cutter.add(entry, seconds):
                    async with aclosing(self._send(batch)) as verdicts:
                        async for verdict in verdicts:
                            yield verdict
        if batch := cutter.rest():
            async with aclosing(self._send(batch)) as verdicts:
                async for verdict in verdicts:
                    yield verdict

    # ---- looking ----

    async def get(self, task_id: str) -> Task:
        return await self._ask(calls.get(task_id))

    async def tasks(self, *, limit: int | None = None, page_size: int = 100, **filters: Any) -> AsyncIterator[Task]:
        pages = calls.Pages(filters, limit=limit, page_size=page_size)
        while call := pages.next_call():
            for task in pages.take(await self._ask(call)):
                yield task

    async def sub_tasks(
        self, parent_id: str, *, limit: int | None = None, page_size: int = 100, **filters: Any
    ) -> AsyncIterator[Task]:  # fmt: skip
        pages = calls.Pages(filters, limit=limit, page_size=page_size, path=calls.path_of(parent_id, "sub-tasks"))
        while call := pages.next_call():
            for task in pages.take(await self._ask(call)):
                yield task

    async def dead_letters(self, *, limit: int | None = None, page_size: int = 100, **filters: Any) -> AsyncIterator[DeadLetter]:
        pages = LetterPages(calls.plain(filters), limit=limit, page_size=page_size)
        while call := pages.next_call():
            for letter in pages.take(await self._ask(call)):
                yield letter

    async def schedules(self) -> list[Schedule]:
        return [read_schedule(item) async for item in self._items(SCHEDULES)]

    async def summary(self) -> dict[str, int]:
        return await self._ask(calls.summary())

    async def events(self, task_id: str) -> list[HistoryItem]:
        return await self._ask(calls.history(task_id))

    # ---- following ----

    def follow(self, task_id: str) -> AsyncIterator[TaskEvent]:
        return self._follow(Following(task_id), Tries(self._patience))

    def follow_all(self) -> AsyncIterator[TaskEvent]:
        return self._follow(Following(), Tries(self._patience))

    async def wait(self, task_id: str, timeout: float | None = None) -> Task:  # noqa: ASYNC109  as in Client
        task = await self.get(task_id)
        try:
            async with asyncio.timeout(timeout):
                while not task.ended:
                    await self._watch(task_id)
                    task = await self.get(task_id)
        except TimeoutError:
            task = await self.get(task_id)
            if not task.ended:
                raise calls.not_ended(task, timeout) from None
        return task

    async def _watch(self, task_id: str) -> None:
        """Returns when the task has probably ended, or when it is time to look."""
        try:
            async with asyncio.timeout(calls.LOOK_AGAIN_SECONDS):
                async with aclosing(self._follow(Following(task_id), Tries(self._patience, when_busy=False))) as news:
                    async for _ in news:
                        pass
        except Unavailable as busy:
            await self._sleep(busy.retry_after or 1.0)
        except TimeoutError:
            pass

    # ---- steering ----

    async def cancel(self, task_id: str, reason: str = "") -> Task:
        return await self._ask(calls.steer("cancel", task_id, reason))

    async def approve(self, task_id: str, reason: str = "") -> Task:
        return await self._ask(calls.steer("approve", task_id, reason))

    async def reject(self, task_id: str, reason: str = "") -> Task:
        return await self._ask(calls.steer("reject", task_id, reason))

    async def assign(self, task_id: str, subject_id: str = "", reason: str = "") -> Task:
        return await self._ask(calls.assign(task_id, subject_id, reason))

    async def verify(self, task_id: str, verdict: str, reason: str = "") -> Task:
        return await self._ask(calls.verify(task_id, verdict, reason))

    async def inbox(self) -> Inbox:
        return await self._ask(calls.inbox())

    # ---- the queue ----

    async def queue(self) -> Json:
        return await self._ask(queue_calls.show())

    async def pause_queue(self, reason: str = "", *, job_space: str | None = None) -> Json:
        return await self._ask(queue_calls.pause(reason, job_space))

    async def resume_queue(self, reason: str = "", *, job_space: str | None = None) -> Json:
        return await self._ask(queue_calls.resume(reason, job_space))

    async def set_priority(self, task_id: str, priority: int, reason: str = "") -> Task:
        return await self._ask(queue_calls.set_priority(task_id, priority, reason))

    # ---- the wire ----

    async def _ask(self, call: Call[T]) -> T:
        tries = Tries(self._patience, repeatable=call.repeatable)
        while True:
            try:
                async with self._open(call) as response:
                    answer = Answer(status=response.status_code, headers=response.headers, body=await response.aread())
                return call.read(answer)
            except ClientError as error:
                await self._sleep(tries.failed(error))

    async def _send(self, batch: Batch) -> AsyncIterator[Verdict]:
        tries = Tries(self._patience)
        while not batch.done:
            try:
                async with aclosing(self._chunks(batch.call())) as chunks:
                    async for chunk in chunks:
                        for verdict in batch.take(chunk):
                            tries.went_well()
                            yield verdict
                for verdict in batch.take(b"\n"):
                    yield verdict
                batch.check(self._settings.url)
            except ClientError as error:
                await self._sleep(tries.failed(error))

    async def _follow(self, following: Following, tries: Tries) -> AsyncIterator[TaskEvent]:
        while not following.ended:
            try:
                async with aclosing(self._chunks(following.call())) as chunks:
                    async for chunk in chunks:
                        tries.went_well()
                        for event in following.take(chunk):
                            yield event
                        if following.ended:
                            return
                if not following.ended:
                    raise following.cut(self._settings.url)
            except ClientError as error:
                await self._sleep(tries.failed(error))

    async def _chunks(self, call: Call[Any]) -> AsyncIterator[bytes]:
        async with self._open(call) as response:
            if response.status_code != 200:
                call.read(Answer(status=response.status_code, headers=response.headers, body=await response.aread()))
                return
            async for chunk in response.aiter_bytes():
                yield chunk

    @contextlib.asynccontextmanager
    async def _open(self, call: Call[Any]) -> AsyncIterator[httpx.Response]:
        try:
            async with self._http.stream(**call.arguments(self._settings.url, self._connect_seconds)) as response:
                yield response
        except httpx.HTTPError as error:
            raise calls.unreachable(error, origin=self._settings.url, call=call) from error


async def _timed(entries: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[tuple[T, float]]:
    """Each entry, and how many seconds its source took for it."""
    asked_at = time.monotonic()
    if isinstance(entries, AsyncIterable):
        async for entry in entries:
            yield entry, time.monotonic() - asked_at
            asked_at = time.monotonic()
    else:
        for entry in entries:
            yield entry, time.monotonic() - asked_at
            asked_at = time.monotonic()
