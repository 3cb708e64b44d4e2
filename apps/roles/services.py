"""Role services of others: who holds which role is asked over HTTP instead of read from our tables.

Org config `role_group_url` and `subject_roles_url` (either alone, or both) name the services; they speak what our own
`/role-group` and `/subject-roles` speak:

    POST role_group_url     {"role_type": "SCOUTING", "job_space_id": X}          → roles
    POST subject_roles_url  {"role_ids": {"$in": […]}, "job_space_id": X}         → who holds them
    answers: {"success": true, "data": […]} or {"success": false, "error": "…"}

An answer is believed whole or not at all: every document must be what was asked for. One that was believed is kept for
`role_service_cache_s`; while the service fails, for `role_service_stale_s` since it was given, which the decision then
says. After that nobody knows who may do the work (`RolesUnknown`): tasks wait, and nobody is picked.

| Redis key | value | owner |
|---|---|---|
| `roles:<org>:<digest of what was asked, and of whom>` | JSON: at_ms, subjects; failed_ms and problem of the last try | expires |
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from apps.core import clock, outbound, redis
from apps.core.errors import Invalid, PlatformError, Unavailable
from apps.core.strict_json import Limits, parse_json
from apps.messaging import subjects
from apps.orgs.config_store import OrgConfig
from apps.roles import queries
from apps.roles.models import EVERY_SPACE, Subject
from apps.roles.rules import id_problem

log = logging.getLogger(__name__)

ANSWER = Limits(body=1024 * 1024)
MAX_ROLES = 1000
PAUSE_MS = 1000
"""After a failure nobody asks again for this long: every lane of every batch would wait for the same timeout."""
CHUNK = 500


class RolesUnknown(Unavailable):
    code, sentence = "roles_unknown", "The role service does not say who may do it."


class WrongAnswer(PlatformError):
    """The service answered something else than what was asked."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    subject_id: str
    subject_type: str
    role_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Known:
    """Who holds a role, and how we know."""

    holders: tuple[Holder, ...]
    age_s: float
    """Since the service said so."""
    problem: str = ""
    """Why it is not fresher."""

    def source(self) -> dict[str, Any]:
        """For the record of a decision."""
        found: dict[str, Any] = {"from": "service", "age_s": round(self.age_s, 3)}
        return found | {"stale": True, "problem": self.problem} if self.problem else found


class RoleServices:
    """The services of one org, for one batch: all questions of a batch together get `role_service_timeout_ms`, so that slow
    services hold a dispatcher no longer than that. What they answered in time is kept, and the next batch gets further."""

    def __init__(self, org_id: str, config: OrgConfig, *, send: Callable[..., outbound.Reply] = outbound.send) -> None:
        self.org_id, self.config, self._send = org_id, config, send
        self._left_s = config.role_service_timeout_ms / 1000

    def holders(self, role_type: str, job_space_id: str, *, now: datetime) -> Known:
        """Raises RolesUnknown when neither the service nor an answer that is young enough says."""
        name = self._name(role_type, job_space_id)
        kept, now_ms = _kept(name), clock.to_ms(now)
        age_s = (now_ms - kept["at_ms"]) / 1000 if kept.get("subjects") is not None else None
        if age_s is not None and age_s < self.config.role_service_cache_s:
            return Known(holders=_holders(kept), age_s=max(0.0, age_s))
        if kept.get("problem") and now_ms - kept["failed_ms"] < PAUSE_MS:
            problem = kept["problem"]
        else:
            try:
                found = self._ask(role_type, job_space_id, now)
            except RolesUnknown as unasked:
                problem = unasked.sentence
            except (outbound.OutboundFailed, WrongAnswer) as failed:
                problem = failed.sentence
                log.warning("roles.service_failed", extra={"org": self.org_id, "space": job_space_id, "problem": problem})
                self._keep(name, kept | {"failed_ms": now_ms, "problem": problem})
            else:
                self._keep(name, {"at_ms": now_ms, "subjects": [[h.subject_id, h.subject_type, h.role_ids] for h in found]})
                return Known(holders=found, age_s=0.0)
        if age_s is None or age_s >= self.config.role_service_stale_s:
            raise RolesUnknown(f"The role service does not say who may do it: {problem}")
        log.warning("roles.stale_answer_used", extra={"org": self.org_id, "space": job_space_id, "age_s": age_s, "problem": problem})
        return Known(holders=_holders(kept), age_s=age_s, problem=problem)

    # ---- asking ----

    def _ask(self, role_type: str, job_space_id: str, now: datetime) -> tuple[Holder, ...]:
        role_ids = self._roles(role_type, job_space_id, now)
        if not role_ids:
            return ()
        if len(role_ids) > MAX_ROLES:
            raise WrongAnswer(f"There are more than {MAX_ROLES} roles of that type.")
        url = self.config.subject_roles_url
        if url:
            filter = {"role_ids": {"$in": list(role_ids)}, "job_space_id": job_space_id}
            documents = self._post(url, filter, now)
        else:
            held_in = {"$in": [EVERY_SPACE, job_space_id]}
            documents = queries.subject_roles(self.org_id, {"role_ids": {"$in": list(role_ids)}, "job_space_id": held_in})
        return self._read_holders(documents, frozenset(role_ids), job_space_id if url else None)

    def _roles(self, role_type: str, job_space_id: str, now: datetime) -> tuple[str, ...]:
        if not self.config.role_group_url:
            spaces = {"$in": [EVERY_SPACE, job_space_id]}
            return tuple(role["role_id"] for role in queries.roles(self.org_id, {"role_type": role_type, "job_space_id": spaces}))
        found = []
        for document in self._post(self.config.role_group_url, {"role_type": role_type, "job_space_id": job_space_id}, now):
            _same(document, "role_type", role_type)
            _same(document, "job_space_id", job_space_id)
            found.append(_id(document, "role_id"))
        return tuple(dict.fromkeys(found))

    def _read_holders(self, documents: Iterable[Any], asked: frozenset[str], job_space_id: str | None) -> tuple[Holder, ...]:
        found: dict[str, tuple[str, set[str]]] = {}
        for document in documents:
            subject_id, role_ids = _id(document, "subject_id"), document.get("role_ids")
            if job_space_id is not None:
                _same(document, "job_space_id", job_space_id)
            if not isinstance(role_ids, list) or not all(isinstance(each, str) for each in role_ids):
                raise WrongAnswer("A subject's role_ids are not a list of role ids.")
            held = asked.intersection(role_ids)
            if not held:
                raise WrongAnswer("It names a subject that holds none of the roles asked for.")
            kind = document.get("subject_type")
            if id_problem(kind, most=32):
                raise WrongAnswer("A subject's subject_type is not a word.")
            try:
                subjects.agent_token(self.org_id, subject_id)
            except ValueError:
                raise WrongAnswer("A subject_id is too long.") from None
            found.setdefault(subject_id, (kind, set()))[1].update(held)
        return tuple(
            Holder(subject_id=name, subject_type=kind, role_ids=tuple(sorted(held))) for name, (kind, held) in sorted(found.items())
        )

    def _post(self, url: str, filter: dict[str, Any], now: datetime) -> list[dict[str, Any]]:
        """The documents of one answer. Raises OutboundFailed or WrongAnswer; both count against the service.
        RolesUnknown: it was not asked."""
        if self._left_s <= 0:
            raise RolesUnknown("its time is up for this batch, with the questions before this one")
        breaker = outbound.CircuitBreaker(f"roles:{self.org_id}:{hashlib.sha256(url.encode()).hexdigest()[:16]}")
        if not breaker.allows(now):
            raise RolesUnknown("it failed too often and is left alone for a while")
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.config.role_service_token:
            headers["Authorization"] = f"Bearer {self.config.role_service_token}"
        began = time.monotonic()
        try:
            reply = self._send(
                "POST", url, body=orjson.dumps(filter), headers=headers, timeout_s=self._left_s,
                max_bytes=ANSWER.body, allow=self.config.outbound_allow,
            )  # fmt: skip
            documents = _documents(reply)
        except (outbound.OutboundFailed, WrongAnswer):
            breaker.failed(now)
            raise
        finally:
            self._left_s -= time.monotonic() - began
        breaker.succeeded()
        return documents

    # ---- keeping ----

    def _name(self, role_type: str, job_space_id: str) -> str:
        """The same question to the same service under the same token: a change of the config asks anew."""
        config = self.config
        whom = [config.role_group_url, config.subject_roles_url, config.role_service_token]
        digest = hashlib.sha256(orjson.dumps([whom, role_type, job_space_id])).hexdigest()[:32]
        return redis.key("roles", self.org_id, digest)

    def _keep(self, name: str, value: dict[str, Any]) -> None:
        seconds = int(max(self.config.role_service_cache_s, self.config.role_service_stale_s, 60)) + 60
        try:
            redis.client().set(name, orjson.dumps(value).decode(), ex=seconds)
        except redis.RedisDown as error:
            redis.log_away(error)


def _kept(name: str) -> dict[str, Any]:
    try:
        text = redis.client().get(name)
    except redis.RedisDown as error:
        redis.log_away(error)
        return {}
    return orjson.loads(text) if text else {}


def _holders(kept: dict[str, Any]) -> tuple[Holder, ...]:
    return tuple(Holder(subject_id=name, subject_type=kind, role_ids=tuple(roles)) for name, kind, roles in kept["subjects"])


def known_here(org_id: str, subject_ids: list[str]) -> dict[str, tuple[bool, tuple[str, ...]]]:
    """subject -> (is active, capabilities) of those that our own tables know; the service need not know that we stopped one."""
    found: dict[str, tuple[bool, tuple[str, ...]]] = {}
    for start in range(0, len(subject_ids), CHUNK):
        rows = Subject.objects.filter(org_id=org_id, subject_id__in=subject_ids[start : start + CHUNK])
        found |= {name: (active, tuple(can)) for name, active, can in rows.values_list("subject_id", "is_active", "capabilities")}
    return found


# ---- reading answers --------------------------------------------------------------------------------------


def _documents(reply: outbound.Reply) -> list[dict[str, Any]]:
    if not 200 <= reply.status < 300:
        raise WrongAnswer(f"It answered {reply.status}.")
    try:
        body = parse_json(reply.body, ANSWER)
    except (Invalid, PlatformError) as error:
        raise WrongAnswer(f"Its answer cannot be read: {error.sentence}") from None
    if not isinstance(body, dict) or not isinstance(body.get("success"), bool):
        raise WrongAnswer("Its answer says neither success nor failure.")
    if body["success"] is False:
        said = body.get("error")
        raise WrongAnswer(f"It says: {said[:200]}" if isinstance(said, str) and said.isprintable() else "It says that it failed.")
    data = body.get("data")
    if not isinstance(data, list) or not all(isinstance(document, dict) for document in data):
        raise WrongAnswer("Its data is not a list of documents.")
    return data


def _id(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if id_problem(value):
        raise WrongAnswer(f"A document has no usable {name}.")
    return value


def _same(document: dict[str, Any], name: str, asked: str) -> None:
    if document.get(name) != asked:
        raise WrongAnswer(f"It names something of another {name} than asked for.")
