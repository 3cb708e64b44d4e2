"""The platform for whoever submits tasks and wants to know what became of them.

    with Client(url="http://127.0.0.1:8000", api_key="jp_…") as client:
        submission = client.submit(goal="Count the words", intent="a first task", payload={"text": "to be or not to be"})
        task = client.wait(submission.task_id, timeout=60)
        print(task.status, task.result)

Every call may be made from any thread. What fails on the way is tried again while that is safe, with growing pauses;
what is left raises a `ClientError`. `AsyncClient` is the same for asyncio.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import httpx

from jobplatform_sdk import client_calls as calls
from jobplatform_sdk import client_queue as queue_calls
from jobplatform_sdk.client_admin import AdminCalls
from jobplatform_sdk.client_agents import AgentMethods
from jobplatform_sdk.client_bulk import Batch, Cutter
from jobplatform_sdk.client_calls import Answer, Call, Patience, Tries
from jobplatform_sdk.client_errors import ClientError, Unavailable
from jobplatform_sdk.client_explaining import Explaining
from jobplatform_sdk.client_jobs import JobMethods
from jobplatform_sdk.client_operating import SCHEDULES, DeadLetter, LetterPages, Operating, Schedule, read_schedule
from jobplatform_sdk.client_policies import PolicyCalls
from jobplatform_sdk.client_sessions import SessionMethods
from jobplatform_sdk.client_streams import SILENCE_SECONDS, Following
from jobplatform_sdk.client_values import HistoryItem, Inbox, Json, Submission, Task, TaskEvent, Verdict
from jobplatform_sdk.version import VERSION

T = TypeVar("T")


class Client(AdminCalls, PolicyCalls, Operating, Explaining, AgentMethods, SessionMethods, JobMethods):
    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience: Patience = Patience(),  # noqa: B008  frozen
        connect_seconds: float = 5.0,
    ) -> None:
        """Without `url` or `api_key`: JOBPLATFORM_URL, JOBPLATFORM_API_KEY. ValueError when they are nowhere."""
        self._settings = calls.settings(url, api_key, VERSION)
        self._patience, self._connect_seconds = patience, connect_seconds
        self._http = httpx.Client(headers=self._settings.headers, follow_redirects=False, verify=self._settings.tls)
        self._sleep = time.sleep

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- submitting ----

    def submit(
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
        """Submit one task and wait up to `wait` seconds (0…30) until an agent has it.

        goal, intent    what is to be achieved, and why
        priority        -1000…1000, the higher the sooner
        task_id         also the idempotency key: the same entry under the same id is the same task. Default: a new one
        payload         free JSON for the agent
        job_space_id    whose agents may do it
        entry           any other field of a task entry, with or without its `task_` prefix

        A task that a policy rejects, or that no agent can do, is a Submission that says so (`accepted` is false).
        Raises Invalid, Conflict (the id is another task's) and the rest of the family; then nothing was stored.
        """
        found = calls.entry(
            goal=goal, intent=intent, priority=priority, task_id=task_id, payload=payload, job_space_id=job_space_id, **entry
        )
        return self.submit_entry(found, wait=wait)

    def submit_entry(self, entry: Mapping[str, Any], *, wait: float = 5.0) -> Submission:
        """As `submit`, for who has the whole entry already, under its wire names or the short ones."""
        return self._ask(calls.submit(calls.complete(entry), wait=wait))

    def sub_task(self, parent_id: str, *, goal: str, intent: str, parent_subject_ids: Sequence[str], **fields: Any) -> Task:
        """Submit a part of a task; also for the head agent of that task, with its own key.

        parent_subject_ids      who answers for the parent
        assigned_subject_ids    choose its head agent among these
        fields                  any other field of a sub-task entry, with or without `sub_task_`: priority, payload, sub_task_id …
        """
        found = {"goal": goal, "intent": intent, "parent_subject_ids": list(parent_subject_ids), **fields}
        return self._ask(calls.sub_task(parent_id, found))

    def submit_many(self, entries: Iterable[Mapping[str, Any]]) -> Iterator[Verdict]:
        """Submit any number of entries; gives a verdict for each as it comes. Iterate to the end: it sends as you read.

        Neither the entries nor the verdicts are ever held all at once. Entries without a `task_id` get one. Names as in
        `submit`. Connections that break are taken up again with the lines that have no verdict yet.
        """
        cutter, source = Cutter(), iter(entries)
        while True:
            asked_at = time.monotonic()
            try:
                entry = next(source)
            except StopIteration:
                break
            if batch := cutter.add(entry, time.monotonic() - asked_at):
                yield from self._send(batch)
        if batch := cutter.rest():
            yield from self._send(batch)

    # ---- looking ----

    def get(self, task_id: str) -> Task:
        return self._ask(calls.get(task_id))

    def tasks(self, *, limit: int | None = None, page_size: int = 100, **filters: Any) -> Iterator[Task]:
        """Tasks, newest first, page after page; at most `limit`. Without `entry`, `result` and `assignment`.

        filters: status (one or a list), agent, job_space, submitter, created_from, created_to, updated_from, updated_to,
        priority_min, priority_max, parent, q (beginning of the id), where (JSON text: a filter with MongoDB's operators).
        """
        pages = calls.Pages(filters, limit=limit, page_size=page_size)
        while call := pages.next_call():
            yield from pages.take(self._ask(call))

    def sub_tasks(self, parent_id: str, *, limit: int | None = None, page_size: int = 100, **filters: Any) -> Iterator[Task]:
        """The parts of a task, newest first; filters as in `tasks`."""
        pages = calls.Pages(filters, limit=limit, page_size=page_size, path=calls.path_of(parent_id, "sub-tasks"))
        while call := pages.next_call():
            yield from pages.take(self._ask(call))

    def dead_letters(self, *, limit: int | None = None, page_size: int = 100, **filters: Any) -> Iterator[DeadLetter]:
        """Tasks that failed or expired and wait for somebody to look; the last that ended first.

        filters: kind (one or a list), agent, job_space, state, from_, to, q (beginning of the id).
        """
        pages = LetterPages(calls.plain(filters), limit=limit, page_size=page_size)
        while call := pages.next_call():
            yield from pages.take(self._ask(call))

    def schedules(self) -> list[Schedule]:
        """All schedules of the org, by name."""
        return [read_schedule(item) for item in self._items(SCHEDULES)]

    def summary(self) -> dict[str, int]:
        """How many tasks of the org are in each status."""
        return self._ask(calls.summary())

    def events(self, task_id: str) -> list[HistoryItem]:
        """Everything that happened to the task: transitions, policy runs, assignments, reports; oldest first."""
        return self._ask(calls.history(task_id))

    # ---- following ----

    def follow(self, task_id: str, timeout: float | None = None) -> Iterator[TaskEvent]:
        """The task as it is now, then its news as it happens, until it has ended (or `timeout` seconds are over).
        Survives broken connections."""
        return self._follow(Following(task_id), until=_until(timeout))

    def follow_all(self, timeout: float | None = None) -> Iterator[TaskEvent]:
        """News of all tasks of the org, for `timeout` seconds or without end. `summary` comes first and after each
        reconnect: then some news may have been missed."""
        return self._follow(Following(), until=_until(timeout))

    def wait(self, task_id: str, timeout: float | None = None) -> Task:
        """The task once it has ended, whichever way. NotEnded (a TimeoutError) after `timeout` seconds."""
        until = _until(timeout)
        while not (task := self.get(task_id)).ended:
            if until is not None and time.monotonic() >= until:
                raise calls.not_ended(task, timeout)
            try:
                # In slices: should news ever be lost on its way, the next look finds what they would have said.
                slice_end = time.monotonic() + calls.LOOK_AGAIN_SECONDS
                soon = slice_end if until is None else min(until, slice_end)
                for _ in self._follow(Following(task_id), until=soon, tries=Tries(self._patience, when_busy=False)):
                    pass
            except Unavailable as busy:  # too many are streaming: look again soon
                self._sleep(_within(busy.retry_after or 1.0, until))
        return task

    # ---- steering ----

    def cancel(self, task_id: str, reason: str = "") -> Task:
        """Conflict when it has ended another way."""
        return self._ask(calls.steer("cancel", task_id, reason))

    def approve(self, task_id: str, reason: str = "") -> Task:
        """For operators: let in a task that awaits approval. Conflict when it does not."""
        return self._ask(calls.steer("approve", task_id, reason))

    def reject(self, task_id: str, reason: str = "") -> Task:
        return self._ask(calls.steer("reject", task_id, reason))

    def assign(self, task_id: str, subject_id: str = "", reason: str = "") -> Task:
        """Choose the head agent of a task that waits for that; without one, the one the platform proposes."""
        return self._ask(calls.assign(task_id, subject_id, reason))

    def verify(self, task_id: str, verdict: str, reason: str = "") -> Task:
        """Decide about a result: accept, reject, or send_back with the reason as a note for the next attempt."""
        return self._ask(calls.verify(task_id, verdict, reason))

    def inbox(self) -> Inbox:
        """What the person (or agent) this key speaks for has to do and to decide."""
        return self._ask(calls.inbox())

    # ---- the queue ----

    def queue(self) -> Json:
        """For operators: how the queue of the org stands, as the platform tells it."""
        return self._ask(queue_calls.show())

    def pause_queue(self, reason: str = "", *, job_space: str | None = None) -> Json:
        """For operators: give nothing to agents for now (of `job_space`, else of any). Tasks still come in."""
        return self._ask(queue_calls.pause(reason, job_space))

    def resume_queue(self, reason: str = "", *, job_space: str | None = None) -> Json:
        return self._ask(queue_calls.resume(reason, job_space))

    def set_priority(self, task_id: str, priority: int, reason: str = "") -> Task:
        """For operators: another priority, -1000…1000. Conflict when the task has ended."""
        return self._ask(queue_calls.set_priority(task_id, priority, reason))

    # ---- the wire ----

    def _ask(self, call: Call[T]) -> T:
        tries = Tries(self._patience, repeatable=call.repeatable)
        while True:
            try:
                with self._open(call) as response:
                    answer = Answer(status=response.status_code, headers=response.headers, body=response.read())
                return call.read(answer)
            except ClientError as error:
                self._sleep(tries.failed(error))

    def _send(self, batch: Batch) -> Iterator[Verdict]:
        tries = Tries(self._patience)
        while not batch.done:
            try:
                for chunk in self._chunks(batch.call()):
                    for verdict in batch.take(chunk):
                        tries.went_well()
                        yield verdict
                yield from batch.take(b"\n")
                batch.check(self._settings.url)
            except ClientError as error:
                self._sleep(tries.failed(error))

    def _follow(self, following: Following, *, until: float | None = None, tries: Tries | None = None) -> Iterator[TaskEvent]:
        """`until` is on the monotonic clock; then the iterator just ends."""
        tries = tries or Tries(self._patience)
        while not following.ended and (until is None or time.monotonic() < until):
            try:
                call = following.call(silence_seconds=_within(SILENCE_SECONDS, until))
                for chunk in self._chunks(call, until=until):
                    tries.went_well()
                    yield from following.take(chunk)
                    if following.ended:
                        return
                if not following.ended:
                    raise following.cut(self._settings.url)
            except ClientError as error:
                self._sleep(_within(tries.failed(error), until))

    def _chunks(self, call: Call[Any], *, until: float | None = None) -> Iterator[bytes]:
        with self._open(call) as response:
            if response.status_code != 200:
                call.read(Answer(status=response.status_code, headers=response.headers, body=response.read()))
                return
            with _cut_off(response, until):
                yield from response.iter_bytes()

    @contextlib.contextmanager
    def _open(self, call: Call[Any]) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(**call.arguments(self._settings.url, self._connect_seconds)) as response:
                yield response
        except httpx.HTTPError as error:
            raise calls.unreachable(error, origin=self._settings.url, call=call) from error


def _until(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _within(seconds: float, until: float | None) -> float:
    return seconds if until is None else max(0.0, min(seconds, until - time.monotonic()))


@contextlib.contextmanager
def _cut_off(response: httpx.Response, until: float | None) -> Iterator[None]:
    """Ends the reading of a stream at a fixed time. A read blocks its thread, and its own timeout starts anew with
    every beat of the server, so another thread has to end it."""
    if until is None:
        yield
        return
    wire: socket.socket = response.extensions["network_stream"].get_extra_info("socket")

    def cut() -> None:
        with contextlib.suppress(OSError):
            # Past an SSLSocket's own shutdown, which takes its state from under the thread that is reading.
            socket.socket.shutdown(wire, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, until - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
