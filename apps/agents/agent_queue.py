"""Delivery to agents: a batch of dispatches becomes messages on the agents' own subjects, with one pipelined publish."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apps.core import ids, observe
from apps.messaging import envelope, subjects
from apps.messaging.connection import Delivery, Wire, WireDown, wire

log = logging.getLogger(__name__)

UP_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Dispatch:
    org_id: str
    task_id: str
    agent: str
    attempt: int
    entry: dict[str, Any]
    """TaskEntry or SubTaskEntry, wire names."""
    lease_expires_at: datetime
    reviews: Sequence[dict[str, Any]] = ()
    """The verifier's notes on earlier attempts."""
    trace: str = ""
    """W3C traceparent for the agent to go on with."""
    to_person: bool = False
    """He finds it in his inbox: nothing goes over the wire."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    sequence: int = 0
    """JetStream's; 0 when it was not stored there (plain delivery, or an error)."""
    error: str = ""

    @property
    def sent(self) -> bool:
        return not self.error


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    org_id: str
    agent: str
    task_id: str
    attempt: int
    reason: str


class AgentQueueClient:
    def __init__(self, connection: Wire | None = None) -> None:
        self._connection = connection

    @property
    def _wire(self) -> Wire:
        return self._connection or wire()

    def ready(self) -> bool:
        """The wire is up, or comes up within a moment (a fresh process is still connecting)."""
        return self._wire.healthy() or self._wire.wait_up(UP_SECONDS)

    def send(self, dispatches: Sequence[Dispatch], *, delivery: str) -> list[Sent]:
        """Publish each; what happened to each, in order. `delivery` is the org's `agent_delivery`.

        Nothing is published for people.
        `plain` publishes on the subject that equals the subject id, for agents of other systems: at most once.
        """
        if any(d.to_person for d in dispatches):
            on_wire = iter(self.send([d for d in dispatches if not d.to_person], delivery=delivery))
            return [Sent() if d.to_person else next(on_wire) for d in dispatches]
        if not dispatches:
            return []
        if delivery == "plain":
            self._wire.publish([(subjects.plain(d.agent), _payload(d)) for d in dispatches])
            observe.NATS_PUBLISHES.inc("plain", by=len(dispatches))
            return [Sent() for _ in dispatches]
        tokens = [subjects.agent_token(d.org_id, d.agent) for d in dispatches]
        try:
            self._wire.ensure_agents(set(tokens))
        except WireDown as error:
            observe.NATS_PUBLISHES.inc("failed", by=len(dispatches))
            return [Sent(error=str(error)) for _ in dispatches]
        outcomes = self._wire.deliver(
            [
                Delivery(
                    subject=subjects.deliveries(token),
                    payload=_payload(d),
                    msg_id=ids.assignment_id(ids.task_key(d.org_id, d.task_id), d.attempt),
                    trace=d.trace,
                )
                for token, d in zip(tokens, dispatches, strict=True)
            ]
        )
        stored = sum(isinstance(outcome, int) for outcome in outcomes)
        observe.NATS_PUBLISHES.inc("stored", by=stored)
        observe.NATS_PUBLISHES.inc("failed", by=len(outcomes) - stored)
        return [Sent(sequence=outcome) if isinstance(outcome, int) else Sent(error=str(outcome)) for outcome in outcomes]

    def withdraw(self, sequences: Sequence[int]) -> None:
        """Take deliveries back that no agent has fetched yet (best effort: an agent that has one is told to stop)."""
        if wanted := [sequence for sequence in sequences if sequence]:
            try:
                self._wire.delete_delivery(wanted)
            except WireDown as error:
                log.warning("delivery.not_withdrawn", extra={"error": str(error)})

    def tell_to_stop(self, org_id: str, agent: str, *, task_id: str, attempt: int, reason: str) -> None:
        self.tell_many_to_stop([Stop(org_id=org_id, agent=agent, task_id=task_id, attempt=attempt, reason=reason)])

    def tell_many_to_stop(self, stops: Sequence[Stop]) -> None:
        if stops:
            self._wire.publish(
                [
                    (
                        subjects.control(subjects.agent_token(stop.org_id, stop.agent)),
                        envelope.stop(task_id=stop.task_id, attempt=stop.attempt, reason=stop.reason),
                    )
                    for stop in stops
                ]
            )


def _payload(dispatch: Dispatch) -> bytes:
    return envelope.delivery(
        org_id=dispatch.org_id,
        entry=dispatch.entry,
        attempt=dispatch.attempt,
        lease_expires_at=dispatch.lease_expires_at,
        reviews=dispatch.reviews,
        trace=dispatch.trace,
        reply_subject=subjects.report(dispatch.org_id, dispatch.task_id, subjects.agent_token(dispatch.org_id, dispatch.agent)),
    )
