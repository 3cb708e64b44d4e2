"""Sessions from Python: hand in a document of task groups, follow it, get its result, steer it.

    session = client.create_session({"tasks": [{"key": "greet", "message_template": "Greet Ada"}]})
    for news in client.follow_session(session.session_id):
        print(news.session.status, news.session.progress)
    print(client.session_results(session.session_id)["results"])

The same methods on `Client` and `AsyncClient` (there each is awaited, and what gives many is an async iterator).
"""

from __future__ import annotations

import time
import uuid
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

SESSIONS = "/api/v1/sessions"
ENDED = frozenset({"completed", "failed", "cancelled", "timed_out"})
STEPS_AT_ONCE = 1000
LARGE_SECONDS = 120.0
"""A document of many megabytes is judged whole before the answer."""


# ---- values -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Session:
    session_id: str
    status: str
    """running, paused, completed, failed, cancelled or timed_out"""
    name: str = ""
    reason: str = ""
    partial: bool = False
    """completed, though something in it did not"""
    run: int = 1
    progress: int = 0
    steps: Json = field(default_factory=dict)
    """how many in each status, and `total`"""
    items: Json = field(default_factory=dict)
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    data: Json = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def completed(self) -> bool:
        return self.status == "completed"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A group, a step, or what undoes a step."""

    path: str
    status: str
    kind: str = "step"
    parent: str = ""
    key: str = ""
    name: str = ""
    position: int = 0
    reason: str = ""
    partial: bool = False
    attempt: int = 1
    executor: str = ""
    expansion: str = ""
    counts: Json = field(default_factory=dict)
    """its items (of a group: its members) in each status, and `total`"""
    started: datetime | None = None
    finished: datetime | None = None
    retry_at: datetime | None = None
    data: Json = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class SessionNews:
    """One thing that a stream tells. `kind`: session, step, move (of which `data` says what), or end."""

    kind: str
    session: Session | None = None
    step: Step | None = None
    data: Json = field(default_factory=dict, repr=False)

    @property
    def ended(self) -> bool:
        return self.kind == "end"


def read_session(data: Any) -> Session:
    r = Reader(data, "session")
    return Session(
        session_id=r.needed("session_id"), status=r.needed("status"), name=r.text("name"), reason=r.text("reason"),
        partial=r.flag("partial"), run=r.whole("run"), progress=r.whole("progress"), steps=r.parcel("steps"), items=r.parcel("items"),
        created=r.time("created_at"), started=r.time("started_at"), finished=r.time("finished_at"), data=data,
    )  # fmt: skip


def read_step(data: Any) -> Step:
    r = Reader(data, "step")
    return Step(
        path=r.needed("path"), status=r.needed("status"), kind=r.text("kind"), parent=r.text("parent"), key=r.text("key"),
        name=r.text("name"), position=r.whole("position"), reason=r.text("reason"), partial=r.flag("partial"), attempt=r.whole("attempt"),
        executor=r.text("executor"), expansion=r.text("expansion"), counts=r.parcel("counts"), started=r.time("started_at"),
        finished=r.time("finished_at"), retry_at=r.time("retry_at"), data=data,
    )  # fmt: skip


def _session(answer: Answer) -> Session:
    return read_session(answer.json())


def _nothing(answer: Answer) -> None:
    if answer.status >= 300:
        raise answer.error()


# ---- calls ------------------------------------------------------------------------------------------------


def path_of(session_id: str, *rest: str) -> str:
    if not isinstance(session_id, str):
        raise TypeError("A session_id is a string.")
    if not session_id.strip("."):
        raise NotFound("There is no session with that id.", code="not_found")
    return "/".join((SESSIONS, quote(session_id, safe=""), *(quote(part, safe="") for part in rest)))


def _get(path: str, read: Callable[[Answer], Any], **params: Any) -> Call[Any]:
    return Call(method="GET", path=path, read=read, params=tuple((name, str(value)) for name, value in params.items()))


def _steer(verb: str, session_id: str, body: Json) -> Call[Session]:
    """Cancelling, pausing and resuming twice is fine; a second retry would begin another run."""
    repeatable = verb in ("cancel", "pause", "resume", "compensate")
    return _post(path_of(session_id, verb), {name: value for name, value in body.items() if value}, _session, repeatable=repeatable)


def _pages(path: str, read: Callable[[Any], Any], filters: Mapping[str, Any], limit: int | None, page_size: int) -> Pages:
    class Found(Pages):
        @staticmethod
        def read(answer: Answer) -> Page:
            r = Reader(answer.json(), "page")
            return Page(tasks=tuple(map(read, r.list("items"))), next_cursor=r.text("next_cursor"))

    return Found(plain(filters), limit=limit, page_size=page_size, path=path)


class SessionFollowing(Following):
    """Where we are in the stream of one session."""

    def __init__(self, session_id: str) -> None:
        super().__init__()
        self._path, self._one = path_of(session_id, "stream"), True

    def take(self, chunk: bytes) -> list[SessionNews]:  # type: ignore[override]
        found = []
        for kind, event_id, raw in self._parser.take(chunk):
            self._last_id = event_id or self._last_id
            try:
                data = orjson.loads(raw)
            except orjson.JSONDecodeError:
                raise BadAnswer("The platform sent an event that is not JSON.", code="bad_answer") from None
            if kind in ("session", "end"):
                found.append(SessionNews(kind=kind, session=read_session(data), data=data))
                self.ended = self.ended or kind == "end"
            elif kind == "step":
                found.append(SessionNews(kind=kind, step=read_step(data), data=data))
            elif kind == "move":
                found.append(SessionNews(kind=kind, data=data))
        return found


# ---- methods ----------------------------------------------------------------------------------------------


class SessionCalls:
    """Each is one call; `_ask` is the client's."""

    _ask: Callable[[Call[Any]], Any]

    def create_session(self, document: Mapping[str, Any]) -> Session:
        """Hand in a session. It gets a `session_id` if it has none: sending it twice is safe. Raises Invalid with every
        problem and its JSON path, Conflict (the id is another document's)."""
        body = {"session_id": uuid.uuid4().hex, **document}
        return self._ask(_post(SESSIONS, body, _session, silence_seconds=LARGE_SECONDS))

    def plan_session(self, document: Mapping[str, Any]) -> Json:
        """What would run: counts, names, order. Nothing is stored."""
        return self._ask(
            _post(SESSIONS, dict(document), lambda answer: answer.json(), params=(("dry_run", "true"),), silence_seconds=LARGE_SECONDS)
        )

    def session(self, session_id: str) -> Session:
        return self._ask(_get(path_of(session_id), _session))

    def session_document(self, session_id: str) -> Json:
        return self._ask(_get(path_of(session_id, "document"), lambda answer: answer.json()))

    def session_step(self, session_id: str, path: str) -> Step:
        return self._ask(_get(path_of(session_id, "steps", path), lambda answer: read_step(answer.json())))

    def session_item(self, session_id: str, path: str, index: int) -> Json:
        """One item of a step, with its `input` and `result`."""
        return self._ask(_get(path_of(session_id, "steps", path, "items", str(index)), lambda answer: answer.json()))

    def session_events(self, session_id: str, *, after: str = "", limit: int = 1000) -> list[Json]:
        """What happened, oldest first; `after` is the id of the last one you know."""
        more = {"after": after} if after else {}
        return self._ask(
            _get(path_of(session_id, "events"), lambda answer: Reader(answer.json(), "page").list("items"), limit=limit, **more)
        )

    def session_results(self, session_id: str, *, partial: bool = False) -> Json:
        """`{"final", "partial", "results": {key: value}, "missing": […]}`. Conflict while it has not ended, unless `partial`."""
        return self._ask(_get(path_of(session_id, "results"), lambda answer: answer.json(), partial="true" if partial else "false"))

    def cancel_session(self, session_id: str, reason: str = "") -> Session:
        return self._ask(_steer("cancel", session_id, {"reason": reason}))

    def pause_session(self, session_id: str, reason: str = "") -> Session:
        """For operators: start nothing new of it. What runs may end."""
        return self._ask(_steer("pause", session_id, {"reason": reason}))

    def resume_session(self, session_id: str, reason: str = "") -> Session:
        return self._ask(_steer("resume", session_id, {"reason": reason}))

    def retry_session(self, session_id: str, reason: str = "") -> Session:
        """For operators: do again what failed, and what waited for it."""
        return self._ask(_steer("retry", session_id, {"reason": reason}))

    def rerun_session(self, session_id: str, step: str, *, input: Mapping[str, Any] | None = None, reason: str = "") -> Session:
        """For operators: do a step again, with changed input, and all that depends on it."""
        return self._ask(_steer("rerun", session_id, {"step": step, "input": dict(input) if input else None, "reason": reason}))

    def compensate_session(self, session_id: str, reason: str = "") -> Session:
        """For operators: undo what its completed steps did, last first."""
        return self._ask(_steer("compensate", session_id, {"reason": reason}))

    def delete_session(self, session_id: str) -> None:
        """For admins: an ended session and all that is kept of it."""
        return self._ask(Call(method="DELETE", path=path_of(session_id), read=_nothing, repeatable=False))


class SessionMethods(SessionCalls):
    """Of `Client`."""

    _patience: Any
    _follow: Any

    def sessions(self, *, limit: int | None = None, page_size: int = 100, **filters: Any) -> Iterator[Session]:
        """Newest first. filters: status (one or a list), q."""
        yield from self._all(_pages(SESSIONS, read_session, filters, limit, page_size))

    def session_steps(self, session_id: str) -> Iterator[Step]:
        """Groups and steps in the order of the document."""
        yield from self._all(_pages(path_of(session_id, "steps"), read_step, {}, None, STEPS_AT_ONCE))

    def session_items(self, session_id: str, path: str, *, limit: int | None = None, whole: bool = False, **filters: Any) -> Iterator[Json]:
        """The items of a step, by index. filters: status. `whole`: with input and result."""
        filters = {**filters, "whole": "true"} if whole else filters
        yield from self._all(_pages(path_of(session_id, "steps", path, "items"), dict, filters, limit, 200))

    def follow_session(self, session_id: str, timeout: float | None = None) -> Iterator[SessionNews]:
        """The session and its steps as they are, then each change, until it has ended (or `timeout` seconds are over).
        Survives broken connections."""
        until = None if timeout is None else time.monotonic() + timeout
        return self._follow(SessionFollowing(session_id), until=until)

    def wait_session(self, session_id: str, timeout: float | None = None) -> Session:
        """The session once it has ended, whichever way. NotEnded (a TimeoutError) after `timeout` seconds."""
        for _ in self.follow_session(session_id, timeout):
            pass
        return _done(self.session(session_id), timeout)

    def _all(self, pages: Pages) -> Iterator[Any]:
        while call := pages.next_call():
            yield from pages.take(self._ask(call))


class AsyncSessionMethods(SessionCalls):
    """Of `AsyncClient`: what is said of each in `SessionMethods` holds here too."""

    _patience: Any
    _follow: Any

    async def sessions(self, *, limit: int | None = None, page_size: int = 100, **filters: Any) -> AsyncIterator[Session]:
        async for one in self._all(_pages(SESSIONS, read_session, filters, limit, page_size)):
            yield one

    async def session_steps(self, session_id: str) -> AsyncIterator[Step]:
        async for one in self._all(_pages(path_of(session_id, "steps"), read_step, {}, None, STEPS_AT_ONCE)):
            yield one

    async def session_items(
        self, session_id: str, path: str, *, limit: int | None = None, whole: bool = False, **filters: Any
    ) -> AsyncIterator[Json]:
        filters = {**filters, "whole": "true"} if whole else filters
        async for one in self._all(_pages(path_of(session_id, "steps", path, "items"), dict, filters, limit, 200)):
            yield one

    def follow_session(self, session_id: str) -> AsyncIterator[SessionNews]:
        return self._follow(SessionFollowing(session_id), Tries(self._patience))

    async def wait_session(self, session_id: str) -> Session:
        async with aclosing(self.follow_session(session_id)) as news:
            async for _ in news:
                pass
        return _done(await self.session(session_id), None)

    async def _all(self, pages: Pages) -> AsyncIterator[Any]:
        while call := pages.next_call():
            for one in pages.take(await self._ask(call)):
                yield one


def _done(session: Session, timeout: float | None) -> Session:
    if not session.ended:
        raise NotEnded(f"The session is still {session.status} after {timeout or 0:g} s.", code="not_ended", facts={"session": session})
    return session
