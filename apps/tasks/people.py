"""What people are asked about a task, and who may answer.

A question stands while the task is in one of the AWAITING states: may it run (approval), who shall do it (assignment), is the
result good (verification). Whom it is put to, and what happens when nobody answers, is written on the task when it is asked:

    about      approval, assignment or verification
    of         who may answer: subject ids, `role:<role type>`, `@operators`
    then       who else may once it has escalated
    escalated  true after that
    proposal   assignment in mode hybrid: {subject_id, strategy, because}
    reviews    the verifier's notes on earlier attempts, oldest first (TaskReviewData)
    submitted_by   {subject_id, key_id} of whoever sent it, whatever the entry says

`Task.escalate_at` and `Task.decide_by` are its times. All of this is the sealed parcel `Task.people`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from apps.core import bulk, clock, ids
from apps.core.auth import Principal
from apps.core.errors import Forbidden
from apps.orgs.config_store import OrgConfig, OrgConfigProvider
from apps.orgs.keys import OPERATOR, ORG_ADMIN
from apps.roles.directory import Directory, directory, is_let_go
from apps.roles.services import RolesUnknown
from apps.tasks.entries import ExecutionMode
from apps.tasks.models import Decision, Task
from apps.tasks.states import AWAITING, TaskStatus
from apps.tasks.store import Move, TaskStore

OPERATORS = "@operators"
ROLE = "role:"
ACTOR = "sweeper"
LIMIT = 500
FOREVER_SECONDS = 10 * 365 * 86_400.0
"""The lease of a person where the org sets none."""
UNDECIDED = {
    TaskStatus.AWAITING_APPROVAL: ("approval", "nobody approved it"),
    TaskStatus.AWAITING_ASSIGNMENT: ("manual_assignment", "nobody chose a head agent"),
    TaskStatus.AWAITING_VERIFICATION: ("verification", "nobody verified the result"),
}


class NotYours(Forbidden):
    code, sentence = "not_yours", "This is for somebody else to decide."


class FourEyes(Forbidden):
    code, sentence = "four_eyes", "Whoever submitted a task may not approve it."


# ---- asking -----------------------------------------------------------------------------------------------


def ask(
    about: str, people: Mapping[str, Any], *, of: Sequence[str], then: Sequence[str],
    escalate_after_s: float | None, expires_in_s: float | None, now: datetime, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a task that asks this. `people` is what its parcel held before; notes and submitter stay in it."""
    kept = {name: people[name] for name in ("reviews", "submitted_by", "approvers") if name in people}
    question = {"about": about, "of": list(of) or [OPERATORS], "then": list(then) or [OPERATORS], "escalated": False, **more}
    return {
        "people": {**kept, **question},
        "escalate_at": now + timedelta(seconds=escalate_after_s) if escalate_after_s else None,
        "decide_by": now + timedelta(seconds=expires_in_s) if expires_in_s else None,
    }


def ask_approvers(terms: Mapping[str, Any], config: OrgConfig, principal: Principal, now: datetime) -> dict[str, Any]:
    """For a task that is born waiting. `terms` is the approval policy's answer ({} when it gave none)."""
    people: dict[str, Any] = {"submitted_by": {"subject_id": principal.subject_id, "key_id": principal.key_id}}
    if terms.get("approvers"):
        people["approvers"] = list(terms["approvers"])
    return ask(
        "approval", people,
        of=terms.get("approvers") or _role(config.approval_approver_role_type),
        then=terms.get("escalate_to") or _role(config.escalation_role_type),
        escalate_after_s=terms.get("escalate_after_s") or config.approval_escalation_s,
        expires_in_s=terms.get("expires_in_s") or config.approval_expiry_s, now=now,
    )  # fmt: skip


def ask_for_agent(task: Task, config: OrgConfig, *, now: datetime, proposal: Mapping[str, Any] | None = None) -> Move:
    """The move of a task whose head agent a person chooses, with the platform's proposal in mode hybrid."""
    fields = ask(
        "assignment", task.people,
        of=task.people.get("approvers") or _role(config.approval_approver_role_type),
        then=_role(config.escalation_role_type),
        escalate_after_s=config.approval_escalation_s, expires_in_s=config.approval_expiry_s, now=now,
        **({"proposal": dict(proposal)} if proposal else {}),
    )  # fmt: skip
    reason = f"{proposal['subject_id']} is proposed; a person decides" if proposal else "a person chooses the head agent"
    return Move(task=task, end=TaskStatus.AWAITING_ASSIGNMENT, reason=reason, actor="executor", fields=fields)


def ask_verifier(task: Task, verifier: str, config: OrgConfig, now: datetime) -> dict[str, Any]:
    return ask(
        "verification", task.people, of=[bare(verifier, task.org_id)], then=_role(config.escalation_role_type),
        escalate_after_s=config.verification_escalation_s, expires_in_s=config.verification_expiry_s, now=now,
    )  # fmt: skip


def chooses_by_hand(task: Task) -> bool:
    """Mode manual: no strategy is asked."""
    return task.execution_mode == ExecutionMode.MANUAL


def confirms(task: Task) -> bool:
    """Mode hybrid: what the strategy chooses is a proposal."""
    return task.execution_mode == ExecutionMode.HYBRID


def _role(role_type: str | None) -> list[str]:
    return [ROLE + role_type] if role_type else []


def lease_seconds(config: OrgConfig) -> float:
    """How long a person may be silent."""
    return config.human_lease_s or FOREVER_SECONDS


# ---- who may answer ---------------------------------------------------------------------------------------


class Identity:
    """Whom a principal is, as questions name people. Roles are looked up once each, where the org keeps them: in its tables, or
    at its role services."""

    def __init__(self, principal: Principal, *, now: datetime) -> None:
        self.principal, self.now = principal, now
        self.unknown = ""
        """Why nobody could say who holds a role that was asked for; then "no" may only mean "not known"."""
        self._holders: dict[tuple[str, str], set[str]] = {}

    def may_decide(self, task: Task) -> bool:
        return any(self._is(name, task) for name in task.people.get("of") or [OPERATORS])

    def check(self, task: Task) -> None:
        """Raises NotYours, or RolesUnknown when the role service would have to say whether it is."""
        if not self.may_decide(task):
            raise RolesUnknown(self.unknown) if self.unknown else NotYours(task_id=task.task_id)

    def _is(self, name: str, task: Task) -> bool:
        who = self.principal
        if name == OPERATORS:
            return who.role in (OPERATOR, ORG_ADMIN)
        if not who.subject_id or who.org_id != task.org_id or self._let_go:
            return False
        if name.startswith(ROLE):
            return who.subject_id in self._of_type(name.removeprefix(ROLE), task.job_space_id)
        return bare(name, task.org_id) == bare(who.subject_id, task.org_id)

    def _of_type(self, role_type: str, job_space_id: str) -> set[str]:
        asked = (role_type, job_space_id)
        if asked not in self._holders:
            found = self._directory.find(role_type, job_space_id, now=self.now)
            self.unknown = self.unknown or found.unknown
            self._holders[asked] = {subject.subject_id for subject in found.subjects}
        return self._holders[asked]

    @cached_property
    def _directory(self) -> Directory:
        org_id = self.principal.org_id
        return directory(org_id, OrgConfigProvider().of(org_id))

    @cached_property
    def _let_go(self) -> bool:
        return is_let_go(self.principal.org_id, self.principal.subject_id)


def is_submitter(principal: Principal, task: Task) -> bool:
    """The one it is submitted for, or the one who sent it: an entry may name anybody as its submitter."""
    sent_by = task.people.get("submitted_by") or {}
    theirs = {bare(name, task.org_id) for name in (sent_by.get("subject_id") or "", task.submitter_subject_id)}
    return bool(
        (principal.subject_id and bare(principal.subject_id, task.org_id) in theirs)
        or (principal.key_id and (principal.key_id == sent_by.get("key_id") or principal.submitter == task.submitter_subject_id))
    )


def bare(subject_id: str, org_id: str) -> str:
    """`acme:ann` and `ann` are the same in acme."""
    return subject_id.removeprefix(f"{org_id}:")


# ---- on the record ----------------------------------------------------------------------------------------


def decision(
    task: Task, kind: str, outcome: str, *, actor: str, because: str, now: datetime, config_version: int, id: str = "", **details: Any
) -> Decision:
    """A row for the move it leads to. `details` say who could have decided."""
    asked = {name: task.people[name] for name in ("of", "escalated", "proposal") if task.people.get(name)}
    return bulk.new(
        Decision, id=id or ids.time_ordered(), task_key=task.key, org_id=task.org_id, kind=kind, outcome=outcome, actor=actor,
        because=because, details={**asked, **details}, config_version=config_version, at=now,
    )  # fmt: skip


def shown(task: Task) -> dict[str, Any] | None:
    """The question a task waits with, for its submitter and whoever may answer."""
    if task.status not in AWAITING:
        return None
    asked = task.people
    return {
        "about": asked.get("about") or UNDECIDED[TaskStatus(task.status)][0],
        "of": asked.get("of") or [OPERATORS],
        "escalated": bool(asked.get("escalated")),
        "proposal": asked.get("proposal"),
        "escalates_at": clock.iso(task.escalate_at),
        "decide_by": clock.iso(task.decide_by),
    }


# ---- when nobody answers ----------------------------------------------------------------------------------


def expire(*, now: datetime) -> int:
    """End the tasks whose question nobody answered in time; answers how many."""
    rows = list(Task.objects.filter(status__in=[status.value for status in AWAITING], decide_by__lte=now)[:LIMIT])
    versions = OrgConfigProvider().versions(task.org_id for task in rows)
    moves = []
    for task in rows:
        kind, sentence = UNDECIDED[TaskStatus(task.status)]
        because = f"{sentence} by {clock.iso(task.decide_by)}"
        row = decision(task, kind, "expired", actor=ACTOR, because=because, now=now, config_version=versions[task.org_id])
        moves.append(Move(task=task, end=TaskStatus.EXPIRED, reason=because, actor=ACTOR, rows=(row,)))
    return len(TaskStore().move_many(moves, now=now)) if moves else 0


def escalate(*, now: datetime) -> int:
    """Put questions that have waited long enough to more people; answers how many."""
    rows = list(Task.objects.filter(status__in=[status.value for status in AWAITING], escalate_at__lte=now)[:LIMIT])
    TaskStore().complete(rows)
    versions = OrgConfigProvider().versions(task.org_id for task in rows)
    changes = []
    for task in rows:
        of, then = task.people.get("of") or [OPERATORS], task.people.get("then") or [OPERATORS]
        added = [name for name in dict.fromkeys(then) if name not in of]
        widened = {**task.people, "of": [*of, *added], "escalated": True}
        because = f"undecided since {clock.iso(task.updated_at)}; "
        because += f"now also for {', '.join(added)}" if added else "there is nobody else to ask"
        # The same move escalates once: its id names the row.
        row = decision(
            task, "escalation", "widened" if added else "nobody_else", actor=ACTOR, because=because, now=now,
            config_version=versions[task.org_id], id=f"{task.last_transition_id}:up", then=then,
        )  # fmt: skip
        guards = {"status": task.status, "attempt": task.attempt, "last_transition_id": task.last_transition_id}
        changes.append(bulk.Change(pk=task.key, guards=guards, fields={"people": widened, "escalate_at": None}, rows=(row,)))
    if not changes:
        return 0
    with bulk.atomic(Task):
        won = bulk.compare_and_set(Task, changes)
        bulk.insert_missing([row for change in changes if change.pk in won for row in change.rows])
    return len(won)
