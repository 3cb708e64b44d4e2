"""How a session comes to be: its row, then (once, however often it is tried) its steps and its first context."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.db import IntegrityError

from apps.core import bulk, clock, ids
from apps.core.auth import Principal
from apps.core.errors import Conflict, Problem, Unavailable
from apps.core.failpoint import failpoint
from apps.workflows.context.context import ContextStore
from apps.workflows.document import reading
from apps.workflows.document.spec import SessionSpec
from apps.workflows.engine import processors, store
from apps.workflows.models import Session, SessionEvent, Step
from apps.workflows.states import SessionStatus, StepStatus

log = logging.getLogger(__name__)

BATCH = 1000
CONTEXT_WRITER = "session"


class OtherDocument(Conflict):
    code, sentence = "other_body", "A session with this session_id was submitted before, with another document."


def judge(document: Any) -> SessionSpec:
    """Raises Invalid with every problem."""
    return reading.parse(document, processors=processors.names(), check_script=_check_script)


def _check_script(source: str) -> Sequence[Problem]:
    from apps.dsl import expanding as starlark  # a sandbox is loaded only by those who ask for one

    try:
        starlark.check(source)
    except starlark.ScriptFailed as error:
        return error.problems
    except Unavailable as error:  # no reason to turn a session away: the step finds out when it runs
        log.warning("script.not_checked", extra={"error": error.sentence})
    return ()


def create(document: Mapping[str, Any], principal: Principal, *, now: datetime) -> tuple[Session, bool]:
    """The session, and whether it was there before with the same document. Raises Invalid, OtherDocument."""
    spec = judge(document)
    session_id = spec.session_id or ids.time_ordered()
    key = store.session_key(principal.org_id, session_id)
    body_hash = hash_of(document)
    session = bulk.new(
        Session, key=key, org_id=principal.org_id, session_id=session_id, name=spec.name[:200], description=spec.description,
        status=SessionStatus.RUNNING.value, document=dict(spec.document), body_hash=body_hash, submitter=submitter_of(principal),
        priority=spec.priority, job_space_id=spec.job_space_id or "", sequence=clock.sequence(), created_at=now, updated_at=now,
        deadline=now + timedelta(seconds=spec.timeout_s) if spec.timeout_s else None,
    )  # fmt: skip
    try:
        with bulk.atomic(Session):
            bulk.insert([session])
            failpoint("session.born")
            if bulk.has_transactions(Session):
                _write(session, spec, now)
                session.prepared = True
                Session.objects.filter(pk=key).update(prepared=True, started_at=now)
    except IntegrityError:
        known = Session.objects.filter(pk=key).first()
        if known is None:
            raise
        if known.body_hash != body_hash:
            raise OtherDocument(session_id=session_id) from None
        return known, True
    if not session.prepared:
        prepare(session, now=now)
    return session, False


def prepare(session: Session, *, now: datetime) -> None:
    """Steps and first context of a session that has none yet; may be done by several, any number of times."""
    _write(session, store.spec_of(session), now)
    failpoint("session.steps_written")
    Session.objects.filter(pk=session.key, prepared=False).update(prepared=True, started_at=now)
    session.prepared = True


def _write(session: Session, spec: SessionSpec, now: datetime) -> None:
    rows = [
        bulk.new(
            Step, id=store.step_id(session.key, node.path), session_key=session.key, org_id=session.org_id, path=node.path,
            kind=(Step.Kind.STEP if node.is_step else Step.Kind.GROUP).value, parent=node.parent, name=(node.name or node.key)[:200],
            position=node.position, status=StepStatus.WAITING.value, updated_at=now,
        )
        for node in spec.nodes.values()
    ]  # fmt: skip
    for start in range(0, len(rows), BATCH):
        bulk.insert_missing(rows[start : start + BATCH])
    born = bulk.new(
        SessionEvent, id=_first_event(session), session_key=session.key, org_id=session.org_id, old="", new=session.status,
        actor=(session.submitter or {}).get("actor", ""), run=session.run, at=now,
    )  # fmt: skip
    bulk.insert_missing([born])
    ContextStore().write_once(session.key, dict(spec.context), CONTEXT_WRITER, now)


def _first_event(session: Session) -> str:
    """Derived, and sorted before all that follow: its time in the layout of `ids.time_ordered`."""
    digest = hashlib.blake2b(session.key.encode(), digest_size=8).hexdigest()
    return f"{(session.sequence // 1000 & ((1 << 48) - 1)) << 16 | 7 << 12:016x}{digest}"


def hash_of(document: Mapping[str, Any]) -> str:
    """In the order of its names: it orders what a step expands to, so another order is another document."""
    try:
        text = orjson.dumps(document)
    except TypeError:  # integers beyond 64 bits
        text = json.dumps(document).encode()
    return hashlib.sha256(text).hexdigest()


def submitter_of(principal: Principal) -> dict[str, Any]:
    return {
        "subject_id": principal.subject_id, "key_id": principal.key_id, "role": principal.role, "name": principal.name,
        "actor": principal.actor, "submitter": principal.submitter,
    }  # fmt: skip


def principal_of(session: Session) -> Principal:
    """Whose doing the session's tasks are."""
    told = session.submitter or {}
    return Principal(
        org_id=session.org_id, role=told.get("role") or "submitter", subject_id=told.get("subject_id") or "", key_id="",
        name=told.get("actor") or f"session {session.session_id}",
    )  # fmt: skip
