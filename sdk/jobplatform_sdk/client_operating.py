"""Running the platform from Python: dead letters, one verb on many tasks, schedules. The same methods on `Client` and
`AsyncClient` (there each is awaited)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

from jobplatform_sdk.client_calls import TASKS, Answer, Call, Pages, _post, written
from jobplatform_sdk.client_values import Json, Page, Reader, Task, read_task

T = TypeVar("T")

LETTERS, ACTIONS, SCHEDULES = "/api/v1/dead-letters", "/api/v1/bulk-actions", "/api/v1/schedules"
ON_LETTERS = {"retry": "requeue", "discard": "discard"}
"""Verbs of dead letters, and what the platform calls them; all others are tasks'."""


# ---- values -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    task_id: str
    kind: str
    """max_attempts, agent_failed, no_agent, poison, not_verified, expired"""
    meaning: str = ""
    at: datetime | None = None
    agent: str = ""
    reason: str = ""
    goal: str = ""
    state: str = "waiting"
    """waiting, requeued or discarded"""
    retried_as: str = ""
    data: Json = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a verb would touch. `token` carries out exactly that."""

    count: int
    token: str
    sample: tuple[Json, ...] = ()
    data: Json = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class BulkAction:
    id: str
    action: str
    status: str
    total: int = 0
    done: int = 0
    changed: int = 0
    skipped: int = 0
    failed: int = 0
    problems: tuple[Json, ...] = ()
    data: Json = field(default_factory=dict, repr=False, compare=False)

    @property
    def verb(self) -> str:
        """As it was asked for: on dead letters the platform's word for `retry` is requeue."""
        own = {name: verb for verb, name in ON_LETTERS.items()} if self.data.get("source") == "dead_letters" else {}
        return own.get(self.action, self.action)

    @property
    def over(self) -> bool:
        return self.status in ("done", "stopped")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    name: str
    enabled: bool = True
    cron: str = ""
    every_seconds: int = 0
    at: datetime | None = None
    timezone: str = "UTC"
    next: datetime | None = None
    fired: int = 0
    last_task_id: str = ""
    upcoming: tuple[Json, ...] = ()
    data: Json = field(default_factory=dict, repr=False, compare=False)

    @property
    def when(self) -> str:
        """In one line."""
        if self.cron:
            return f"{self.cron} {self.timezone}"
        return f"every {self.every_seconds} s" if self.every_seconds else f"once at {self.at.isoformat() if self.at else '?'}"


@dataclass(frozen=True, kw_only=True)
class Firing:
    planned: datetime | None
    outcome: str
    task_id: str = ""
    because: str = ""
    data: Json = field(default_factory=dict, repr=False, compare=False)


def read_letter(data: Any) -> DeadLetter:
    r = Reader(data, "dead letter")
    return DeadLetter(
        task_id=r.needed("task_id"), kind=r.needed("kind"), meaning=r.text("meaning"), at=r.time("at"), agent=r.text("agent"),
        reason=r.text("reason"), goal=r.text("goal"), state=r.text("state"), retried_as=r.text("retried_as"), data=data,
    )  # fmt: skip


def read_action(data: Any) -> BulkAction:
    r = Reader(data, "bulk action")
    counts = {name: r.whole(name) for name in ("total", "done", "changed", "skipped", "failed")}
    return BulkAction(
        id=r.needed("id"), action=r.text("action"), status=r.needed("status"), **counts, problems=tuple(r.list("problems")), data=data
    )


def read_preview(data: Any) -> Preview:
    r = Reader(data, "preview")
    return Preview(count=r.whole("count"), token=r.needed("token"), sample=tuple(r.list("sample")), data=data)


def read_schedule(data: Any) -> Schedule:
    r = Reader(data, "schedule")
    return Schedule(
        name=r.needed("name"), enabled=data.get("enabled") is True, cron=r.text("cron"), every_seconds=r.whole("every_seconds"),
        at=r.time("at"), timezone=r.text("timezone") or "UTC", next=r.time("next"), fired=r.whole("fired"),
        last_task_id=r.text("last_task_id"), upcoming=tuple(r.list("upcoming")), data=data,
    )  # fmt: skip


def read_firing(data: Any) -> Firing:
    r = Reader(data, "firing")
    return Firing(planned=r.time("planned"), outcome=r.needed("outcome"), task_id=r.text("task_id"), because=r.text("because"), data=data)


def _items(read: Callable[[Any], T], name: str = "items") -> Callable[[Answer], list[T]]:
    return lambda answer: [read(item) for item in Reader(answer.json(), "list").list(name)]


def _nothing(answer: Answer) -> None:
    if answer.status >= 300:
        raise answer.error()


# ---- calls ------------------------------------------------------------------------------------------------


class LetterPages(Pages):
    """The way through the dead letters, page after page."""

    def __init__(self, filters: Mapping[str, Any], *, limit: int | None, page_size: int) -> None:
        super().__init__(filters, limit=limit, page_size=page_size, path=LETTERS)

    @staticmethod
    def read(answer: Answer) -> Page:
        r = Reader(answer.json(), "page of dead letters")
        return Page(tasks=tuple(map(read_letter, r.list("items"))), next_cursor=r.text("next_cursor"))


def _path(root: str, name: str, *rest: str) -> str:
    if not isinstance(name, str) or not name.strip("."):
        raise ValueError(f"{name!r} is not a name.")
    return "/".join((root, quote(name, safe=""), *rest))


def _get(path: str, read: Callable[[Answer], T], **params: Any) -> Call[T]:
    return Call(method="GET", path=path, read=read, params=tuple((name, str(value)) for name, value in params.items()))


def _given(fields: Mapping[str, Any]) -> Json:
    """JSON of what was said; times as text."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}


class Operating:
    """Methods for operators. Each is one call; `_ask` is the client's."""

    _ask: Callable[[Call[Any]], Any]

    # ---- dead letters ----

    def retry(
        self, task_id: str, *, patch: Mapping[str, Any] | None = None, exclude: Sequence[str] = (), keep_excluded: bool = False,
        reason: str = "",
    ) -> Task:  # fmt: skip
        """Do a failed or expired task again, as a new one with fresh attempts; gives the new task.

        patch           a JSON merge patch on the entry
        exclude         agents that should not get it
        keep_excluded   nor those that failed at the old one
        Conflict when somebody has settled it already.
        """
        body = {"patch": dict(patch or {}), "exclude": list(exclude), "keep_excluded": keep_excluded, "reason": reason}
        return self._ask(_post(_path(LETTERS, task_id, "requeue"), body, lambda answer: read_task(answer.json()), repeatable=False))

    def discard(self, task_id: str, reason: str) -> DeadLetter:
        """Take it off the list of dead letters; it stays as it ended."""
        return self._ask(
            _post(_path(LETTERS, task_id, "discard"), {"reason": reason}, lambda answer: read_letter(answer.json()), repeatable=False)
        )

    # ---- many at once ----

    def preview_action(self, verb: str, filters: Mapping[str, Any] | None = None, **arguments: Any) -> Preview:
        """What a verb would touch: cancel, requeue, reprioritize (tasks), retry, discard (dead letters).

        filters     as those of `tasks` or `dead_letters`; also `task_ids`. None: everything the verb is for
        arguments   reason; priority (reprioritize); patch, exclude, keep_excluded (retry)
        """
        body = {"action": ON_LETTERS.get(verb, verb), "filter": _given(filters or {}), "dry_run": True, **arguments}
        return self._ask(_post(_actions_path(verb), body, lambda answer: read_preview(answer.json())))

    def start_action(self, verb: str, token: str) -> BulkAction:
        """Carry out what was previewed, in the background. Twice with one token is one action."""
        return self._ask(_post(_actions_path(verb), {"token": token}, lambda answer: read_action(answer.json())))

    def bulk_action(self, action_id: str) -> BulkAction:
        """How far it is."""
        return self._ask(_get(_path(ACTIONS, action_id), lambda answer: read_action(answer.json())))

    def bulk_actions(self) -> list[BulkAction]:
        return self._ask(_get(ACTIONS, _items(read_action)))

    def stop_action(self, action_id: str) -> BulkAction:
        return self._ask(_post(_path(ACTIONS, action_id, "stop"), {}, lambda answer: read_action(answer.json()), repeatable=False))

    # ---- schedules ----

    def schedule(self, name: str) -> Schedule:
        return self._ask(_get(_path(SCHEDULES, name), lambda answer: read_schedule(answer.json())))

    def create_schedule(self, name: str, entry: Mapping[str, Any], **fields: Any) -> Schedule:
        """Submit `entry` again and again, or once: give one of cron, every_seconds and at.

        fields      timezone, starts_at, ends_at, enabled, overlap (allow, skip, cancel_previous), catch_up (skip, one, all),
                    catch_up_max, jitter_seconds, due_after_seconds, description
        """
        body = {"name": name, "entry": dict(entry), **_given(fields)}
        return self._ask(_post(SCHEDULES, body, lambda answer: read_schedule(answer.json()), repeatable=False))

    def change_schedule(self, name: str, **fields: Any) -> Schedule:
        """Change what is given; None empties what may be empty."""
        call = Call(
            method="PATCH", path=_path(SCHEDULES, name), read=lambda answer: read_schedule(answer.json()),
            body=written(_given(fields), "The schedule"), headers={"Content-Type": "application/json"},
        )  # fmt: skip
        return self._ask(call)

    def delete_schedule(self, name: str) -> None:
        """Its tasks stay."""
        return self._ask(Call(method="DELETE", path=_path(SCHEDULES, name), read=_nothing, repeatable=False))

    def pause_schedule(self, name: str) -> Schedule:
        return self._ask(_post(_path(SCHEDULES, name, "pause"), {}, lambda answer: read_schedule(answer.json())))

    def resume_schedule(self, name: str) -> Schedule:
        """What passed while it was paused is left out."""
        return self._ask(_post(_path(SCHEDULES, name, "resume"), {}, lambda answer: read_schedule(answer.json())))

    def run_schedule(self, name: str) -> Firing:
        """One task now, out of turn."""
        return self._ask(_post(_path(SCHEDULES, name, "run"), {}, lambda answer: read_firing(answer.json()), repeatable=False))

    def next_times(self, name: str, count: int = 5) -> list[Json]:
        return self._ask(_get(_path(SCHEDULES, name, "next"), _items(dict), count=count))

    def firings(self, name: str, count: int = 50) -> list[Firing]:
        """What became of its times, latest first."""
        return self._ask(_get(_path(SCHEDULES, name, "firings"), _items(read_firing), count=count))

    def preview_schedule(self, count: int = 5, **fields: Any) -> list[Json]:
        """When such a schedule would fire; nothing is stored."""
        call = _post(f"{SCHEDULES}/preview", _given(fields), _items(dict, "upcoming"), params=(("count", str(count)),))
        return self._ask(call)


def _actions_path(verb: str) -> str:
    return f"{LETTERS}/actions" if verb in ON_LETTERS else f"{TASKS}/actions"
