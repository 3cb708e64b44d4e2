"""AgencyTaskGroup and TaskGroup: sessions by the names that the specification gives their concepts.

They hold nothing that matters: the rows do, and any number of these may look at one session, in any process, before and after
a crash of anything. A worker needs neither of them. They are for code that starts a session and stays with it:

    agency = AgencyTaskGroup.handle("s1", "initialize", document, {"city": "Oslo"}, principal=principal)
    agency.wait_for_task_group_completion(timeout_s=60)
    agency.send_final_result()

Methods block; from a coroutine, `asyncio.to_thread(agency.wait_for_task_group_completion)`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import orjson

from apps.core import clock
from apps.core.auth import Principal
from apps.core.errors import Invalid, Problem
from apps.workflows import news
from apps.workflows.context.context import ContextStore
from apps.workflows.context.context_info import ContextInfo
from apps.workflows.document.spec import SessionSpec
from apps.workflows.engine import canvas, store
from apps.workflows.models import Session, Step
from apps.workflows.service import Sessions
from apps.workflows.states import SESSION_ENDED, STEP_ENDED, STEP_FAILED, StepStatus

LOOK_SECONDS = 1.0
"""News may be lost: so often the rows are looked at without any."""
INITIALIZE = "initialize"


class AgencyTaskGroup:
    """One session: its groups, its context, its result."""

    def __init__(self, session_id: str, principal: Principal) -> None:
        self.session_id, self.principal = session_id, principal
        self.sessions = Sessions()

    # 1: Initialization

    @classmethod
    def handle(
        cls, key: str, action: str, data: Mapping[str, Any], context: Mapping[str, Any] | None = None, *, principal: Principal
    ) -> AgencyTaskGroup:
        """What a client asks for. `key` is the session's id where the document names none; `context` goes below the document's."""
        if action != INITIALIZE:
            raise Invalid([Problem(field="action", code="not_allowed", message=f"must be {INITIALIZE}")])
        return cls.create({"session_id": key, **data, "context": {**(context or {}), **(data.get("context") or {})}}, principal)

    @classmethod
    def create(cls, document: Mapping[str, Any], principal: Principal) -> AgencyTaskGroup:
        """Raises Invalid with every problem of the document; the same document again is the same session."""
        told, _ = Sessions().create(dict(document), principal, now=clock.now())
        return cls(told["session_id"], principal)

    def initialize(self) -> dict[str, str]:
        """Steps, mappings and context are there, whoever was interrupted at writing them; answers the mappings."""
        canvas.wake(self.key)
        return self.create_task_mappings()

    def create_task_mappings(self) -> dict[str, str]:
        """Result key → path of the step that writes it. They follow from the document, so they are the same in every process."""
        return {key: owner for key in self.spec.writers if (owner := self.spec.result_owner(key)) is not None}

    def initialize_context(self) -> dict[str, Any]:
        """The context as the document gave it: version 1, written once."""
        return ContextStore().read(self.key, at_version=1) if self.spec.context else {}

    def setup_task_groups(self) -> list[TaskGroup]:
        """The outermost groups, in document order."""
        return [TaskGroup(self, path) for path in self.spec.members("")]

    # 2: Dependencies

    def get_task_group_id_for_dependency(self, dependency: str) -> str | None:
        """The outermost group in which a result key, a path or a group is made; None for what nobody makes."""
        path = dependency if dependency in self.spec.nodes else self.spec.result_owner(dependency)
        return None if path is None else path.partition(".")[0]

    # 3: Processing

    def execute_task_groups(self) -> None:
        """All that may run runs: independent groups beside each other, dependent ones in their order."""
        canvas.wake(self.key)

    def setup_and_execute_task_group(self, key: str) -> TaskGroup:
        group = TaskGroup(self, key)
        group.process_tasks()
        return group

    def send_task_group_for_processing(self, key: str) -> None:
        canvas.wake(self.key, [key])

    def process_messages(self, *, timeout_s: float = LOOK_SECONDS) -> str:
        """Wait for news of the session, or a while; its status as it is then."""
        with news.listening(self.key) as woken:
            if self.running:
                woken.wait(timeout_s)
        return self.status

    process_queue = process_messages

    def wait_for_task_group_completion(self, key: str = "", *, timeout_s: float | None = None) -> str:
        """Until a group (default: the session) has ended, or time is up; its status as it is then."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with news.listening(self.key) as woken:
            while not self._over(key) and (until is None or time.monotonic() < until):
                woken.wait(LOOK_SECONDS if until is None else min(LOOK_SECONDS, max(0.0, until - time.monotonic())))
                woken.clear()
        return TaskGroup(self, key).status if key else self.status

    def _over(self, key: str) -> bool:
        return TaskGroup(self, key).status in STEP_ENDED if key else self._row.published

    # 4: Completion

    def send_final_result(self) -> dict[str, Any]:
        """The final result, and tell those who wait that it is there. Raises Conflict before the session has ended."""
        found = self.sessions.results(self.principal, self.session_id)
        news.announce([self.key])
        return found

    def save_partial_results(self) -> dict[str, Any]:
        """What there is so far, and what is missing. It is stored already: each step writes its results as it ends."""
        found = self.sessions.results(self.principal, self.session_id, partial=True)
        news.announce([self.key])
        return found

    def cleanup_session_context(self) -> None:
        """Nothing of the session is left in Redis. Its rows stay until it is deleted."""
        canvas.forget(self.key)

    def cancel(self, reason: str = "") -> str:
        return self.sessions.cancel(self.principal, self.session_id, now=clock.now(), reason=reason)["status"]

    # What it is

    @property
    def key(self) -> str:
        return store.session_key(self.principal.org_id, self.session_id)

    id = key

    @property
    def _row(self) -> Session:
        return store.light(self.key)

    @property
    def status(self) -> str:
        return self._row.status

    @property
    def running(self) -> bool:
        return self.status not in SESSION_ENDED

    @cached_property
    def spec(self) -> SessionSpec:
        return store.spec_of(self._row)

    @property
    def description(self) -> str:
        return self.spec.description

    @property
    def task_groups(self) -> list[TaskGroup]:
        return self.setup_task_groups()

    @property
    def tasks_completed(self) -> list[str]:
        return _paths(self.key, [StepStatus.COMPLETED])

    @cached_property
    def context_info(self) -> ContextInfo:
        return ContextInfo(self.principal.org_id, self.key)

    def serialize_context(self) -> str:
        """The whole context as JSON."""
        return orjson.dumps(ContextStore().read(self.key)).decode()


class TaskGroup:
    """One group of a session: its tasks, their dependencies, how far they are."""

    def __init__(self, agency: AgencyTaskGroup, path: str) -> None:
        self.agency, self.path = agency, path
        self.node = agency.spec.nodes[path]

    @property
    def key(self) -> str:
        return self.node.key

    @property
    def id(self) -> str:
        return store.step_id(self.agency.key, self.path)

    @property
    def name(self) -> str:
        return self.node.name or self.node.key

    @property
    def session_id(self) -> str:
        return self.agency.session_id

    @property
    def status(self) -> str:
        return store.steps(self.agency.key, [self.path])[self.path].status

    @property
    def tasks(self) -> list[str]:
        """Paths of its steps, those of groups inside it too."""
        wanted = self.agency.spec.steps_in([self.path])
        return [path for path in self.agency.spec.steps if path in wanted]

    @property
    def tasks_completed(self) -> list[str]:
        return [path for path in _paths(self.agency.key, [StepStatus.COMPLETED]) if path in set(self.tasks)]

    @property
    def tasks_failed(self) -> list[dict[str, Any]]:
        mine = set(self.tasks)
        rows = Step.objects.filter(session_key=self.agency.key, status__in=[status.value for status in STEP_FAILED])
        return [
            {"path": path, "status": status, "reason": reason}
            for path, status, reason in rows.order_by("position").values_list("path", "status", "reason")
            if path in mine
        ]

    @property
    def context_info(self) -> ContextInfo:
        return self.agency.context_info

    def process_tasks(self) -> None:
        """Everything in it that may start starts."""
        canvas.wake(self.agency.key, [self.path, *self.tasks])

    def process_task_with_dependencies(self, path: str) -> dict[str, str]:
        """Start the step if what it depends on has ended; the status of each dependency."""
        node = self.agency.spec.nodes[path]
        canvas.wake(self.agency.key, [path])
        rows = store.steps(self.agency.key, (*node.needs, *node.wants))
        return {name: row.status for name, row in rows.items()}

    def mark_task_complete(self, path: str) -> str:
        """Whether a task is complete is counted, not said: have it looked at, and answer what it is now."""
        self._handle_task_completion(path)
        return store.steps(self.agency.key, [path])[path].status

    def cleanup_subscriptions(self) -> None:
        """There are none: news is listened for only while somebody waits."""

    # What the engine does by itself when a task ends; asking again is harmless.

    def _handle_task_completion(self, path: str) -> None:
        canvas.wake(self.agency.key, [path])

    _handle_task_failure = _handle_task_completion
    _execute_timeout_recovery = _handle_task_completion

    def _handle_task_timeout_recovery(self, path: str) -> bool:
        """True when the task's time is up and it is being ended."""
        row = store.steps(self.agency.key, [path])[path]
        late = row.deadline is not None and row.deadline <= clock.now() and row.status not in STEP_ENDED
        if late:
            self._execute_timeout_recovery(path)
        return late

    def _cleanup_task_state(self, path: str) -> None:
        """Before another attempt failed items go back to pending; the engine does that as the attempt starts."""
        canvas.wake(self.agency.key, [path])


def _paths(session_key: str, statuses: list[StepStatus]) -> list[str]:
    rows = Step.objects.filter(session_key=session_key, kind=Step.Kind.STEP.value, status__in=[status.value for status in statuses])
    return list(rows.order_by("finished_at", "position").values_list("path", flat=True))
