"""What evidence says of agents, read once a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from apps.agents.market.ranking import Standing, standing_of
from apps.agents.reputation import figures


def standings(org_id: str, *, now: datetime) -> Callable[[Sequence[str]], Mapping[str, Standing]]:
    """A reader that asks for each agent once."""
    known: dict[str, Standing] = {}

    def of(agents: Sequence[str]) -> Mapping[str, Standing]:
        if unknown := [agent for agent in agents if agent not in known]:
            known.update({agent: standing_of(found) for agent, found in figures(org_id, unknown, now=now).items()})
        return known

    return of
