"""The platform's HTTP API as values: what to send, how to read the answer, when to try again. No input or output here;
`Client` and `AsyncClient` carry it out."""

from __future__ import annotations

import email.utils
import os
import random
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import orjson

from jobplatform_sdk.client_errors import BadAnswer, ClientError, NotEnded, NotFound, Unavailable, Unreachable, family_of
from jobplatform_sdk.client_values import (
    HistoryItem,
    Inbox,
    Json,
    Page,
    Submission,
    Task,
    read_counts,
    read_errors,
    read_history,
    read_inbox,
    read_page,
    read_task,
)

T = TypeVar("T")

TASKS = "/api/v1/tasks"
RESERVED_IDS = frozenset({"actions", "bulk", "simulate", "stream", "summary"})
"""Names beside `/api/v1/tasks/{task_id}`: no task can have them."""
WAIT_MAX = 30.0
LOOK_AGAIN_SECONDS = 30.0
RETRY_AFTER_MAX = 60.0
"""Asked to wait longer than this, we say so to the caller instead of sleeping."""

WIRE_NAMES = (
    "task_id", "task_goal", "task_intent", "task_priority_value", "task_streeability_data", "task_knowledgebase_ptr",
    "submitter_subject_id", "task_op_convertor_dsl_id", "task_execution_dsl", "task_submission_ts", "task_completion_timeline",
    "task_execution_mode", "task_behavior_dsl_map", "task_contracts_map", "task_verification_subject_id", "task_job_submission_data",
)  # fmt: skip
SHORT_NAMES = {name.removeprefix("task_"): name for name in WIRE_NAMES if name.startswith("task_") and name != "task_id"} | {
    "priority": "task_priority_value",
    "payload": "task_job_submission_data",
    "steerability_data": "task_streeability_data",
}


SUB_TASK_PLAIN = frozenset(
    {"task_id", "parent_subject_ids", "parent_input_data_ptr", "assigned_subject_ids", "submitter_subject_id", "job_space_id"}
)
SUB_TASK_NAMES = {
    "priority": "priority_value", "payload": "job_submission_data", "steerability_data": "streeability_data",
}  # fmt: skip


# ---- settings ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Settings:
    url: str
    headers: dict[str, str] = field(repr=False)
    tls: bool
    """Reading the certificates of all authorities takes longer than most requests; plain HTTP needs none."""


def settings(url: str | None, api_key: str | None, version: str) -> Settings:
    """What is not given comes from JOBPLATFORM_URL and JOBPLATFORM_API_KEY. ValueError when it is nowhere, or unusable."""
    url = (url or os.environ.get("JOBPLATFORM_URL") or "").strip().rstrip("/")
    api_key = (api_key or os.environ.get("JOBPLATFORM_API_KEY") or "").strip()
    if not url:
        raise ValueError("Where is the platform? Give its URL, or set JOBPLATFORM_URL.")
    if not api_key:
        raise ValueError("An API key is needed. Give one, or set JOBPLATFORM_API_KEY.")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not (parts.query or parts.fragment)
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable or parts.username:
        raise ValueError(f"{url!r} is not the URL of a platform; it should look like http://127.0.0.1:8000.")
    # An agent's key goes on behind a dot with what only NATS needs; HTTP reads the first part.
    key = api_key.partition(".")[0]
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ValueError("The API key holds characters that no key has.")
    headers = {"Authorization": f"Bearer {key}", "User-Agent": f"jobplatform-sdk/{version}"}
    return Settings(url=url, headers=headers, tls=parts.scheme == "https")


# ---- calls and answers ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body of a success; raises the error that the answer is."""
        if self.status >= 300:
            raise self.error()
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise self._not_ours() from None

    def error(self) -> ClientError:
        """Both of the platform's error shapes: problem details, and `{"error": …}`."""
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            if self.status < 500 and self.status not in (401, 413, 429):
                return self._not_ours()
            found = {}
        said = found.get("detail") or found.get("error") or found.get("title")
        return family_of(self.status)(
            str(said or f"The server answered {self.status} {_phrase(self.status)}."),
            status=self.status,
            code=str(found.get("code") or "error"),
            errors=read_errors(found.get("errors")),
            request_id=str(found.get("request_id") or self.headers.get("x-request-id", "")),
            retry_after=_retry_after(self.headers.get("retry-after", "")),
            facts=found,
        )

    def _not_ours(self) -> BadAnswer:
        kind = self.headers.get("content-type", "").partition(";")[0] or "no content type"
        sentence = f"What answers there is not the platform: {self.status} {_phrase(self.status)}, {kind}. Is the URL right?"
        return BadAnswer(sentence, status=self.status, code="bad_answer")


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    method: str
    path: str
    read: Callable[[Answer], T]
    params: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    silence_seconds: float = 30.0
    """How long the server may say nothing."""
    repeatable: bool = True
    """Carried out twice it does no harm and gives the same answer."""
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The same on every try."""

    def arguments(self, url: str, connect_seconds: float) -> dict[str, Any]:
        """For httpx."""
        timeout = httpx.Timeout(max(30.0, self.silence_seconds), connect=connect_seconds, read=self.silence_seconds)
        found: dict[str, Any] = {"method": self.method, "url": url + self.path, "timeout": timeout}
        if self.params:
            found["params"] = self.params
        if self.body:
            found["content"] = self.body
        found["headers"] = {"X-Request-Id": self.request_id, "Accept": "application/json", **self.headers}
        return found


def _post(path: str, body: Json, read: Callable[[Answer], T], **more: Any) -> Call[T]:
    return Call(method="POST", path=path, read=read, body=written(body, "The body"), headers={"Content-Type": "application/json"}, **more)


def written(body: Json, what: str) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"{what} cannot be written as JSON: {error}.") from None


def path_of(task_id: str, *rest: str) -> str:
    if not isinstance(task_id, str):
        raise TypeError("A task_id is a string.")
    if not task_id.strip(".") or task_id in RESERVED_IDS:
        raise NotFound("There is no task with that id.", code="not_found")
    return "/".join((TASKS, quote(task_id, safe=""), *rest))


def complete(entry: Mapping[str, Any]) -> Json:
    """The entry under its wire names, with the task_id that makes sending it twice safe."""
    found = {}
    for name, value in entry.items():
        wire = SHORT_NAMES.get(name, name)
        found[name if wire in entry else wire] = value  # both names given: the platform shall say so
    if found.get("task_id") is None:
        found["task_id"] = uuid.uuid4().hex
    found.setdefault("task_priority_value", 0)
    return found


def entry(*, payload: Mapping[str, Any] | None, job_space_id: str | None, **fields: Any) -> Json:
    """What `submit` was called with, as an entry."""
    optional = {"payload": payload, "job_space_id": job_space_id}
    return fields | {name: value for name, value in optional.items() if value is not None}


def sub_task(parent_id: str, fields: Mapping[str, Any]) -> Call[Task]:
    """`fields` with or without their `sub_task_` prefix. Without an id it gets a new one: sending it twice is safe."""
    found: Json = {}
    for name, value in fields.items():
        known = name in SUB_TASK_PLAIN or name.startswith("sub_task_")
        found[name if known else "sub_task_" + SUB_TASK_NAMES.get(name, name)] = value
    if found.get("sub_task_id") is None:
        found["sub_task_id"] = uuid.uuid4().hex
    found.setdefault("sub_task_priority_value", 0)
    return _post(path_of(parent_id, "sub-tasks"), found, lambda answer: read_task(answer.json()))


def submit(entry: Json, *, wait: float) -> Call[Submission]:
    if not 0 <= wait <= WAIT_MAX:
        raise ValueError(f"wait is from 0 to {WAIT_MAX:g} seconds; wait(task_id) waits longer.")
    task_id = entry["task_id"]
    params = (("wait", f"{wait:g}"),)
    return _post(TASKS, entry, lambda answer: _submission(answer, task_id), params=params, silence_seconds=wait + 30.0)


def _submission(answer: Answer, task_id: str) -> Submission:
    """Refused by a policy, or no agent: the task is stored and has ended, so that is an answer and no error."""
    if answer.status < 300:
        task = read_task(answer.json())
        repeated = answer.status == 200
        return Submission(task_id=task.task_id, status=task.status, subject_id=task.agent, reason=task.reason, repeated=repeated, task=task)
    error = answer.error()
    status = {"refused": "rejected", "unassignable": "failed"}.get(error.code)
    if status is None or error.facts.get("task_id") != task_id:
        raise error
    return Submission(task_id=task_id, status=status, reason=str(error.facts.get("reason") or error.sentence))


def get(task_id: str) -> Call[Task]:
    return Call(method="GET", path=path_of(task_id), read=lambda answer: read_task(answer.json()))


def history(task_id: str) -> Call[list[HistoryItem]]:
    return Call(method="GET", path=path_of(task_id, "events"), read=lambda answer: read_history(answer.json()))


def summary() -> Call[dict[str, int]]:
    return Call(method="GET", path=f"{TASKS}/summary", read=lambda answer: read_counts(answer.json()))


def plain(filters: Mapping[str, Any]) -> dict[str, Any]:
    """`from_` stands for a filter whose name Python keeps for itself."""
    return {name.rstrip("_"): value for name, value in filters.items()}


class Pages:
    """The way through a list of tasks, page after page."""

    @staticmethod
    def read(answer: Answer) -> Page:
        return read_page(answer.json())

    def __init__(self, filters: Mapping[str, Any], *, limit: int | None, page_size: int, path: str = TASKS) -> None:
        self._path = path
        self._params = [
            (name, one.isoformat() if isinstance(one, datetime) else str(one))
            for name, value in filters.items()
            for one in (value if isinstance(value, (list, tuple, set, frozenset)) else [value])
            if one is not None and one != ""
        ]
        self._left = float("inf") if limit is None else limit
        self._page_size = page_size
        self._cursor: str | None = ""

    def next_call(self) -> Call[Page] | None:
        if self._left <= 0 or self._cursor is None:
            return None
        params = [*self._params, ("limit", str(int(min(self._page_size, self._left))))]
        if self._cursor:
            params.append(("cursor", self._cursor))
        return Call(method="GET", path=self._path, params=tuple(params), read=self.read)

    def take(self, page: Page) -> Sequence[Task]:
        tasks = page.tasks[: int(min(self._left, len(page.tasks)))]
        self._left -= len(tasks)
        self._cursor = page.next_cursor or None
        return tasks


def steer(verb: str, task_id: str, reason: str) -> Call[Task]:
    """cancel, approve or reject. Cancelling twice is fine; a second approval would be a conflict with our own first."""
    body = {"reason": reason} if reason else {}
    return _post(path_of(task_id, verb), body, lambda answer: read_task(answer.json()), repeatable=verb == "cancel")


def assign(task_id: str, subject_id: str, reason: str) -> Call[Task]:
    return _decide("assign", task_id, subject_id=subject_id, reason=reason)


def verify(task_id: str, verdict: str, reason: str) -> Call[Task]:
    return _decide("verify", task_id, verdict=verdict, reason=reason)


def _decide(verb: str, task_id: str, **fields: str) -> Call[Task]:
    """A second decision would be a conflict with our own first."""
    body = {name: value for name, value in fields.items() if value}
    return _post(path_of(task_id, verb), body, lambda answer: read_task(answer.json()), repeatable=False)


def inbox() -> Call[Inbox]:
    return Call(method="GET", path="/api/v1/inbox", read=lambda answer: read_inbox(answer.json()))


def not_ended(task: Task, timeout: float | None) -> NotEnded:
    return NotEnded(f"The task is still {task.status} after {timeout or 0:g} s.", code="not_ended", facts={"task": task})


# ---- trying again -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often to try again, and the pauses between: doubling from first to ceiling, each shortened at random by
    up to a half so that many clients do not come back together."""

    retries: int = 6
    first_seconds: float = 0.2
    ceiling_seconds: float = 5.0

    def pause(self, failures: int) -> float:
        longest = min(self.ceiling_seconds, self.first_seconds * 2 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)


class Tries:
    """The failures of one call in a row."""

    def __init__(self, patience: Patience, *, repeatable: bool = True, when_busy: bool = True) -> None:
        """`when_busy` False: a platform that says 429 or 5xx is the caller's matter."""
        self._patience, self._repeatable, self._when_busy = patience, repeatable, when_busy
        self._failures = 0

    def failed(self, error: ClientError) -> float:
        """Seconds until the next try. Raises `error` when another would be unsafe, useless or one too many."""
        self._failures += 1
        asked = error.retry_after or 0.0
        if not self._may_repeat(error) or self._failures > self._patience.retries or asked > RETRY_AFTER_MAX:
            raise error
        return max(asked, self._patience.pause(self._failures))

    def went_well(self) -> None:
        self._failures = 0

    def _may_repeat(self, error: ClientError) -> bool:
        if isinstance(error, Unreachable):
            return self._repeatable or not error.facts.get("sent", True)
        return isinstance(error, Unavailable) and self._when_busy and (self._repeatable or error.status in (429, 503))


def unreachable(error: httpx.HTTPError, *, origin: str, call: Call[Any]) -> ClientError:
    """What httpx raised, in our words; `facts["sent"]` is false when the platform cannot have seen the request."""
    sent = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
    if isinstance(error, httpx.DecodingError):
        return BadAnswer(f"{origin} sent an answer that cannot be decoded.", code="bad_answer", request_id=call.request_id)
    if isinstance(error, httpx.TimeoutException):
        why = f"did not answer within {call.silence_seconds:g} s" if sent else "could not be reached in time"
        sentence = f"{origin} {why}."
    elif sent:
        sentence = f"{origin} broke off the connection."
    else:
        why = re.sub(r"^\[Errno -?\d+\] ", "", str(error)).rstrip(".") or type(error).__name__
        sentence = f"Cannot connect to {origin}: {why}."
    return Unreachable(sentence, code="unreachable", request_id=call.request_id, facts={"sent": sent})


def _retry_after(text: str) -> float | None:
    """Seconds, or an HTTP date; what is neither does not count."""
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(an unknown status)"
