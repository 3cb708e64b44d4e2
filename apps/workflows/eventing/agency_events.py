"""Sessions by event: what comes in on the topic `agency_action`, and what is told on `agency_results`.

In:  `{"key": "s1", "action": "initialize", "data": {<session document>}, "context": {…}, "org_id": "acme"}`
Out: `{"event": "accepted" | "refused" | "partial" | "final", "key", "action", "org_id", "session_id", …}`

`key` names the conversation: answers carry it, and it is the session's id when the document names none, so that an event that
comes twice makes one session. Who may ask: on NATS whoever gives an API key of the org in the subject (`authorization`); on
Redis and Kafka, which are trusted, whoever can write there, for the orgs in EVENT_ORGS only.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from django.conf import settings

from apps.core import clock, observe
from apps.core.auth import Principal
from apps.core.errors import Forbidden, Invalid, PlatformError, Problem, Unauthenticated
from apps.orgs import keys
from apps.orgs.models import ApiKey, Org
from apps.workflows.engine import telling
from apps.workflows.eventing.event_manager import GROUP_STATE_UPDATE, Event, EventManager
from apps.workflows.eventing.transports import NATS, configured

if TYPE_CHECKING:
    from apps.workflows.events import SessionEnded

log = logging.getLogger(__name__)

ACTION_TOPIC, RESULT_TOPIC = "agency_action", "agency_results"
INITIALIZE, CANCEL, RESULTS = "initialize", "cancel", "results"
ACTIONS = (INITIALIZE, CANCEL, RESULTS)
KNOWN = {"key", "action", "data", "context", "org_id", "authorization"}
KEY_MAX = 180
RESULT_MAX = 900_000
"""bytes of an answer; NATS and Kafka take 1 MB unless they are told otherwise. Results that are longer are to be fetched."""
SUBMITTER = ApiKey.Role.SUBMITTER.value
MAY = {SUBMITTER, ApiKey.Role.OPERATOR.value, ApiKey.Role.ORG_ADMIN.value}


class NotOfThisOrg(Unauthenticated):
    sentence = "The event does not come from this org."


class SessionsFace(Protocol):
    """What of `apps.workflows.service.Sessions` is used here."""

    def create(self, document: Any, principal: Principal, *, now: datetime) -> tuple[dict[str, Any], bool]: ...
    def cancel(self, principal: Principal, session_id: str, *, now: datetime, reason: str = "") -> dict[str, Any]: ...
    def results(self, principal: Principal, session_id: str, *, partial: bool = False) -> dict[str, Any]: ...


class AgencyActions:
    def __init__(self, manager: EventManager, sessions: SessionsFace | None = None) -> None:
        self._manager = manager
        self._sessions = sessions

    @property
    def sessions(self) -> SessionsFace:
        if self._sessions is None:
            from apps.workflows.service import Sessions

            self._sessions = Sessions()
        return self._sessions

    def connect(self) -> None:
        self._manager.subscribe(ACTION_TOPIC, self.receive)

    def receive(self, event: Event) -> None:
        """An action as it comes from a transport; its answer goes out. Raises what a retry helps against."""
        try:
            principal = principal_of(event)
        except PlatformError as error:
            if error.retry_helps:
                raise
            # Nobody we know: no answer, which would tell strangers about orgs.
            observe.EVENTS.inc(event.transport, "refused")
            log.warning("agency.refused", extra={"transport": event.transport, "org": _claimed(event)[:64], "error": error.code})
            return
        key, action = event.data.get("key"), event.data.get("action")
        told = {"key": key if isinstance(key, str) else None, "action": action if isinstance(action, str) else None}
        try:
            answer = self.handle(key, action, event.data.get("data"), event.data.get("context"), principal=principal, now=clock.now(),
                                 unknown=event.data.keys() - KNOWN)  # fmt: skip
        except PlatformError as error:
            if error.retry_helps:
                raise
            observe.EVENTS.inc(event.transport, "refused")
            answer = {"event": "refused", **refusal(error)}
        self._tell({**answer, **told}, org_id=principal.org_id)

    def handle(
        self, key: Any, action: Any, data: Any, context: Any, *, principal: Principal, now: datetime, unknown: Any = ()
    ) -> dict[str, Any]:
        """The answer. Raises PlatformError: Invalid with every problem, Missing, Conflict."""
        problems = [Problem(field=str(name)[:64], code="unknown", message="is not known here") for name in sorted(map(str, unknown))]
        if not isinstance(key, str) or not 0 < len(key) <= KEY_MAX or not key.isprintable():
            problems.append(Problem(field="key", code="bad_value", message=f"must be 1 to {KEY_MAX} printable characters"))
        if action not in ACTIONS:
            problems.append(Problem(field="action", code="unknown", message=f"must be one of {', '.join(ACTIONS)}"))
        data = {} if data is None and action != INITIALIZE else data
        if not isinstance(data, Mapping):
            problems.append(Problem(field="data", code="wrong_type", message="must be an object"))
        if context is not None and not isinstance(context, Mapping):
            problems.append(Problem(field="context", code="wrong_type", message="must be an object"))
        if problems:
            raise Invalid(problems)
        if action == INITIALIZE:
            return self._initialize(key, data, context, principal, now)
        session_id = data.get("session_id", key)
        if not isinstance(session_id, str):
            raise Invalid([Problem(field="data.session_id", code="wrong_type", message="must be a string")])
        if action == CANCEL:
            reason = data.get("reason", "")
            view = self.sessions.cancel(principal, session_id, now=now, reason=reason if isinstance(reason, str) else "")
            return {"event": "accepted", "session_id": session_id, "status": view.get("status")}
        return told_results(self.sessions.results(principal, session_id, partial=True), session_id)

    def _initialize(self, key: str, data: Mapping[str, Any], context: Any, principal: Principal, now: datetime) -> dict[str, Any]:
        document = {"session_id": key, **data}
        if context:
            given = document.get("context", {})
            # What is not an object is refused by whoever reads the document; then nothing can be merged.
            document["context"] = {**context, **given} if isinstance(given, Mapping) else given
        view, repeated = self.sessions.create(document, principal, now=now)
        answer = {"event": "accepted", "session_id": view["session_id"], "status": view.get("status"), "repeated": repeated}
        log.info("agency.initialized", extra={"org": principal.org_id, "session": view["session_id"], "repeated": repeated})
        return answer

    def publish_result(self, org_id: str, session_id: str, *, reason: str = "", run: int = 1) -> bool:
        """The final result of a session that has ended, or the partial one of a session that did not get so far. Whether every
        transport took it."""
        principal = _for_org(org_id, "events")
        answer = told_results(self.sessions.results(principal, session_id, partial=True), session_id)
        took = self._tell({**answer, "key": session_id, "reason": reason, "run": run}, org_id=org_id)
        return len(took) == len(self._manager.transports)

    def _tell(self, answer: Mapping[str, Any], *, org_id: str) -> list[str]:
        body = {**answer, "org_id": org_id, "at": clock.iso(clock.now())}
        return self._manager.forward(RESULT_TOPIC, body, key=str(answer.get("session_id") or answer.get("key") or ""), org_id=org_id)


def principal_of(event: Event) -> Principal:
    """In whose name an event acts. Raises Unauthenticated, Forbidden."""
    org_id = _claimed(event)
    if "*" not in settings.EVENT_ORGS and org_id not in settings.EVENT_ORGS:
        raise NotOfThisOrg(org=org_id)
    if event.transport == NATS:
        scheme, _, token = str(event.data.get("authorization", "")).partition(" ")
        principal = keys.ring.verify(token.strip() if scheme.lower() == "bearer" else "")
        if principal.org_id != org_id:
            raise NotOfThisOrg(org=org_id)
        if principal.role not in MAY:
            raise Forbidden()
        return principal
    if not Org.objects.filter(pk=org_id, is_active=True).exists():
        raise NotOfThisOrg(org=org_id)
    return _for_org(org_id, f"event on {event.transport}")


def refusal(error: PlatformError) -> dict[str, Any]:
    told: dict[str, Any] = {"code": error.code, "error": error.sentence}
    if isinstance(error, Invalid):
        told["errors"] = [problem.json() for problem in error.problems]
    return told


def told_results(results: Mapping[str, Any], session_id: str) -> dict[str, Any]:
    """An answer with results, bounded."""
    told = {"event": "final" if results.get("final") else "partial", **results, "session_id": session_id}
    size = len(orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS))
    if size > RESULT_MAX:
        told |= {"results": None, "missing": [], "omitted_bytes": size, "fetch": f"/api/v1/sessions/{session_id}/results"}
    return told


def _claimed(event: Event) -> str:
    """The org an event is about: the transport's word where it has one."""
    named = event.data.get("org_id")
    return event.org_id or (named if isinstance(named, str) else "")


def _for_org(org_id: str, name: str) -> Principal:
    return Principal(org_id=org_id, role=SUBMITTER, subject_id="", key_id="", name=name)


# ---- a process's own ----------------------------------------------------------------------------------------

_manager: EventManager | None = None


def manager() -> EventManager:
    """This process's, made at the first call; nothing is subscribed by that."""
    global _manager
    if _manager is None:
        _manager = EventManager(configured())
        atexit.register(reset)
    return _manager


def reset() -> None:
    """Stop it and forget it."""
    global _manager
    current, _manager = _manager, None
    if current is not None:
        current.stop()


def _forget_in_child() -> None:
    """Threads and sockets are the parent's."""
    global _manager
    _manager = None


def listen() -> EventManager | None:
    """Take in what comes, from now on; None when no transport is named. For the listener."""
    if not settings.EVENT_TRANSPORTS:
        return None
    found = manager()
    AgencyActions(found).connect()
    found.start()
    return found


def session_ended(ended: SessionEnded) -> None:
    """News: tell the result. What does not reach every bus is told again by upkeep (`engine.telling`)."""
    if not settings.EVENT_TRANSPORTS:
        return
    found = manager()
    facts = {"session_id": ended.session_id, "path": "", "status": ended.status, "partial": ended.partial, "reason": ended.reason}
    found.handler.handle_event(Event(type=GROUP_STATE_UPDATE, data=facts, org_id=ended.org_id))
    if not telling.is_heard(ended.org_id):
        return
    if AgencyActions(found).publish_result(ended.org_id, ended.session_id, reason=ended.reason, run=ended.run):
        telling.told(ended.key, ended.run)


os.register_at_fork(after_in_child=_forget_in_child)
