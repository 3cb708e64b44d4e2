"""What people decide about a task: approve or reject it, choose its head agent, verify its result.

Each is one compare-and-set move with a Decision beside it. Of two who decide at once one wins; the other is told.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apps.agents.candidates import NOT_A_CANDIDATE, AgentCandidatePoolResolver
from apps.core import clock, ids
from apps.core.auth import Principal
from apps.core.errors import Conflict, Invalid, Problem
from apps.orgs.config_store import OrgConfigProvider
from apps.orgs.keys import OPERATOR, ORG_ADMIN
from apps.roles.services import RolesUnknown
from apps.tasks import people
from apps.tasks.batch import facts_of
from apps.tasks.executor import JobExecutor, back_to_queue
from apps.tasks.models import Assignment, Task
from apps.tasks.people import FourEyes, Identity, NotYours
from apps.tasks.states import TaskStatus
from apps.tasks.steering import NotHeld, hint, note
from apps.tasks.store import LostRace, Move, TaskStore
from apps.tasks.taking_back import TakenBack, take_back_many

VERDICTS = ("accept", "reject", "send_back")


class NotUnassigned(Conflict):
    code, sentence = "not_unassigned", "The task is not waiting for a head agent."


class NotVerifiable(Conflict):
    code, sentence = "not_awaiting_verification", "The task has no result that waits for verification."


class NotAvailable(Conflict):
    """In the pool, and gets nothing new: fact `why`."""

    code, sentence, shown = "not_available", "This subject cannot take the task now.", ("why",)


def approve(task: Task, who: Principal, *, accepted: bool, reason: str, now: datetime) -> Task:
    """Let in, or turn away, a task that waits for approval. NotHeld, NotYours, RolesUnknown, FourEyes, LostRace."""
    if task.status != TaskStatus.AWAITING_APPROVAL:
        raise NotHeld(status=task.status, task_id=task.task_id)
    Identity(who, now=now).check(task)
    config = OrgConfigProvider().of(task.org_id)
    if accepted and config.four_eyes and people.is_submitter(who, task):
        raise FourEyes(task_id=task.task_id)
    outcome = "approved" if accepted else "rejected"
    because = reason or f"{outcome} by {who.actor}"
    row = people.decision(task, "approval", outcome, actor=who.actor, because=because, now=now, config_version=config.version)
    end = TaskStatus.QUEUED if accepted else TaskStatus.REJECTED
    _move(task, Move(task=task, end=end, reason=because, actor=who.actor, fields=_answered(), rows=(row,)), who, now)
    if accepted:
        hint(task, now)
    return task


def assign(task: Task, who: Principal, *, subject_id: str, reason: str, now: datetime) -> Task:
    """Give the task to this candidate, or, with no `subject_id`, to the one the platform proposes.

    For a task that waits for a person's choice, and, by operators, for any that is queued. Limits of the queue do not hold it
    back. NotUnassigned, NotYours, RolesUnknown, Invalid (outside the pool), NotAvailable, LostRace.
    """
    try:
        return _assign(task, who, subject_id, reason, now)
    except LostRace:
        # A dispatcher may just have asked for this very choice; then it is still wanted.
        task.refresh_from_db()
        if task.status != TaskStatus.AWAITING_ASSIGNMENT:
            raise
        return _assign(task, who, subject_id, reason, now)


def _assign(task: Task, who: Principal, subject_id: str, reason: str, now: datetime) -> Task:
    was = TaskStatus(task.status)
    if was not in (TaskStatus.AWAITING_ASSIGNMENT, TaskStatus.QUEUED):
        raise NotUnassigned(status=task.status, task_id=task.task_id)
    if was is TaskStatus.AWAITING_ASSIGNMENT:
        Identity(who, now=now).check(task)
    elif who.role not in (OPERATOR, ORG_ADMIN):
        raise NotYours(task_id=task.task_id)
    proposal = task.people.get("proposal") or {} if was is TaskStatus.AWAITING_ASSIGNMENT else {}
    chosen = subject_id or proposal.get("subject_id", "")
    if not chosen:
        raise Invalid([Problem(field="subject_id", code="missing", message="is required: nobody is proposed")])
    config = OrgConfigProvider().of(task.org_id)
    facts = facts_of(task)
    pool = AgentCandidatePoolResolver(task.org_id, config).pools([task.job_space_id], now=now)[task.job_space_id]
    pool = pool.narrowed(facts.only) if facts.only else pool
    if pool.unknown:
        raise RolesUnknown(pool.unknown)
    candidate = pool.members.get(chosen)
    if candidate is None:
        raise Invalid([Problem(field="subject_id", code="not_a_candidate", message=NOT_A_CANDIDATE)])
    if why := pool.barred.get(chosen) or candidate.unfit(facts):
        raise NotAvailable(why=why, task_id=task.task_id)
    confirmed = chosen == proposal.get("subject_id")
    because = f"{who.actor} {'confirmed' if confirmed else 'chose'} {chosen}" + (f": {reason}" if reason else "")
    attempt = task.attempt + 1
    seen = {"roles": pool.source, **pool.shown(facts, candidate)}
    seen["eligible"][chosen] = candidate.shown()
    seen["pool_size"] = seen.pop("size")
    assignment = Assignment(
        id=ids.assignment_id(task.key, attempt), task_key=task.key, org_id=task.org_id, attempt=attempt, head_agent_subject_id=chosen,
        strategy="manual", because=because, at=now,
        decision={"strategy": "manual", "config_version": config.version, **seen, **({"proposal": proposal} if proposal else {})},
    )  # fmt: skip
    row = people.decision(
        task, "manual_assignment", "confirmed" if confirmed else "chosen", actor=who.actor, because=because, now=now,
        config_version=config.version, subject_id=chosen, attempt=attempt,
    )  # fmt: skip
    fields: dict[str, Any] = {
        **_answered(), "attempt": attempt, "head_agent_subject_id": chosen, "not_before": None, "held_by_person": candidate.is_person,
    }  # fmt: skip
    _move(task, Move(task=task, end=TaskStatus.ASSIGNED, reason=because, actor=who.actor, fields=fields, rows=(assignment, row)), who, now)
    if was is TaskStatus.QUEUED:
        take_back_many([TakenBack(task=task, was=was, agent="", sequence=0, reason=because)], now=now)
    JobExecutor().hand_over(task, config, now=now)
    return task


def verify(task: Task, who: Principal, *, verdict: str, reason: str, now: datetime) -> Task:
    """accept: completed. reject: failed. send_back: another attempt, with the reason as a note to whoever gets it.
    NotVerifiable, NotYours, RolesUnknown, FourEyes, LostRace."""
    if task.status != TaskStatus.AWAITING_VERIFICATION:
        raise NotVerifiable(status=task.status, task_id=task.task_id)
    Identity(who, now=now).check(task)
    config = OrgConfigProvider().of(task.org_id)
    own_work = people.bare(who.subject_id, task.org_id) == people.bare(task.head_agent_subject_id, task.org_id)
    if verdict == "accept" and own_work and config.four_eyes:
        raise FourEyes("Whoever did a task may not verify it.", task_id=task.task_id)
    review = {
        "task_id": task.task_id,
        "review_subject_ids": [who.subject_id or who.actor],
        "review_data": {"verdict": verdict, "reason": reason, "attempt": task.attempt, "subject_id": task.head_agent_subject_id},
        "ts": clock.iso(now),
    }
    row = people.decision(
        task, "verification", verdict, actor=who.actor, because=reason, now=now, config_version=config.version, review=review
    )
    said = f": {reason}" if reason else ""
    if verdict == "send_back":
        # One that is sent back has an attempt more: a person asked for it.
        again = back_to_queue(task, reason=f"sent back by {who.actor}{said}", actor=who.actor, not_before=None, free=True)
        reviews = [*task.people.get("reviews", ()), review]
        fields = {**again.fields, **_answered(), "result": None, "people": {**task.people, "reviews": reviews}}
        move = Move(task=task, end=TaskStatus.QUEUED, reason=again.reason, actor=who.actor, fields=fields, rows=(row,))
    elif verdict == "accept":
        because = f"verified by {who.actor}{said}"
        move = Move(task=task, end=TaskStatus.COMPLETED, reason=because, actor=who.actor, fields=_answered(), rows=(row,))
    else:
        because = f"the verifier rejected the result{said}"
        move = Move(task=task, end=TaskStatus.FAILED, reason=because, actor=who.actor, fields=_answered(), rows=(row,))
    _move(task, move, who, now)
    if task.status == TaskStatus.QUEUED:
        hint(task, now)
    return task


def _answered() -> dict[str, Any]:
    return {"escalate_at": None, "decide_by": None}


def _move(task: Task, move: Move, who: Principal, now: datetime) -> None:
    was = task.status
    if not TaskStore().move_many([move], now=now):
        raise LostRace(task_id=task.task_id)
    note(task, was=was, actor=who.actor, now=now)
