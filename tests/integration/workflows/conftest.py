"""The engine by hand, in one process: what would travel is kept in a list and delivered when the test says so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from apps.core import background, clock
from apps.core.auth import Principal
from apps.workflows.engine import away, recovery, work
from apps.workflows.models import Chunk, Item, Session, Step
from apps.workflows.service import Sessions
from jobplatform.queues import Work


class Hand:
    """Delivers hints. `rng` doubles, drops and shuffles them."""

    def __init__(self) -> None:
        self.hints: list[tuple[str, dict[str, Any]]] = []
        self.chords: dict[str, tuple[set[str], str, dict[str, Any]]] = {}
        self.part_of: dict[str, str] = {}
        self.rng: random.Random | None = None
        self.delivered = 0

    # What `background` is asked

    def send(self, name: str, **arguments: Any) -> bool:
        return self.send_many(name, [arguments])

    def send_many(self, name: str, each: Any) -> bool:
        self.hints += [(name, dict(one)) for one in each]
        return True

    def send_chord(self, group_id: str, name: str, each: Any, *, then: str, arguments: Any) -> bool:
        parts = {one["chunk_id"] for one in each}
        assert self.rng or group_id not in self.chords, "two chords of one name"
        self.chords[group_id] = (parts, then, dict(arguments))
        self.part_of |= dict.fromkeys(parts, group_id)
        return self.send_many(name, each)

    def part_done(self, saved: Any) -> bool:
        self._returned(saved["id"])
        return True

    def forget_chords(self, group_ids: Any) -> None:
        for group_id in group_ids:
            self.chords.pop(group_id, None)

    def _returned(self, chunk: str) -> None:
        group = self.part_of.get(chunk)
        if group in self.chords:
            parts, then, arguments = self.chords[group]
            parts.discard(chunk)
            if not parts:
                self.send(then, **arguments)
                del self.chords[group]

    # Delivering

    def deliver(self, *, most: int = 100_000) -> None:
        """Until nothing travels any more."""
        while self.hints and self.delivered < most:
            place = self.rng.randrange(len(self.hints)) if self.rng else 0
            name, arguments = self.hints.pop(place)
            if self.rng and self.rng.random() < 0.2:
                continue  # lost
            if self.rng and self.rng.random() < 0.2:
                self.hints.append((name, arguments))  # doubled
            self.delivered += 1
            self._deliver(name, arguments)

    def _deliver(self, name: str, arguments: dict[str, Any]) -> None:
        if name == Work.RUN_CHUNK:
            chunk = arguments["chunk_id"]
            saved = {"id": chunk} if chunk in self.part_of else None
            if not work.run_chunk(chunk, saved=saved):
                self._returned(chunk)
        elif name == Work.ADVANCE:
            work.advance(arguments["session_key"], arguments["paths"])
        elif name == Work.FINISH:
            work.advance(arguments["session_key"], [arguments["path"]])
        elif name == Work.ITEMS_ENDED:
            work.items_ended(arguments["task_keys"])

    def tend(self, seconds: float = 30.0) -> None:
        """Upkeep, as of so much later."""
        recovery.tend(now=clock.now() + timedelta(seconds=seconds))

    def settle(self, *, rounds: int = 60, seconds: float = 30.0) -> None:
        """Deliver and tend until every session has ended and been told."""
        for number in range(1, rounds + 1):
            self.deliver()
            if not Session.objects.filter(published=False).exists() and not Session.objects.filter(compensation="running").exists():
                return
            self.tend(seconds * number)
        raise AssertionError(f"it does not end: {list(Step.objects.values_list('path', 'status', 'reason'))}")


@pytest.fixture
def hand(transactional_db, redis, monkeypatch, settings) -> Iterator[Hand]:
    from tests.factories import make_org
    from tests.integration.workflows import processors  # noqa: F401

    found = Hand()
    for name in ("send", "send_many", "send_chord", "part_done", "forget_chords"):
        monkeypatch.setattr(background, name, getattr(found, name))
    from apps.dsl.scripts import register

    make_org("acme", approval_dsl_id="approval/yes")
    source = 'def approve(task):\n    return {"accepted": True, "reason": "fine"}'
    register(org_id="acme", script_id="approval/yes", hook="approval", source=source, by="tests", now=clock.now(), activate=True)
    yield found


@pytest.fixture
def sam() -> Principal:
    return Principal(org_id="acme", role="submitter", subject_id="sam", key_id="k1", name="sam's key")


class Flow:
    """One org's sessions, driven by hand."""

    def __init__(self, hand: Hand, principal: Principal) -> None:
        self.hand, self.principal, self.sessions = hand, principal, Sessions()

    def start(self, document: dict[str, Any]) -> str:
        answer, _ = self.sessions.create(document, self.principal, now=clock.now())
        return answer["session_id"]

    def run(self, document: dict[str, Any]) -> str:
        session_id = self.start(document)
        self.hand.settle()
        return session_id

    def get(self, session_id: str) -> dict[str, Any]:
        return self.sessions.get(self.principal, session_id)

    def status(self, session_id: str, path: str = "") -> str:
        if path:
            return self.sessions.step(self.principal, session_id, path)["status"]
        return self.get(session_id)["status"]

    def results(self, session_id: str, *, partial: bool = True) -> dict[str, Any]:
        return self.sessions.results(self.principal, session_id, partial=partial)["results"]


@pytest.fixture
def flow(hand: Hand, sam: Principal) -> Flow:
    return Flow(hand, sam)


__all__ = ["Chunk", "Flow", "Hand", "Item", "away"]
