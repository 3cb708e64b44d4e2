"""The candidate pool: who may do the tasks of one lane, and how much room each has right now.

Eligible are the candidates that are present; when none has ever announced itself, all of them (an agent written for
another system never announces itself; its deliveries wait for it in the stream). A candidate that was here and is away
keeps tasks waiting rather than failing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from apps.agents.presence import AgentState, Presence, PresenceBoard
from apps.orgs.config_store import OrgConfig
from apps.roles.directory import CandidateSubject, RoleDirectory

MANY = 2**53
"""Room of an agent whose load is not bounded."""


@dataclass(kw_only=True, slots=True)
class Candidate:
    subject: CandidateSubject
    presence: Presence
    room: float
    """Open deliveries it may have at once: slots and prefetch."""
    load: int
    """Open deliveries now, those chosen within this batch included."""

    @property
    def subject_id(self) -> str:
        return self.subject.subject_id

    @property
    def free(self) -> int:
        return max(0, int(min(self.room, MANY)) - self.load)

    @property
    def fullness(self) -> float:
        """0 idle … 1 full."""
        return self.load / self.room if self.room else 1.0


class CandidatePool:
    """The candidates of one lane. `eligible` may get work now if they have room; `barred` says why the others may not."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.members: dict[str, Candidate] = {candidate.subject_id: candidate for candidate in candidates}
        present = [c for c in self.members.values() if c.presence is Presence.PRESENT]
        self.eligible: list[Candidate] = present or [c for c in self.members.values() if c.presence is Presence.UNKNOWN]
        chosen = {candidate.subject_id for candidate in self.eligible}
        self.barred: dict[str, str] = {
            c.subject_id: "away" if c.presence is Presence.AWAY else "never announced itself while others are present"
            for c in self.members.values()
            if c.subject_id not in chosen
        }

    def __len__(self) -> int:
        return len(self.members)

    @property
    def free(self) -> int:
        return sum(candidate.free for candidate in self.eligible)

    def take(self, candidate: Candidate) -> None:
        candidate.load += 1


class AgentCandidatePoolResolver:
    """Resolves pools for one org and one batch: a lane's roles are looked up once, states in one round trip each."""

    def __init__(
        self, org_id: str, config: OrgConfig, *, board: PresenceBoard | None = None, directory: RoleDirectory | None = None
    ) -> None:
        self.org_id = org_id
        self.config = config
        self._board = board or PresenceBoard()
        self._directory = directory or RoleDirectory(org_id)

    def pools(self, lanes: Sequence[str], *, now: datetime) -> dict[str, CandidatePool]:
        """Pool per lane. An agent in several lanes is one Candidate, so its room is shared between them."""
        subjects = {lane: self._directory.candidates(self.config.candidate_role_type, lane) for lane in lanes}
        everyone = {subject.subject_id: subject for found in subjects.values() for subject in found}
        states = self._board.states(self.org_id, list(everyone), now=now)
        candidates = {name: self._candidate(subject, states) for name, subject in everyone.items()}
        return {lane: CandidatePool(candidates[subject.subject_id] for subject in found) for lane, found in subjects.items()}

    def _candidate(self, subject: CandidateSubject, states: Mapping[str, AgentState]) -> Candidate:
        state = states[subject.subject_id]
        if self.config.agent_delivery == "plain":
            room = math.inf  # such agents report nothing, so nothing would ever make room again
        else:
            room = (state.slots or self.config.default_agent_slots) * (1 + self.config.agent_prefetch)
        return Candidate(subject=subject, presence=state.presence, room=room, load=state.load)
