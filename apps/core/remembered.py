"""What a process keeps of the database, an org at a time, for who looks many times a second.

The database is the truth. A process believes what it read while the org's token in Redis is the same; whoever changes the
rows changes the token after the commit, so the next look anywhere reads anew. Losing a token costs a query.

<p>:<name>:<org>   STRING   token; expires a day after the last change
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from apps.core import ids, redis

BELIEVED_SECONDS = 10.0
"""A token that could not be changed (Redis was away) misleads no longer than this."""
TOKEN_SECONDS = 86_400
ORGS_KEPT = 1000

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    def __init__(self, name: str) -> None:
        self._name = name
        self._known: dict[str, tuple[str, float, Value]] = {}
        self._lock = threading.Lock()

    def of(self, org_id: str, read: Callable[[], Value]) -> Value:
        """What `read` answered under the token of now. Not to be changed, but for what its maker adds to it."""
        name = redis.key(self._name, org_id)
        token = redis.client().get(name)
        known = self._known.get(org_id)
        if known and known[0] == token and time.monotonic() - known[1] < BELIEVED_SECONDS:
            return known[2]
        if token is None:
            mine = ids.time_ordered()
            # Another reader may be faster: then both read under the other's token.
            token = mine if redis.client().set(name, mine, nx=True, ex=TOKEN_SECONDS) else redis.client().get(name) or ""
        at = time.monotonic()
        # The token was read before the rows: a change that commits after our reading changes the token after it.
        found = read()
        with self._lock:
            if len(self._known) >= ORGS_KEPT:
                self._known.clear()
            self._known[org_id] = (token, at, found)
        return found

    def changed(self, org_id: str) -> None:
        """Call after the commit of a change to what is remembered of the org."""
        with self._lock:
            self._known.pop(org_id, None)
        try:
            redis.client().set(redis.key(self._name, org_id), ids.time_ordered(), ex=TOKEN_SECONDS)
        except redis.RedisDown as error:
            redis.log_away(error)
