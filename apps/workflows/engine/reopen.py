"""Taking up an ended session again: from what failed, or from a step on. Which nodes begin again is the plan's to say.

First the nodes, then the session: while it has ended nothing of it can start. Who dies in between leaves nodes that wait in
an ended session; the next try begins with those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from apps.core import bulk
from apps.core.errors import Conflict
from apps.core.failpoint import failpoint
from apps.workflows.document.spec import SessionSpec
from apps.workflows.engine import store
from apps.workflows.engine.store import StoreReader
from apps.workflows.models import Session, Step
from apps.workflows.planning import plan
from apps.workflows.states import SessionStatus, StepStatus


class NothingToRetry(Conflict):
    code, sentence = "nothing_to_retry", "Everything in this session has completed."


class Changed(Conflict):
    code, sentence = "changed", "The session has changed in the meantime."


def retry(session: Session, spec: SessionSpec, *, actor: str, reason: str, now: datetime) -> None:
    resets = plan.to_retry(spec, _states(session, spec))
    if not resets:
        raise NothingToRetry(session_id=session.session_id)
    _begin_again(session, spec, resets, {}, actor=actor, reason=reason or "retried", now=now)


def rerun(
    session: Session, spec: SessionSpec, path: str, *, override: Mapping[str, Any] | None, actor: str, reason: str, now: datetime
) -> None:
    resets = plan.to_rerun(spec, _states(session, spec), path)
    given = {one: dict(override) for one in spec.steps_in([path])} if override is not None else {}
    _begin_again(session, spec, resets, given, actor=actor, reason=reason or f"run again from {path}", now=now)


def _states(session: Session, spec: SessionSpec) -> Mapping[str, plan.NodeState]:
    return StoreReader(session, spec).nodes(list(spec.nodes))


def _begin_again(
    session: Session, spec: SessionSpec, resets: Sequence[plan.Reset], overrides: Mapping[str, dict[str, Any]], *,
    actor: str, reason: str, now: datetime,
) -> None:  # fmt: skip
    rows = store.steps(session.key, [reset.path for reset in resets])
    run = session.run + 1
    moves = []
    for reset in resets:
        row = rows[reset.path]
        if row.kind == Step.Kind.GROUP:
            fields: dict[str, Any] = {"run": row.run + 1}
            end = StepStatus.WAITING
        elif reset.keep_items:
            fields, end = {"retry_at": now}, StepStatus.RETRYING
        else:
            zero = dict.fromkeys(("total", "completed", "failed", "cancelled", "skipped", "timed_out"), 0)
            fields, end = {"run": row.run + 1, "attempt": 0, **zero}, StepStatus.WAITING
        if reset.path in overrides:
            fields["override"] = overrides[reset.path]
        fields |= {"deadline": None, "finished_at": None, "partial": False, "missing": [], "busy_until": None}
        moves.append(store.StepMove(row=row, end=end, reason=reset.because or reason, fields=fields))
    deadline = now + (session.deadline - session.created_at) if session.deadline else None
    with bulk.atomic(Step):
        store.move_steps(moves, actor=actor, session_run=run, now=now)
        failpoint("reopen.steps")
        fields = {
            "run": run, "published": False, "tell_at": None, "partial": False, "finished_at": None, "deadline": deadline, "counts": {},
            "missing": [],
            "compensation": "",
        }  # fmt: skip
        if not store.move_session(session, SessionStatus.RUNNING, reason=reason, actor=actor, now=now, **fields):
            raise Changed(session_id=session.session_id)
