"""Dead letters: tasks that failed or expired, and what people do about them.

A task that has ended stays as it ended. Requeueing makes a new task `<task_id>~2` (then `~3`, …) with fresh attempts, linked
by `retry_of`; it goes the ordinary way through intake, policies included. Its id is derived, so two people who requeue the
same task at once make one. Discarding only takes it off the list. Both leave a Decision on the old task.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from apps.core import bulk, clock, ids
from apps.core.auth import Principal
from apps.core.errors import Conflict, Invalid, Missing, PlatformError, Problem
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks import steering
from apps.tasks.intake import Origin, OtherBody, TaskIntake, Verdict
from apps.tasks.models import DeadLetter, Decision, Task
from apps.tasks.parser import ID_LENGTH, SUB_TASK_FORM, TASK_FORM, InitialJobParser, instant
from apps.tasks.states import TERMINAL, TaskStatus

KIND = "dead_letter"
TRIES = 50
"""So many retries of one task may have been turned away by a policy before we give up looking for a free id."""
_RETRY = re.compile(r"(.+)~(\d{1,9})")


class AlreadySettled(Conflict):
    code, sentence, shown = "already_settled", "Somebody has dealt with this task already.", ("task_id", "state", "retried_as")


class RetriesTaken(Conflict):
    code, sentence, shown = "retries_taken", "Every id for a retry of this task is taken.", ("task_id",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How to do it again."""

    patch: dict[str, Any] = field(default_factory=dict)
    """A JSON merge patch (RFC 7396) on the entry."""
    exclude: tuple[str, ...] = ()
    """Agents that should not get it."""
    keep_excluded: bool = False
    """Those that failed at the old one neither."""
    reason: str = ""


AS_IT_WAS = Retry()


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What became of one of several."""

    task_id: str
    retried_as: str = ""
    error: PlatformError | None = None


def find(org_id: str, task_id: str) -> DeadLetter:
    """Raises Missing, for another org's too."""
    found = DeadLetter.objects.filter(pk=ids.task_key(org_id, task_id)).first()
    if found is None:
        raise Missing()
    return found


# ---- doing it again ---------------------------------------------------------------------------------------


def requeue(letter: DeadLetter, retry: Retry, principal: Principal, *, now: datetime) -> Task:
    """The new task. Raises AlreadySettled, Invalid (the patched entry), or whatever intake says."""
    (settled,) = requeue_many([letter], retry, principal, now=now)
    if settled.error is not None:
        raise settled.error
    return Task.objects.get(pk=ids.task_key(letter.org_id, settled.retried_as))


def requeue_many(letters: Sequence[DeadLetter], retry: Retry, principal: Principal, *, now: datetime) -> list[Settled]:
    """One answer for each, in order. A few writes for all of them. One that cannot be done again never stops the others."""
    # The person's key is not charged for what the platform submits; the history says who asked.
    own = replace(principal, key_id="", subject_id="", name=principal.actor)
    answers: dict[str, Settled] = {}
    tasks = Task.objects.in_bulk([letter.key for letter in letters])
    open_: dict[str, DeadLetter] = {}
    for letter in letters:
        try:
            _check(letter, tasks.get(letter.key))
            open_[letter.key] = letter
        except PlatformError as error:
            answers[letter.key] = Settled(task_id=letter.task_id, retried_as=letter.retried_as, error=error)
    made = _submit(open_, tasks, retry, own, answers, now)
    versions = OrgConfigProvider().versions(letter.org_id for letter in open_.values())
    changes = [
        _change(open_[key], DeadLetter.State.REQUEUED, principal.actor, retry.reason, now, versions, retried_as=task_id)
        for key, task_id in made.items()
    ]
    won = _settle(changes)
    for key, task_id in made.items():
        letter = open_[key]
        answers[key] = Settled(task_id=letter.task_id, retried_as=task_id) if key in won else _lost(letter, task_id, principal.actor, now)
    return [answers[letter.key] for letter in letters]


def _check(letter: DeadLetter, task: Task | None) -> None:
    if task is None:
        raise Missing()
    if letter.state != DeadLetter.State.WAITING:
        raise AlreadySettled(task_id=letter.task_id, state=letter.state, retried_as=letter.retried_as)


def _submit(
    letters: Mapping[str, DeadLetter], tasks: Mapping[str, Task], retry: Retry, own: Principal, answers: dict[str, Settled], now: datetime
) -> dict[str, str]:
    """Key of the old → id of the new. Those for which there is none have their answer."""
    made: dict[str, str] = {}
    number = dict.fromkeys(letters, 0)
    for _ in range(TRIES):
        waiting = {key: retry_id(letters[key].task_id, step) for key, step in number.items()}
        if not waiting:
            return made
        entries, keys, origins = [], [], {}
        for key, task_id in waiting.items():
            try:
                entries.append(entry_of(tasks[key], task_id, retry.patch, now=now))
            except Invalid as error:
                answers[key] = Settled(task_id=letters[key].task_id, error=error)
                del number[key]
                continue
            keys.append(key)
            kept = tasks[key].excluded_agents if retry.keep_excluded else {}
            origins[task_id] = Origin(retry_of=letters[key].task_id, excluded={**kept, **dict.fromkeys(retry.exclude, "excluded")})
        for key, verdict in zip(keys, TaskIntake().submit_many(entries, own, now=now, origins=origins), strict=True):
            if _is_taken(verdict):
                number[key] += 1  # another's task, or an earlier retry that a policy turned away
                continue
            del number[key]
            if verdict.error is not None:
                answers[key] = Settled(task_id=letters[key].task_id, error=verdict.error)
            else:
                made[key] = verdict.task_id
    for key in number:
        answers[key] = Settled(task_id=letters[key].task_id, error=RetriesTaken(task_id=letters[key].task_id))
    return made


def _is_taken(verdict: Verdict) -> bool:
    return isinstance(verdict.error, OtherBody) or (verdict.repeated and verdict.status == TaskStatus.REJECTED)


def _lost(letter: DeadLetter, task_id: str, actor: str, now: datetime) -> Settled:
    """Somebody settled it between our look and our write: by the same new task, or otherwise, and then ours must not run."""
    letter.refresh_from_db()
    if letter.retried_as == task_id:
        return Settled(task_id=letter.task_id, retried_as=task_id)
    stray = Task.objects.filter(pk=ids.task_key(letter.org_id, task_id)).first()
    if stray is not None and stray.status not in TERMINAL:
        steering.cancel(stray, actor=actor, reason=f"{letter.task_id} was {letter.state} at the same moment", now=now)
    error = AlreadySettled(task_id=letter.task_id, state=letter.state, retried_as=letter.retried_as)
    return Settled(task_id=letter.task_id, retried_as=letter.retried_as, error=error)


def retry_id(task_id: str, step: int = 0) -> str:
    """`report` → `report~2`; `report~2` → `report~3`. `step` looks further."""
    match = _RETRY.fullmatch(task_id)
    base, number = (match[1], int(match[2])) if match else (task_id, 1)
    suffix = f"~{number + 1 + step}"
    if len(base) + len(suffix) > ID_LENGTH:
        base = f"{base[: ID_LENGTH - 40]}~{hashlib.sha256(base.encode()).hexdigest()[:16]}"
    return base + suffix


def entry_of(task: Task, task_id: str, patch: dict[str, Any], *, now: datetime) -> Any:
    """The task's entry under another id, patched and checked like any other. A deadline that has passed is left out.
    Raises Invalid."""
    form, prefix = (SUB_TASK_FORM, "sub_task") if task.kind == "sub_task" else (TASK_FORM, "task")
    its_id, its_timeline = f"{prefix}_id", f"{prefix}_completion_timeline"
    named = {form.by_wire_name[name].wire if name in form.by_wire_name else name: value for name, value in patch.items()}
    if its_id in named:
        raise Invalid([Problem(field=f"patch.{its_id}", code="server_owned", message="is derived from the old one")])
    data = {**merged({**task.entry}, named), its_id: task_id}
    timeline = data.get(its_timeline)
    if isinstance(timeline, dict) and "due" in timeline and "due" not in (named.get(its_timeline) or {}):
        due = instant(timeline["due"], "", [])
        if due is not None and due <= now:
            data[its_timeline] = {name: value for name, value in timeline.items() if name != "due"}
    try:
        return InitialJobParser().parse(data, kind=task.kind)
    except Invalid as error:
        problems = [Problem(field=f"patch.{p.field}".rstrip("."), code=p.code, message=p.message) for p in error.problems]
        raise Invalid(problems) from None


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396: members of the patch replace those of the target, null removes."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


# ---- leaving it -------------------------------------------------------------------------------------------


def discard(letter: DeadLetter, *, reason: str, actor: str, now: datetime) -> DeadLetter:
    """Off the list, for good. Raises AlreadySettled."""
    (settled,) = discard_many([letter], reason=reason, actor=actor, now=now)
    if settled.error is not None:
        raise settled.error
    return letter


def discard_many(letters: Sequence[DeadLetter], *, reason: str, actor: str, now: datetime) -> list[Settled]:
    waiting = [letter for letter in letters if letter.state == DeadLetter.State.WAITING]
    versions = OrgConfigProvider().versions(letter.org_id for letter in waiting)
    won = _settle([_change(letter, DeadLetter.State.DISCARDED, actor, reason, now, versions) for letter in waiting])
    answers = []
    for letter in letters:
        if letter.key in won:
            letter.state, letter.settled_at, letter.settled_by, letter.because = DeadLetter.State.DISCARDED, now, actor, reason
        error = None if letter.key in won else AlreadySettled(task_id=letter.task_id, state=letter.state, retried_as=letter.retried_as)
        answers.append(Settled(task_id=letter.task_id, error=error))
    return answers


# ---- writing it down --------------------------------------------------------------------------------------


def _change(
    letter: DeadLetter, state: str, actor: str, because: str, now: datetime, versions: Mapping[str, int], *, retried_as: str = ""
) -> bulk.Change:
    """`versions` of the configuration, by org."""
    decision = bulk.new(
        Decision,
        id=f"{letter.key}!{state}",
        task_key=letter.key,
        org_id=letter.org_id,
        kind=KIND,
        outcome=state,
        actor=actor,
        because=because,
        details={"reason_kind": letter.kind, **({"retried_as": retried_as} if retried_as else {})},
        config_version=versions[letter.org_id],
        at=now,
    )
    fields = {"state": state, "settled_at": now, "settled_by": actor, "because": because, "retried_as": retried_as}
    return bulk.Change(pk=letter.key, guards={"state": DeadLetter.State.WAITING.value}, fields=fields, rows=(decision,))


def _settle(changes: Sequence[bulk.Change]) -> set[str]:
    if not changes:
        return set()
    with bulk.atomic(DeadLetter):
        won = bulk.compare_and_set(DeadLetter, changes)
        bulk.insert_missing([row for change in changes if change.pk in won for row in change.rows])
    return won


# ---- as JSON ----------------------------------------------------------------------------------------------


def shape(letter: DeadLetter, task: Task | None) -> dict[str, Any]:
    return {
        "task_id": letter.task_id,
        "kind": letter.kind,
        "meaning": DeadLetter.Kind(letter.kind).label,
        "at": clock.iso(letter.at),
        "agent": letter.agent or None,
        "job_space_id": letter.job_space_id,
        "status": task.status if task else None,
        "reason": task.reason if task else "",
        "goal": task.goal if task else "",
        "priority": task.priority if task else None,
        "attempt": task.attempt if task else None,
        "submitter_subject_id": task.submitter_subject_id if task else "",
        "retry_of": (task.retry_of or None) if task else None,
        "state": letter.state,
        "retried_as": letter.retried_as or None,
        "settled_at": clock.iso(letter.settled_at),
        "settled_by": letter.settled_by or None,
        "because": letter.because or None,
    }
