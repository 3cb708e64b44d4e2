"""The roster: how each agent of an org stands with its operators, for who chooses agents many times a second.

The database is the truth (`AgentRecord`). A process keeps what it read while the org's token in Redis is the same; whoever
changes a record changes the token after the commit, so the next choice anywhere reads anew. Losing the token costs a query.

<p>:roster:<org>   STRING   token; expires a day after the last change
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from apps.agents.cards import Card, stored_card
from apps.agents.models import AgentRecord
from apps.core import ids, redis

BELIEVED_SECONDS = 10.0
"""A token that could not be changed (Redis was away) misleads no longer than this."""
TOKEN_SECONDS = 86_400
ORGS_KEPT = 1000

Mode = AgentRecord.Mode


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One agent's. `bar`: why it gets nothing new; "" when it may."""

    mode: str = Mode.ACTIVE.value
    bar: str = ""
    revoked: bool = False
    card: Card | None = None


NEW = Standing()
"""Of an agent without a record."""

_known: dict[str, tuple[str, float, dict[str, Standing]]] = {}


def of(org_id: str) -> dict[str, Standing]:
    """By agent; who is not in it stands as NEW. Not to be changed."""
    name = redis.key("roster", org_id)
    token = redis.client().get(name)
    known = _known.get(org_id)
    if known and known[0] == token and time.monotonic() - known[1] < BELIEVED_SECONDS:
        return known[2]
    if token is None:
        mine = ids.time_ordered()
        # Another reader may be faster: then both read under the other's token.
        token = mine if redis.client().set(name, mine, nx=True, ex=TOKEN_SECONDS) else redis.client().get(name) or ""
    at = time.monotonic()
    # The token was read before the rows: a change that commits after our reading changes the token after it.
    found = {row.subject_id: standing(row) for row in AgentRecord.objects.filter(org_id=org_id)}
    if len(_known) >= ORGS_KEPT:
        _known.clear()
    _known[org_id] = (token, at, found)
    return found


def changed(org_id: str) -> None:
    """Call after the commit of a change to a record of the org."""
    _known.pop(org_id, None)
    try:
        redis.client().set(redis.key("roster", org_id), ids.time_ordered(), ex=TOKEN_SECONDS)
    except redis.RedisDown as error:
        redis.log_away(error)


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
    return Standing(mode=record.mode, bar=bar, revoked=record.revoked_at is not None, card=stored_card(record.card))
