"""Agents and enrolments for clients: what `Client` and `AsyncClient` know about them, and `enrol`, which an agent calls once.

enrolled = enrol("http://127.0.0.1:8000", "je_…")
agent = Agent(nats_url=enrolled.nats_url, api_key=enrolled.api_key)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from jobplatform_sdk import client_calls as calls
from jobplatform_sdk.client_calls import Call
from jobplatform_sdk.client_errors import NotFound
from jobplatform_sdk.client_values import Json, Reader

AGENTS, ENROLMENTS = "/api/v1/agents", "/api/v1/enrolments"
PAGE_SIZE = 100
AGENT_VERBS = ("pause", "resume", "drain", "undrain", "revoke", "reset-breaker")


@dataclass(frozen=True, kw_only=True)
class AgentInfo:
    """An agent as the platform sees it; `data` is all of it."""

    subject_id: str
    state: str
    """active, paused, draining, drained, revoked or inactive"""
    reason: str = ""
    barred: str = ""
    """Why it gets nothing new; "" when it may."""
    presence: str = "unknown"
    last_seen: datetime | None = None
    away_seconds: float | None = None
    slots: int = 0
    load: int = 0
    capabilities: tuple[str, ...] = ()
    card: Json = field(default_factory=dict)
    breaker: str = "closed"
    reputation: float = 0.0
    """The chance that its next attempt succeeds; `interval` holds 90 % of what is known of it."""
    interval: tuple[float, float] = (0.0, 1.0)
    data: Json = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class EnrolmentInfo:
    """`token` is there once: when it was made."""

    enrolment_id: str
    subject_id: str
    state: str
    """open, redeemed, withdrawn or expired"""
    expires: datetime | None = None
    token: str = field(default="", repr=False)
    data: Json = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """What an agent needs to work. The key is not shown again."""

    org_id: str
    subject_id: str
    api_key: str = field(repr=False)
    nats_url: str
    key_id: str = ""
    expires: datetime | None = None
    data: Json = field(default_factory=dict, repr=False, compare=False)


def read_agent(data: Any) -> AgentInfo:
    r = Reader(data, "agent")
    breaker, figures = Reader(r.parcel("breaker"), "agent.breaker"), Reader(r.parcel("reputation"), "agent.reputation")
    return AgentInfo(
        subject_id=r.needed("subject_id"), state=r.needed("state"), reason=r.text("reason"), barred=r.text("barred"),
        presence=r.text("presence"), last_seen=r.time("last_seen_at"),
        away_seconds=None if data.get("away_seconds") is None else r.number("away_seconds"),
        slots=r.whole("slots"), load=r.whole("load"), capabilities=tuple(map(str, r.list("capabilities"))), card=r.parcel("card"),
        breaker=breaker.text("state"), reputation=figures.number("mean"),
        interval=(figures.number("low"), figures.number("high")), data=data,
    )  # fmt: skip


def read_enrolment(data: Any) -> EnrolmentInfo:
    r = Reader(data, "enrolment")
    return EnrolmentInfo(
        enrolment_id=r.needed("enrolment_id"), subject_id=r.needed("subject_id"), state=r.needed("state"), expires=r.time("expires_at"),
        token=r.text("token"), data={name: value for name, value in data.items() if name != "token"},
    )  # fmt: skip


def _read_enrolled(data: Any) -> Enrolled:
    r = Reader(data, "answer to an enrolment")
    return Enrolled(
        org_id=r.needed("org_id"), subject_id=r.needed("subject_id"), api_key=r.needed("api_key"), nats_url=r.text("nats_url"),
        key_id=r.text("key_id"), expires=r.time("expires_at"), data={name: value for name, value in data.items() if name != "api_key"},
    )  # fmt: skip


# ---- calls ------------------------------------------------------------------------------------------------


def path_of(subject_id: str, *rest: str) -> str:
    if not isinstance(subject_id, str) or not subject_id.strip("."):
        raise NotFound("There is no agent with that id.", code="not_found")
    return "/".join((AGENTS, quote(subject_id, safe=""), *rest))


def agent(subject_id: str) -> Call[AgentInfo]:
    return Call(method="GET", path=path_of(subject_id), read=lambda answer: read_agent(answer.json()))


def steer(verb: str, subject_id: str, reason: str) -> Call[AgentInfo]:
    """Every verb may be said twice."""
    body = {"reason": reason} if reason else {}
    return calls._post(path_of(subject_id, verb), body, lambda answer: read_agent(answer.json()))


def page(path: str, cursor: str) -> Call[Json]:
    params = (("limit", str(PAGE_SIZE)), *((("cursor", cursor),) if cursor else ()))
    return Call(method="GET", path=path, params=params, read=lambda answer: answer.json())


def invite(subject_id: str, roles: Sequence[str], **wish: Any) -> Call[EnrolmentInfo]:
    """Not repeatable: a second one is a second token."""
    body = {"subject_id": subject_id, "role_ids": list(roles), **{name: value for name, value in wish.items() if value is not None}}
    return calls._post(ENROLMENTS, body, lambda answer: read_enrolment(answer.json()), repeatable=False)


def withdraw(enrolment_id: str) -> Call[EnrolmentInfo]:
    path = f"{ENROLMENTS}/{quote(enrolment_id, safe='')}"
    return Call(method="DELETE", path=path, read=lambda answer: read_enrolment(answer.json()))


def redeem(card: Mapping[str, Any] | None) -> Call[Enrolled]:
    body = {} if card is None else {"card": dict(card)}
    return calls._post(f"{ENROLMENTS}/redeem", body, lambda answer: _read_enrolled(answer.json()), repeatable=False)


# ---- methods ----------------------------------------------------------------------------------------------


class AgentMethods:
    """Of `Client`."""

    _ask: Any

    def agents(self) -> Iterator[AgentInfo]:
        """All agents of the org, by id."""
        yield from map(read_agent, self._items(AGENTS))

    def agent(self, subject_id: str) -> AgentInfo:
        return self._ask(agent(subject_id))

    def pause_agent(self, subject_id: str, reason: str = "") -> AgentInfo:
        """Nothing new for it; what it has it finishes."""
        return self._ask(steer("pause", subject_id, reason))

    def resume_agent(self, subject_id: str, reason: str = "") -> AgentInfo:
        return self._ask(steer("resume", subject_id, reason))

    def drain_agent(self, subject_id: str, reason: str = "") -> AgentInfo:
        """As pause, on its way out; its state is `drained` once it has nothing left."""
        return self._ask(steer("drain", subject_id, reason))

    def undrain_agent(self, subject_id: str, reason: str = "") -> AgentInfo:
        return self._ask(steer("undrain", subject_id, reason))

    def reset_breaker(self, subject_id: str, reason: str = "") -> AgentInfo:
        """Close its circuit breaker now."""
        return self._ask(steer("reset-breaker", subject_id, reason))

    def revoke_agent(self, subject_id: str, reason: str = "") -> AgentInfo:
        """Out at once: its keys, its connections; its tasks go to others."""
        return self._ask(steer("revoke", subject_id, reason))

    def invite_agent(
        self,
        subject_id: str,
        *,
        roles: Sequence[str] = (),
        job_space_id: str | None = None,
        name: str | None = None,
        expires_in_s: int | None = None,
        key_lifetime_s: int | None = None,
    ) -> EnrolmentInfo:
        """An enrolment; its `token` works once, for a day unless said otherwise. Hand it to the agent: `enrol(url, token)`."""
        wish = {"job_space_id": job_space_id, "name": name, "expires_in_s": expires_in_s, "key_lifetime_s": key_lifetime_s}
        return self._ask(invite(subject_id, roles, **wish))

    def enrolments(self) -> Iterator[EnrolmentInfo]:
        """Newest first."""
        yield from map(read_enrolment, self._items(ENROLMENTS))

    def withdraw_enrolment(self, enrolment_id: str) -> EnrolmentInfo:
        return self._ask(withdraw(enrolment_id))

    def _items(self, path: str) -> Iterator[Any]:
        cursor: str | None = ""
        while cursor is not None:
            found = Reader(self._ask(page(path, cursor)), "page")
            yield from found.list("items")
            cursor = found.text("next_cursor") or None


class AsyncAgentMethods:
    """Of `AsyncClient`: what is said of each in `AgentMethods` holds here too."""

    _ask: Any

    async def agents(self) -> AsyncIterator[AgentInfo]:
        async for item in self._items(AGENTS):
            yield read_agent(item)

    async def agent(self, subject_id: str) -> AgentInfo:
        return await self._ask(agent(subject_id))

    async def pause_agent(self, subject_id: str, reason: str = "") -> AgentInfo:
        return await self._ask(steer("pause", subject_id, reason))

    async def resume_agent(self, subject_id: str, reason: str = "") -> AgentInfo:
        return await self._ask(steer("resume", subject_id, reason))

    async def drain_agent(self, subject_id: str, reason: str = "") -> AgentInfo:
        return await self._ask(steer("drain", subject_id, reason))

    async def undrain_agent(self, subject_id: str, reason: str = "") -> AgentInfo:
        return await self._ask(steer("undrain", subject_id, reason))

    async def reset_breaker(self, subject_id: str, reason: str = "") -> AgentInfo:
        return await self._ask(steer("reset-breaker", subject_id, reason))

    async def revoke_agent(self, subject_id: str, reason: str = "") -> AgentInfo:
        return await self._ask(steer("revoke", subject_id, reason))

    async def invite_agent(
        self,
        subject_id: str,
        *,
        roles: Sequence[str] = (),
        job_space_id: str | None = None,
        name: str | None = None,
        expires_in_s: int | None = None,
        key_lifetime_s: int | None = None,
    ) -> EnrolmentInfo:
        wish = {"job_space_id": job_space_id, "name": name, "expires_in_s": expires_in_s, "key_lifetime_s": key_lifetime_s}
        return await self._ask(invite(subject_id, roles, **wish))

    async def enrolments(self) -> AsyncIterator[EnrolmentInfo]:
        async for item in self._items(ENROLMENTS):
            yield read_enrolment(item)

    async def withdraw_enrolment(self, enrolment_id: str) -> EnrolmentInfo:
        return await self._ask(withdraw(enrolment_id))

    async def _items(self, path: str) -> AsyncIterator[Any]:
        cursor: str | None = ""
        while cursor is not None:
            found = Reader(await self._ask(page(path, cursor)), "page")
            for item in found.list("items"):
                yield item
            cursor = found.text("next_cursor") or None
