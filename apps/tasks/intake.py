"""Intake: the one road by which tasks enter, one or a thousand at a time.

known already? → within the limits? → approval policy → priority policy → one write → one push. The policies run in one batch each and the
rows of a batch go in together, so a task costs the same road whether it comes alone or in a crowd.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import models

from apps.core import bulk, clock, ids, tracing
from apps.core.auth import Principal
from apps.core.errors import Conflict, Invalid, Missing, PlatformError, Problem, Refused, Unavailable
from apps.core.redis import RedisDown
from apps.dsl.facts import task_facts
from apps.dsl.policies import Hook
from apps.dsl.runner import PolicyDecision, PolicyRequest, PolicyRunner
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.tasks import concurrency, executor, limits, people, sub_tasks
from apps.tasks.entries import PRIORITY_MAX, PRIORITY_MIN, ExecutionMode, TaskEntry
from apps.tasks.models import Task
from apps.tasks.queue import PriorityQueue, item_of
from apps.tasks.states import TaskStatus
from apps.tasks.store import Birth, TaskStore

log = logging.getLogger(__name__)

REASON_LENGTH = 1000


class UnknownOrg(Missing):
    """Said of another's org exactly as of one that does not exist."""

    sentence = "organization not found"


class OtherBody(Conflict):
    code, sentence = "other_body", "A task with this task_id was submitted before, with another body."


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What became of one entry."""

    task_id: str
    key: str = ""
    """"" when no task of this org goes by it."""
    status: TaskStatus | None = None
    """Where the task is now. None: nothing was stored and `error` says why."""
    reason: str = ""
    agent: str = ""
    repeated: bool = False
    """The same body came before; this is the truth about that task now."""
    error: PlatformError | None = None
    """The answer to raise. A task that a policy rejected has both a status and an error."""
    headers: dict[str, str] = field(default_factory=dict)
    """What the answer says of the rate limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where an entry comes from that nobody typed."""

    retry_of: str = ""
    schedule_id: str = ""
    excluded: dict[str, str] = field(default_factory=dict)
    """agent → why it should not get it"""


NOBODYS = Origin()


@dataclass(kw_only=True, slots=True)
class _Case:
    """One new entry on its way through."""

    entry: TaskEntry
    key: str
    wire: dict[str, Any]
    facts: dict[str, Any]
    """What the policies see of it."""
    status: TaskStatus = TaskStatus.QUEUED
    reason: str = ""
    terms: dict[str, Any] = field(default_factory=dict)
    """The approval policy's answer."""
    priority: int = 0
    runs: list[models.Model] = field(default_factory=list)


class TaskIntake:
    def __init__(
        self,
        *,
        configs: OrgConfigProvider | None = None,
        runner: PolicyRunner | None = None,
        store: TaskStore | None = None,
        queue: PriorityQueue | None = None,
    ) -> None:
        self.configs = configs or OrgConfigProvider()
        self.runner = runner or PolicyRunner()
        self.store = store or TaskStore()
        self.queue = queue or PriorityQueue()

    def submit(self, entry: TaskEntry, principal: Principal, *, now: datetime) -> Verdict:
        return self.submit_many([entry], principal, now=now)[0]

    def submit_many(
        self, entries: Sequence[TaskEntry], principal: Principal, *, now: datetime, origins: Mapping[str, Origin] | None = None
    ) -> list[Verdict]:
        """A verdict for each entry, in order. One bad entry never stops the others; a store that is away stops all.
        `origins`: by task_id."""
        # Tasks first: a sub-task may come in one batch with its parent.
        wholes = [index for index, entry in enumerate(entries) if entry.kind != sub_tasks.SUB_TASK]
        if len(wholes) in (0, len(entries)):
            return self._submit(entries, principal, now, origins or {})
        parts = sorted(set(range(len(entries))) - set(wholes))
        found: dict[int, Verdict] = {}
        for indexes in (wholes, parts):
            found |= zip(indexes, self._submit([entries[index] for index in indexes], principal, now, origins or {}), strict=True)
        return [found[index] for index in range(len(entries))]

    def _submit(
        self, entries: Sequence[TaskEntry], principal: Principal, now: datetime, origins: Mapping[str, Origin]
    ) -> list[Verdict]:
        config = self.configs.of(principal.org_id)
        verdicts: dict[int, Verdict] = {}
        cases = self._new_cases(entries, principal, verdicts, now)
        admission = self._admit(entries, cases, principal, config, verdicts, now)
        self._approve(cases, config, now)
        self._prioritize(cases, config, now)
        tasks = [_task(case, principal, config, now, origins.get(case.entry.task_id, NOBODYS)) for case in cases.values()]
        born = self._write(cases, tasks, principal, now)
        self._enqueue(principal.org_id, [task for task in tasks if task.key in born], now)
        answers = self._answer(entries, cases, born, verdicts)
        return [replace(verdict, headers=admission.headers) for verdict in answers] if admission.headers else answers

    def _admit(
        self, entries: Sequence[TaskEntry], cases: dict[str, _Case], principal: Principal, config: OrgConfig,
        verdicts: dict[int, Verdict], now: datetime,
    ) -> limits.Admission:
        """Before anything is asked of a policy: what the limits refuse costs nothing and leaves nothing."""
        admission = limits.admit(len(cases), principal, config, now=now)
        refused = {key: admission.refusal(place) for place, key in enumerate(list(cases)[admission.granted :])}
        if refused:
            for index, entry in enumerate(entries):
                if index not in verdicts and (error := refused.get(entry.key)):
                    verdicts[index] = Verdict(task_id=entry.task_id, error=error)
            for key in refused:
                del cases[key]
        return admission

    def _new_cases(
        self, entries: Sequence[TaskEntry], principal: Principal, verdicts: dict[int, Verdict], now: datetime
    ) -> dict[str, _Case]:
        """The entries that nobody has seen, by key. Those of others, and new ones that come too late, get their verdict here."""
        own: dict[int, str] = {}
        for index, entry in enumerate(entries):
            if entry.org_id == principal.org_id:
                own[index] = ids.task_key(principal.org_id, entry.task_id)
            else:
                verdicts[index] = Verdict(task_id=entry.task_id, error=UnknownOrg())
        known = self._known(own.values())
        parents = self._known([sub_tasks.parent_key(entries[index]) for index in own if entries[index].parent_task_id])
        cases: dict[str, _Case] = {}
        for index, key in own.items():
            entry = entries[index]
            if wrong := sub_tasks.not_theirs(entry, principal, parents):
                verdicts[index] = Verdict(task_id=entry.task_id, error=wrong)
            elif key in known:
                verdicts[index] = _repeat(entry, known[key])
            elif key not in cases:
                # Only a new task can be late: the repeat of one that was in time gets the first answer.
                late = [name for name in ("due", "assign_by") if (at := getattr(entry, name)) and at <= now]
                if late:
                    timeline = f"{entry.kind}_completion_timeline"
                    problems = [Problem(field=f"{timeline}.{name}", code="past", message="must be in the future") for name in late]
                    verdicts[index] = Verdict(task_id=entry.task_id, error=Invalid(problems))
                elif wrong := sub_tasks.no_parent_for(entry, principal, parents):
                    verdicts[index] = Verdict(task_id=entry.task_id, error=wrong)
                else:
                    if entry.parent_task_id and not entry.job_space_id:
                        entry = replace(entry, job_space_id=parents[sub_tasks.parent_key(entry)].job_space_id)
                    wire = entry.to_wire(now=now)
                    facts = task_facts(wire, org_id=principal.org_id)
                    cases[key] = _Case(entry=entry, key=key, wire=wire, facts=facts, priority=entry.priority)
        return cases

    def _approve(self, cases: dict[str, _Case], config: OrgConfig, now: datetime) -> None:
        asked = list(cases.values())
        requests = [_request(case, config, case.entry.approval_script_id or config.approval_dsl_id) for case in asked]
        for case, decision in zip(asked, self._decide(Hook.APPROVAL, requests, now), strict=True):
            if decision.script_id:
                case.runs.append(decision.row())
            case.status, case.reason = _approval(case.entry, decision, on_error=config.approval_on_error)
            case.terms = (decision.output if not decision.error else None) or {}

    def _prioritize(self, cases: dict[str, _Case], config: OrgConfig, now: datetime) -> None:
        """Those that wait for a person too: approved, they must find their place without a second visit here."""
        scripts = {
            case.key: script
            for case in cases.values()
            if case.status != TaskStatus.REJECTED and (script := case.entry.priority_script_id or config.priority_assigner_dsl_id)
        }
        requests = [_request(cases[key], config, script) for key, script in scripts.items()]
        for key, decision in zip(scripts, self._decide(Hook.PRIORITY, requests, now), strict=True):
            cases[key].runs.append(decision.row())
            if decision.error and config.priority_on_error is not None:
                cases[key].priority = config.priority_on_error
            elif not decision.error and decision.output is not None:
                cases[key].priority = max(PRIORITY_MIN, min(PRIORITY_MAX, decision.output["priority"]))

    def _decide(self, hook: Hook, requests: list[PolicyRequest], now: datetime) -> list[PolicyDecision]:
        return self.runner.decide_many(hook, requests, now=now) if requests else []

    def _write(self, cases: dict[str, _Case], tasks: list[Task], principal: Principal, now: datetime) -> set[str]:
        births = [
            Birth(task=task, reason=cases[task.key].reason, actor=principal.actor, rows=tuple(cases[task.key].runs)) for task in tasks
        ]
        return self.store.insert_many(births, now=now) if births else set()

    def _enqueue(self, org_id: str, tasks: list[Task], now: datetime) -> None:
        items = [item_of(task) for task in tasks if task.status == TaskStatus.QUEUED]
        if not items:
            return
        try:
            alive = self.queue.push(org_id, items, now=now)
        except RedisDown as error:
            # The tasks are accepted: the loader finds them in the database and queues them.
            log.warning("intake.not_queued", extra={"org": org_id, "tasks": len(items), "error": str(error)})
            return
        if not alive:
            executor.wake(now=now)

    def _answer(self, entries: Sequence[TaskEntry], cases: dict[str, _Case], born: set[str], verdicts: dict[int, Verdict]) -> list[Verdict]:
        # Another request may have brought the same id since we looked; the store let one of us win.
        lost = self._known([key for key in cases if key not in born])
        answered: set[str] = set()
        for index, entry in enumerate(entries):
            if index in verdicts:
                continue
            key = ids.task_key(entry.org_id, entry.task_id)
            case = cases[key]
            if key in lost:
                verdicts[index] = _repeat(entry, lost[key])
            elif key not in born:
                verdicts[index] = Verdict(task_id=entry.task_id, error=Unavailable())
            elif case.entry.body_hash != entry.body_hash:
                verdicts[index] = Verdict(task_id=entry.task_id, key=key, error=OtherBody(task_id=entry.task_id))
            else:
                verdicts[index] = _verdict(entry, key, case.status, case.reason, repeated=key in answered)
                answered.add(key)
        return [verdicts[index] for index in range(len(entries))]

    def _known(self, keys: Sequence[str]) -> dict[str, Task]:
        return self.store.load_many(keys) if keys else {}


def _request(case: _Case, config: OrgConfig, script_id: str | None) -> PolicyRequest:
    return PolicyRequest(
        org_id=case.entry.org_id,
        task_key=case.key,
        script_id=script_id,
        input={"task": case.facts},
        timeout_ms=config.dsl_timeout_ms,
        config_version=config.version,
        config=config,
    )


def _approval(entry: TaskEntry, decision: PolicyDecision, *, on_error: str = "hold") -> tuple[TaskStatus, str]:
    """Only an `accepted` that is exactly true lets a task in; what is missing, slow or wrong waits for a person."""
    if decision.error:
        failed = TaskStatus.REJECTED if on_error == "reject" else TaskStatus.AWAITING_APPROVAL
        return failed, _clip(f"the approval policy {decision.script_id} gave no verdict: {decision.error}")
    if decision.output is None:
        return TaskStatus.AWAITING_APPROVAL, "no approval policy is configured"
    accepted, reason = decision.output.get("accepted"), decision.output.get("reason") or ""
    if accepted is False:
        return TaskStatus.REJECTED, _clip(reason or f"refused by {decision.script_id}")
    if accepted is not True:
        return TaskStatus.AWAITING_APPROVAL, _clip(reason or f"{decision.script_id} asks for a person")
    if entry.execution_mode == ExecutionMode.MANUAL:
        return TaskStatus.AWAITING_APPROVAL, "the execution mode is manual"
    return TaskStatus.QUEUED, _clip(reason or f"approved by {decision.script_id}")


def _task(case: _Case, principal: Principal, config: OrgConfig, now: datetime, origin: Origin = NOBODYS) -> Task:
    entry = case.entry
    default_s = config.task_timeline_default_s
    waits = case.status == TaskStatus.AWAITING_APPROVAL
    return bulk.new(
        Task,
        key=case.key,
        org_id=principal.org_id,
        task_id=entry.task_id,
        kind=entry.kind,
        parent_key=sub_tasks.parent_key(entry) if entry.parent_task_id else "",
        goal=entry.goal,
        intent=entry.intent,
        submitter_subject_id=entry.submitter_subject_id,
        **(people.ask_approvers(case.terms, config, principal, now) if waits else {}),
        job_space_id=entry.job_space_id,
        execution_mode=entry.execution_mode,
        retry_of=origin.retry_of,
        schedule_id=origin.schedule_id,
        excluded_agents=dict(origin.excluded),
        entry=case.wire,
        body_hash=entry.body_hash,
        trace=tracing.begin("task.born", at=now, attributes={"jobplatform.org": principal.org_id, "jobplatform.task": entry.task_id}),
        status=case.status,
        submitter_priority=entry.priority,
        priority=case.priority,
        sequence=clock.sequence(),
        max_attempts=config.max_attempts,
        created_at=now,
        updated_at=now,
        not_before=entry.not_before,
        deadline=entry.due or (now + timedelta(seconds=default_s) if default_s else None),
        assign_by=entry.assign_by,
        **concurrency.fields(entry.steerability, case.facts, config),
    )


def _repeat(entry: TaskEntry, task: Task) -> Verdict:
    if task.body_hash != entry.body_hash:
        return Verdict(task_id=entry.task_id, key=task.key, error=OtherBody(task_id=entry.task_id))
    return _verdict(entry, task.key, TaskStatus(task.status), task.reason, agent=task.head_agent_subject_id, repeated=True)


def _verdict(entry: TaskEntry, key: str, status: TaskStatus, reason: str, *, agent: str = "", repeated: bool = False) -> Verdict:
    refused = Refused(task_id=entry.task_id, reason=reason) if status == TaskStatus.REJECTED else None
    return Verdict(task_id=entry.task_id, key=key, status=status, reason=reason, agent=agent, repeated=repeated, error=refused)


def _clip(text: str) -> str:
    return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 1] + "…"
