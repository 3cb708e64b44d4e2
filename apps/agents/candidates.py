"""The candidate pool: who may do the tasks of one lane, and how much room each has right now.

Eligible are the candidates that are present and take work; when none has ever announced itself, all of them (an agent
written for another system never announces itself; its deliveries wait for it in the stream). A candidate that is away,
paused, draining or closed off for a while keeps tasks waiting rather than failing; one that is revoked, or cannot do the
task, does not.
"""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from apps.agents import cards, roster
from apps.agents.breaker import Breaker, BreakerBoard, State
from apps.agents.cards import Card
from apps.agents.facts import TaskFacts
from apps.agents.presence import AgentState, Intake, Presence, PresenceBoard
from apps.agents.roster import NEW, Standing
from apps.orgs.config_store import OrgConfig
from apps.roles.directory import CandidateSubject, Directory, Found, directory

PERSON = "human"
NOT_A_CANDIDATE = "is not in the candidate pool"
MANY = 2**53
"""Room of an agent whose load is not bounded."""
NOTHING: frozenset[str] = frozenset()
SHOWN = 20
"""Candidates listed one by one in a decision; larger pools are counted."""


@dataclass(slots=True)
class Candidate:
    subject: CandidateSubject
    presence: Presence
    room: float
    """Open deliveries it may have at once: slots and prefetch."""
    load: int
    """Open deliveries now, those chosen within this batch included."""
    capabilities: frozenset[str] = frozenset()
    card: Card | None = None
    bar: str = ""
    """Why it gets nothing new at present; "" when it may."""
    gone: bool = False
    """Revoked: waiting for it does not help."""

    @property
    def subject_id(self) -> str:
        return self.subject.subject_id

    @property
    def is_person(self) -> bool:
        return self.subject.subject_type == PERSON

    @property
    def free(self) -> int:
        return max(0, int(min(self.room, MANY)) - self.load)

    @property
    def fullness(self) -> float:
        """0 idle … 1 full."""
        return self.load / self.room if self.room else 1.0

    def unfit(self, facts: TaskFacts) -> str:
        """Why it can never do this task; "" when it can."""
        if facts.capabilities and (missing := [word for word in facts.capabilities if word not in self.capabilities]):
            return f"lacks {', '.join(missing)}"
        if self.card is None:
            return ""
        if facts.job_kind and self.card.job_kinds and facts.job_kind not in self.card.job_kinds:
            return f"does not take jobs of kind {facts.job_kind}"
        if 0 < self.card.max_payload_bytes < facts.entry_bytes:
            return f"takes at most {self.card.max_payload_bytes} bytes, and the task has {facts.entry_bytes}"
        return ""


class CandidatePool:
    """The candidates of one lane. `eligible` may get work now if they have room; `barred` says why the others may not.

    What keeps an agent from one task and not from others (a capability it lacks) is in `unfit`. Choosing the least loaded
    costs the logarithm of the pool: a heap whose entries are brought up to date when they come up.
    """

    def __init__(self, candidates: Iterable[Candidate], *, lane: str = "", roles: Found | None = None, deadline_s: float = 0) -> None:
        self.lane = lane
        self._known_from = {"lane": lane, "roles": roles, "deadline_s": deadline_s}
        self.unknown = roles.unknown if roles else ""
        """Why nobody can say who the candidates are; then there are none, and waiting helps."""
        self.waits = bool(self.unknown) and not deadline_s
        """Its tasks keep their place in the queue until somebody can say. With a deadline to be assigned they are looked at."""
        self.source = roles.source if roles else {}
        """Where the candidates are known from."""
        self.members: dict[str, Candidate] = {candidate.subject_id: candidate for candidate in candidates}
        present: list[Candidate] = []
        unknown: list[Candidate] = []
        people: list[Candidate] = []
        for candidate in self.members.values():
            if candidate.bar:
                continue
            if candidate.subject.subject_type == PERSON:
                people.append(candidate)
            elif candidate.presence is Presence.PRESENT:
                present.append(candidate)
            elif candidate.presence is Presence.UNKNOWN:
                unknown.append(candidate)
        # A person who is there says nothing of agents that announce nothing.
        self.eligible: list[Candidate] = (present or unknown) + people

    @cached_property
    def barred(self) -> dict[str, str]:
        """agent -> why it gets nothing at present, whatever the task; who is not eligible."""
        if len(self.eligible) == len(self.members):
            return {}
        chosen = {candidate.subject_id for candidate in self.eligible}
        return {name: _bar(candidate) for name, candidate in self.members.items() if name not in chosen}

    def __len__(self) -> int:
        return len(self.members)

    @property
    def lasts(self) -> bool:
        """Waiting may help: not everybody is revoked."""
        return any(not candidate.gone for candidate in self.members.values())

    def unfit(self, facts: TaskFacts) -> dict[str, str]:
        """agent -> why it can never do this task."""
        return {name: why for name, candidate in self.members.items() if (why := candidate.unfit(facts))}

    @property
    def free(self) -> int:
        return self.free_up_to(sys.maxsize)

    def free_up_to(self, most: int) -> int:
        """How many tasks the eligible have room for, counted no further than `most`."""
        free = 0
        for candidate in self.eligible:
            free += candidate.free
            if free >= most:
                return most
        return free

    def narrowed(self, only: Sequence[str]) -> CandidatePool:
        """The pool of a sub-task that names whom it is for: the same candidates and the same room. Whoever is named and is no
        candidate is barred, with that as the reason."""
        named = CandidatePool((self.members[name] for name in only if name in self.members), **self._known_from)
        named.barred.update({name: NOT_A_CANDIDATE for name in only if name not in self.members})
        return named

    def take(self, candidate: Candidate) -> None:
        candidate.load += 1

    @cached_property
    def _heap(self) -> list[tuple[float, int, str]]:
        # `_weight` of each, in a third of the time.
        heap = [(c.load / c.room if c.room else 1.0, c.load, c.subject.subject_id) for c in self.eligible]
        heapq.heapify(heap)
        return heap

    def lightest(self, accepts: Callable[[Candidate], bool] | None = None) -> Candidate | None:
        """The eligible candidate with the smallest share of its room in use that has room and is accepted; ties by load,
        then by subject id."""
        heap, aside, found = self._heap, [], None
        while heap:
            candidate = self.members[heap[0][2]]
            if heap[0] != (now := _weight(candidate)):  # it got work since: to its new place
                heapq.heapreplace(heap, now)
            elif candidate.fullness >= 1.0:
                break  # nobody after it has room
            elif candidate.free and (accepts is None or accepts(candidate)):
                found = candidate
                break
            else:
                aside.append(heapq.heappop(heap))
        for entry in aside:
            heapq.heappush(heap, entry)
        return found

    @cached_property
    def _first(self) -> list[Candidate]:
        """The least loaded as the batch began."""
        return [self.members[name] for _, _, name in heapq.nsmallest(SHOWN, self._heap)]

    @cached_property
    def _barred_shown(self) -> dict[str, str]:
        return dict(list(self.barred.items())[:SHOWN])

    @cached_property
    def _barred_by_reason(self) -> dict[str, dict[str, Any]]:
        reasons: dict[str, dict[str, Any]] = {}
        for agent, why in self.barred.items():
            entry = reasons.setdefault(why, {"count": 0, "agents": []})
            entry["count"] += 1
            if entry["count"] <= SHOWN:
                entry["agents"].append(agent)
        return reasons

    def shown(self) -> dict[str, Any]:
        """The pool as a decision records it: counts, the first of the eligible, and everybody excluded by reason."""
        return {
            "size": len(self.members),
            "eligible_count": len(self.eligible),
            "eligible": {c.subject_id: {"load": c.load, "room": _finite(c.room), "presence": c.presence.value} for c in self._first},
            "barred": self._barred_shown,
            "barred_by_reason": self._barred_by_reason,
        }


def _weight(candidate: Candidate) -> tuple[float, int, str]:
    return candidate.fullness, candidate.load, candidate.subject_id


def _finite(room: float) -> float | None:
    return None if math.isinf(room) else room


def own_bar(state: AgentState) -> str:
    """Why the agent says that it takes nothing; "" when it does not say so."""
    return "" if state.intake == Intake.OPEN else f"{state.intake} by itself"


def _close_off(candidate: Candidate, breaker: Breaker, board: BreakerBoard, now: datetime) -> None:
    """What a breaker that is not closed does: nothing gets through, or one task at a time."""
    if candidate.bar or breaker.state(now) is State.CLOSED:
        return
    if why := breaker.bar(now):
        candidate.bar = why
    elif board.may_probe(candidate.subject_id):
        candidate.room = min(candidate.room, 1)
    else:
        candidate.bar = "circuit breaker half-open: another dispatcher is trying it"


def _bar(candidate: Candidate) -> str:
    if candidate.bar:
        return candidate.bar
    return "away" if candidate.presence is Presence.AWAY else "never announced itself while others are present"


class AgentCandidatePoolResolver:
    """Resolves pools for one org and one batch: a lane's roles are looked up once, states in one round trip each."""

    def __init__(
        self, org_id: str, config: OrgConfig, *, board: PresenceBoard | None = None, directory_: Directory | None = None
    ) -> None:
        self.org_id = org_id
        self.config = config
        self._board = board or PresenceBoard()
        self._directory = directory_ or directory(org_id, config)

    def pools(self, lanes: Sequence[str], *, now: datetime) -> dict[str, CandidatePool]:
        """Pool per lane. An agent in several lanes is one Candidate, so its room is shared between them."""
        roles = {lane: self._directory.find(self.config.candidate_role_type, lane, now=now) for lane in lanes}
        everyone = {subject.subject_id: subject for found in roles.values() for subject in found.subjects}
        states = self._board.states(self.org_id, list(everyone), now=now)
        standings = roster.of(self.org_id)
        board = BreakerBoard(self.org_id)
        breakers = board.all(now=now)
        candidates = self._candidates(everyone, states, standings)
        for name in breakers.keys() & candidates.keys():
            _close_off(candidates[name], breakers[name], board, now)
        return {
            lane: CandidatePool(
                (candidates[subject.subject_id] for subject in found.subjects),
                lane=lane,
                roles=found,
                deadline_s=self.config.assignment_deadline_s,
            )
            for lane, found in roles.items()
        }

    def _candidates(
        self, everyone: Mapping[str, CandidateSubject], states: Mapping[str, AgentState], standings: Mapping[str, Standing]
    ) -> dict[str, Candidate]:
        """One loop, and nothing in it that is the same for all: a pool may have thousands."""
        config = self.config
        plain, default_slots, copies = config.agent_delivery == "plain", config.default_agent_slots, 1 + config.agent_prefetch
        candidates = {}
        for name, subject in everyone.items():
            state, standing = states[name], standings.get(name, NEW)
            presence = state.presence
            if subject.subject_type == PERSON:
                # People announce nothing: one who is active and not paused is there, and looks into his inbox.
                room, presence = config.human_slots, Presence.PRESENT
            elif plain:
                room = math.inf  # such agents report nothing, so nothing would ever make room again
            else:
                room = (state.slots or default_slots) * copies
                if presence is Presence.UNKNOWN:
                    presence = standing.presence(presence)
            can = _can(subject.capabilities, standing.card) if standing.card or subject.capabilities else NOTHING
            bar = standing.bar or ("" if state.intake == Intake.OPEN else own_bar(state))
            candidates[name] = Candidate(subject, presence, room, state.load, can, standing.card, bar, standing.revoked)
        return candidates


def _can(granted: tuple[str, ...], card: Card | None) -> frozenset[str]:
    return frozenset(cards.capabilities(granted, card))
