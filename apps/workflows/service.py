"""Sessions: the one face of this room. The API, the admin, events and the command line all come through here.

Everything is of the principal's org; another org's session is missing. Answers are plain JSON (`views.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import F, Q

from apps.core.auth import Principal
from apps.core.errors import Conflict, Missing, PlatformError
from apps.core.queries import cursor_of, read_cursor
from apps.core.redis import RedisDown
from apps.workflows import news, views
from apps.workflows.context.context import ContextStore
from apps.workflows.engine import births, canvas, endings, reopen, store, undoing, work
from apps.workflows.models import Item, Session, SessionEvent, Step
from apps.workflows.states import SESSION_ENDED, SESSION_STATES, SessionStatus

log = logging.getLogger(__name__)


class UnknownStep(Missing):
    sentence = "step not found"


class NotEnded(Conflict):
    code, sentence = "not_ended", "The session has not ended."


class HasEnded(Conflict):
    code, sentence, shown = "ended", "The session has ended.", ("status",)


class NotNow(Conflict):
    code, sentence, shown = "not_now", "The session is not in a state that allows that.", ("status",)


class Sessions:
    # Coming in

    def create(self, document: Any, principal: Principal, *, now: datetime, dry_run: bool = False) -> tuple[dict[str, Any], bool]:
        """The session, and whether the same document came before under this session_id; with `dry_run` the plan of what
        would run. Raises Invalid with every problem, Conflict."""
        if dry_run:
            return _plan(document), False
        row, repeated = births.create(document, principal, now=now)
        if not repeated:
            canvas.wake(row.key)
            news.announce([row.key])
        return views.session(row), repeated

    # Looking

    def get(self, principal: Principal, session_id: str) -> dict[str, Any]:
        return views.session(self._row(principal, session_id))

    def document(self, principal: Principal, session_id: str) -> dict[str, Any]:
        key = store.session_key(principal.org_id, session_id)
        found = Session.objects.filter(pk=key).values_list("document", flat=True).first()
        if found is None:
            raise store.UnknownSession(session_id=session_id)
        return found

    def list(
        self, principal: Principal, *, status: Sequence[str] = (), q: str = "", cursor: str | None = None, limit: int = 50
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Newest first."""
        rows = Session.objects.filter(org_id=principal.org_id, run__gt=endings.GONE).defer("document")
        if status:
            rows = rows.filter(status__in=list(status))
        if q:
            rows = rows.filter(Q(session_id__startswith=q) | Q(name__icontains=q))
        if cursor:
            sequence, key = read_cursor(cursor, (int, str))
            rows = rows.filter(Q(sequence__lt=sequence) | Q(sequence=sequence, key__lt=key))
        found = list(rows.order_by("-sequence", "-key")[: limit + 1])
        more = len(found) > limit
        found = found[:limit]
        return views.sessions(found), cursor_of(found[-1].sequence, found[-1].key) if more else None

    def steps(
        self, principal: Principal, session_id: str, *, cursor: str | None = None, limit: int = 1000
    ) -> tuple[list[dict[str, Any]], str | None]:
        """In the order of the document, a group before its members; what undoes steps comes last."""
        session = self._row(principal, session_id)
        rows = Step.objects.filter(session_key=session.key)
        undo, position = read_cursor(cursor, (int, int)) if cursor else (0, -1)
        graph = rows.exclude(parent=store.UNDOING).filter(position__gt=position).order_by("position") if not undo else rows.none()
        found = list(graph[: limit + 1])
        if len(found) <= limit:
            start = position if undo else -1
            found += rows.filter(parent=store.UNDOING, position__gt=start).order_by("position")[: limit + 1 - len(found)]
        more = len(found) > limit
        found = found[:limit]
        last = found[-1] if more else None
        return views.steps(session, found), cursor_of(int(last.parent == store.UNDOING), last.position) if last else None

    def step(self, principal: Principal, session_id: str, path: str) -> dict[str, Any]:
        session = self._row(principal, session_id)
        return views.steps(session, [self._step(session, path)])[0]

    def items(
        self, principal: Principal, session_id: str, path: str, *, status: Sequence[str] = (), cursor: str | None = None,
        limit: int = 100, whole: bool = False,
    ) -> tuple[list[dict[str, Any]], str | None]:  # fmt: skip
        """Of the step's present run, in order."""
        session = self._row(principal, session_id)
        step = self._step(session, path)
        rows = Item.objects.filter(step_run=step.step_run)
        if status:
            rows = rows.filter(status__in=list(status))
        if cursor:
            rows = rows.filter(index__gt=read_cursor(cursor, (int,))[0])
        found = list((rows if whole else rows.defer("input", "result")).order_by("index")[: limit + 1])
        more = len(found) > limit
        found = found[:limit]
        return [views.item(row, path, whole=whole) for row in found], cursor_of(found[-1].index) if more else None

    def item(self, principal: Principal, session_id: str, path: str, index: int) -> dict[str, Any]:
        session = self._row(principal, session_id)
        step = self._step(session, path)
        row = Item.objects.filter(pk=store.item_id(step.step_run, index)).first()
        if row is None:
            raise Missing("item not found")
        return views.item(row, path, whole=True)

    def events(self, principal: Principal, session_id: str, *, after: str = "", limit: int = 500) -> list[dict[str, Any]]:
        """Oldest first. Two processes may write at once: one who follows should look a little behind what he knows."""
        session = self._row(principal, session_id)
        rows = SessionEvent.objects.filter(session_key=session.key, id__gt=after).order_by("id")
        return [views.event(row) for row in rows[:limit]]

    def results(self, principal: Principal, session_id: str, *, partial: bool = False) -> dict[str, Any]:
        """The context keys that are its result; before it has ended only when `partial` is asked for."""
        session = self._row(principal, session_id)
        final = session.status in SESSION_ENDED
        if not final and not partial:
            raise NotEnded(session_id=session_id)
        spec = store.spec_of(session)
        keys = spec.result_keys
        values = ContextStore().read(session.key, keys)
        if keys is None:
            given = ContextStore().read(session.key, at_version=1) if spec.context else {}
            written = {key for key, version in ContextStore().keys(session.key).items() if version > 1 or key not in given}
            values = {key: value for key, value in values.items() if key in written}
        gone = set(store.outdated(session, spec, values))
        values = {key: value for key, value in values.items() if key not in gone}
        return {
            "session_id": session.session_id, "status": session.status, "final": final,
            "partial": bool(session.partial) or session.status != SessionStatus.COMPLETED, "results": values,
            "missing": session.missing if session.published else endings.missing_in(session.key),
        }  # fmt: skip

    # Steering

    def cancel(self, principal: Principal, session_id: str, *, now: datetime, reason: str = "") -> dict[str, Any]:
        """Nothing of it starts any more; what runs is stopped. Cancelling what is cancelled changes nothing."""
        session = self._row(principal, session_id)
        if session.status == SessionStatus.CANCELLED:
            return views.session(session)
        self._move(session, SessionStatus.CANCELLED, principal, now, reason or "cancelled", finished_at=now)
        # Swept before it is answered: what has ended cannot start. Where that is cut short, the hint and upkeep go on with it.
        try:
            work.look(session.key, None, now=now)
        except (PlatformError, RedisDown) as error:
            log.warning("session.sweep_cut_short", extra={"session": session.key, "error": str(error)})
        return self._steered(session)

    def pause(self, principal: Principal, session_id: str, *, now: datetime, reason: str = "") -> dict[str, Any]:
        """Nothing new starts; items that run end. Its deadlines stand still."""
        session = self._row(principal, session_id)
        if session.status == SessionStatus.PAUSED:
            return views.session(session)
        self._move(session, SessionStatus.PAUSED, principal, now, reason or "paused", paused_at=now)
        return self._steered(session)

    def resume(self, principal: Principal, session_id: str, *, now: datetime, reason: str = "") -> dict[str, Any]:
        session = self._row(principal, session_id)
        if session.status == SessionStatus.RUNNING:
            return views.session(session)
        stood = now - session.paused_at if session.paused_at else None
        later = {"deadline": session.deadline + stood} if session.deadline and stood else {}
        if stood:
            Step.objects.filter(session_key=session.key, status__in=store.STEP_IS_OPEN, deadline__isnull=False).update(
                deadline=F("deadline") + stood
            )
        self._move(session, SessionStatus.RUNNING, principal, now, reason or "resumed", paused_at=None, **later)
        return self._steered(session)

    def retry(self, principal: Principal, session_id: str, *, now: datetime, reason: str = "") -> dict[str, Any]:
        """Once more what did not complete; results that there are stay."""
        session = self._ended(principal, session_id)
        reopen.retry(session, store.spec_of(session), actor=principal.actor, reason=reason, now=now)
        return self._steered(session)

    def rerun(
        self, principal: Principal, session_id: str, path: str, *, input: Mapping[str, Any] | None = None, now: datetime, reason: str = ""
    ) -> dict[str, Any]:
        """Once more from a step (or group), with changed input if given, and all that depends on it."""
        session = self._ended(principal, session_id)
        spec = store.spec_of(session)
        if path not in spec.nodes:
            raise UnknownStep(path=path)
        reopen.rerun(session, spec, path, override=input, actor=principal.actor, reason=reason, now=now)
        return self._steered(session)

    def compensate(self, principal: Principal, session_id: str, *, now: datetime, reason: str = "") -> dict[str, Any]:
        """Undo what its completed steps did, the last first."""
        session = self._ended(principal, session_id)
        if session.compensation:
            return views.session(session)
        if not undoing.begin(session, store.spec_of(session), now=now):
            raise undoing.NothingToUndo(session_id=session_id)
        Session.objects.filter(pk=session.key, compensation="").update(compensation=undoing.RUNNING, updated_at=now)
        session.compensation = undoing.RUNNING
        return self._steered(session)

    def delete(self, principal: Principal, session_id: str) -> None:
        """An ended session and everything of it: rows, context, keys. Whoever died over it can be followed by doing it again."""
        session = self._ended(principal, session_id, gone=True)
        if session.compensation == undoing.RUNNING:
            raise NotEnded(session_id=session_id)
        if not endings.drop(session):
            raise reopen.Changed(session_id=session_id)
        news.announce([session.key])

    # Inside

    def _row(self, principal: Principal, session_id: str, *, gone: bool = False) -> Session:
        key = store.session_key(principal.org_id, session_id)
        row = Session.objects.filter(pk=key, org_id=principal.org_id).defer("document").first()
        if row is None or (row.run == endings.GONE and not gone):
            raise store.UnknownSession(session_id=session_id)
        return row

    def _ended(self, principal: Principal, session_id: str, *, gone: bool = False) -> Session:
        """Ended, and all of it: what is still being stopped is not."""
        session = self._row(principal, session_id, gone=gone)
        if session.status not in SESSION_ENDED or not session.published:
            raise NotEnded(session_id=session_id)
        return session

    def _step(self, session: Session, path: str) -> Step:
        row = Step.objects.filter(pk=store.step_id(session.key, path)).first()
        if row is None:
            raise UnknownStep(path=path)
        return row

    def _move(self, session: Session, end: SessionStatus, principal: Principal, now: datetime, reason: str, **fields: Any) -> None:
        for _ in range(5):
            status = SessionStatus(session.status)
            if status in SESSION_ENDED:
                raise HasEnded(status=session.status)
            if not SESSION_STATES.allows(status, end):
                raise NotNow(status=session.status)
            if store.move_session(session, end, reason=reason, actor=principal.actor, now=now, **fields):
                return
            session.refresh_from_db(fields=["status", "run", "reason"])
        raise NotNow(status=session.status)

    def _steered(self, session: Session) -> dict[str, Any]:
        canvas.wake(session.key)
        news.announce([session.key])
        return views.session(session)


def _plan(document: Any) -> dict[str, Any]:
    from apps.workflows.document import dry_run

    spec = births.judge(document)
    return dry_run.expanded_plan(spec, spec.context)
