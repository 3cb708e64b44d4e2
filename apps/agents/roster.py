"""The roster: how each agent of an org stands with its operators, for who chooses agents many times a second.

Read from `AgentRecord` and kept by each process (`core/remembered.py`): whoever changes a record says so after the commit.
"""

from __future__ import annotations

from dataclasses import dataclass

from apps.agents.cards import Card, stored_card
from apps.agents.models import AgentRecord
from apps.agents.presence import Presence
from apps.core.remembered import Remembered

Mode = AgentRecord.Mode


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One agent's. `bar`: why it gets nothing new; "" when it may."""

    mode: str = Mode.ACTIVE.value
    bar: str = ""
    revoked: bool = False
    announces: bool = False
    """It has been heard of: when nobody remembers it any more, it is away, and no stranger who is taken at its word."""
    card: Card | None = None


    def presence(self, seen: Presence) -> Presence:
        """What Redis says of it, which forgets who was silent for an hour and whatever else when it is lost."""
        return Presence.AWAY if self.announces and seen is Presence.UNKNOWN else seen


NEW = Standing()
"""Of an agent without a record."""

_roster: Remembered[dict[str, Standing]] = Remembered("roster")


def of(org_id: str) -> dict[str, Standing]:
    """By agent; who is not in it stands as NEW. Not to be changed."""
    return _roster.of(org_id, lambda: {row.subject_id: standing(row) for row in AgentRecord.objects.filter(org_id=org_id)})


def changed(org_id: str) -> None:
    """Call after the commit of a change to a record of the org."""
    _roster.changed(org_id)


def standing(record: AgentRecord) -> Standing:
    """Pure."""
    bar = ""
    if record.revoked_at is not None:
        bar = "revoked"
    elif record.mode == Mode.PAUSED:
        bar = "paused"
    elif record.mode == Mode.DRAINING:
        bar = "drained" if record.drained_at else "draining"
    if bar and (why := record.revoke_reason if record.revoked_at else record.mode_reason):
        bar = f"{bar}: {why}"
    return Standing(
        mode=record.mode, bar=bar, revoked=record.revoked_at is not None, announces=record.last_seen_at is not None,
        card=stored_card(record.card),
    )  # fmt: skip
