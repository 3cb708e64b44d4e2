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
from itertools import islice
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
DECLINED = "declined"
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

    def hindered(self, facts: TaskFacts) -> str:
        """Why it can never do this task, whoever else is there; "" when nothing hinders it."""
        if facts.only and self.subject_id not in facts.only:
            return "is not among the assigned subjects"
        if facts.excluded and facts.excluded.get(self.subject_id) == DECLINED:
            return "declined the task"
        if self.gone:
            return "is revoked"
        return self.unfit(facts)

    def shown(self) -> dict[str, Any]:
        """For the record."""
        return {"load": self.load, "room": _finite(self.room), "presence": self.presence.value}

    def unfit(self, facts: TaskFacts) -> str:
        """What this task wants and it cannot do; "" when it can."""
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
        self._seen: dict[tuple[Any, ...], _Seen] = {}

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

    def kept_out(self, facts: TaskFacts) -> Mapping[str, str]:
        """agent -> why it does not get this task, of those that are eligible for others: what it cannot do, what it declined, or
        what it failed while there are others."""
        return self._as_seen_by(facts).kept_out

    def _as_seen_by(self, facts: TaskFacts) -> _Seen:
        """Worked out once for all tasks of a batch that want the same: a pool may have thousands."""
        if not (facts.only or facts.excluded or self._asks_for_something(facts)):
            return self._plainly
        size = facts.entry_bytes if self._bounded else 0
        wants = (facts.only, tuple(facts.excluded.items()), facts.capabilities, facts.job_kind, size)
        if (known := self._seen.get(wants)) is not None:
            return known
        out = {c.subject_id: why for c in self.eligible if (why := c.hindered(facts))}
        again = [c.subject_id for c in self.eligible if c.subject_id in facts.excluded and c.subject_id not in out]
        if len(out) + len(again) < len(self.eligible):
            out |= {name: f"{facts.excluded[name]} it before, and there are others" for name in again}
        if not out:
            found = self._plainly
        else:
            first = heapq.nsmallest(SHOWN, (c for c in self.eligible if c.subject_id not in out), key=_weight)
            barred = self.barred
            if facts.only:  # first what keeps those away for whom it is
                barred = {name: barred[name] for name in sorted(barred, key=lambda name: name not in facts.only)}
            found = _Seen(kept_out=out, first=first, barred=_some({**barred, **out}), by_reason=_by_reason({**out, **barred}))
        self._seen[wants] = found
        return found

    def _asks_for_something(self, facts: TaskFacts) -> bool:
        return bool(facts.capabilities) or (self._carded and (bool(facts.job_kind) or self._bounded))

    @cached_property
    def _carded(self) -> bool:
        return any(c.card is not None for c in self.eligible)

    @cached_property
    def _bounded(self) -> bool:
        """Somebody takes no entry beyond a size."""
        return any(c.card is not None and c.card.max_payload_bytes > 0 for c in self.eligible)

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
    def _plainly(self) -> _Seen:
        """For a task that wants nothing in particular; the least loaded as the batch began."""
        first = [self.members[name] for _, _, name in heapq.nsmallest(SHOWN, self._heap)]
        return _Seen(kept_out={}, first=first, barred=_some(self.barred), by_reason=_by_reason(self.barred))

    def shown(self, facts: TaskFacts, winner: Candidate | None = None) -> dict[str, Any]:
        """The pool as the decision about a task records it: counts, the first of those that might have got it, and everybody who
        was kept out, by reason. Whom an org or a person
        names may win although a strategy would have passed it by: then it was not kept out."""
        seen = self._as_seen_by(facts)
        barred, by_reason = seen.barred, seen.by_reason
        if winner is not None and (winner.subject_id in self.barred or winner.subject_id in seen.kept_out):
            others = {name: why for name, why in {**seen.kept_out, **self.barred}.items() if name != winner.subject_id}
            barred, by_reason = _some(others), _by_reason(others)
        return {
            "size": len(self.members),
            "eligible_count": len(self.eligible) - len(seen.kept_out),
            "eligible": {c.subject_id: c.shown() for c in seen.first},
            "barred": barred,
            "barred_by_reason": by_reason,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """A pool as one kind of task sees it."""

    kept_out: Mapping[str, str]
    first: list[Candidate]
    """The least loaded of those that may get it."""
    barred: dict[str, str]
    by_reason: dict[str, dict[str, Any]]


def _some(reasons: Mapping[str, str]) -> dict[str, str]:
    return dict(islice(reasons.items(), SHOWN))


def _by_reason(reasons: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for agent, why in reasons.items():
        entry = found.setdefault(why, {"count": 0, "agents": []})
        entry["count"] += 1
        if entry["count"] <= SHOWN:
            entry["agents"].append(agent)
    return found


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
