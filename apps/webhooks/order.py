"""Which endpoint is due when, and that only one process serves it: the order, in Redis, rebuildable.

| Redis key | value | owner |
|---|---|---|
| `webhooks:due` | ZSET endpoint → when it has something to send, ms | lanes; filled again by `Deriver.rebuild` |
| `webhooks:lane:<endpoint>` | who serves it | expires |
| `webhooks:bell` | LIST of at most one: there is news | expires |
| `webhooks:alive` | a drain is looking | expires |
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from apps.core import background, clock, redis

DRAIN = "webhooks.drain"
LANE_SECONDS = 45
"""Longer than one wave of requests may take."""
ALIVE_SECONDS = 3
BELL_SECONDS = 10
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"


class Order:
    def due(self, *, now: datetime, limit: int = 200) -> list[str]:
        return redis.client().zrangebyscore(redis.key("webhooks", "due"), 0, clock.to_ms(now), start=0, num=limit)

    def put(self, endpoint_ids: Iterable[str], at: datetime, *, sooner_only: bool = True) -> None:
        """With `sooner_only` an endpoint that is due before stays so."""
        places = dict.fromkeys(endpoint_ids, clock.to_ms(at))
        if places:
            redis.client().zadd(redis.key("webhooks", "due"), places, lt=sooner_only)

    def drop(self, endpoint_id: str) -> None:
        redis.client().zrem(redis.key("webhooks", "due"), endpoint_id)

    def take(self, endpoint_id: str, token: str) -> bool:
        return bool(redis.client().set(_lane(endpoint_id), token, nx=True, ex=LANE_SECONDS))

    def keep(self, endpoint_id: str, token: str) -> bool:
        return bool(redis.client().eval(_RENEW, 1, _lane(endpoint_id), token, LANE_SECONDS * 1000))

    def leave(self, endpoint_id: str, token: str) -> None:
        redis.client().eval(_RELEASE, 1, _lane(endpoint_id), token)

    def ring(self) -> None:
        """There is news: wake the drain that looks, or start one. Raises nothing: it is a hint."""
        try:
            pipe = redis.client().pipeline(transaction=False)
            pipe.lpush(redis.key("webhooks", "bell"), "1")
            pipe.ltrim(redis.key("webhooks", "bell"), 0, 0)
            pipe.expire(redis.key("webhooks", "bell"), BELL_SECONDS)
            pipe.get(redis.key("webhooks", "alive"))
            alive = pipe.execute()[-1]
        except redis.RedisDown as error:
            redis.log_away(error)
            return
        if not alive:
            background.send(DRAIN)

    def listen(self, seconds: float) -> None:
        """Until it rings, or so long."""
        redis.client().set(redis.key("webhooks", "alive"), "1", ex=ALIVE_SECONDS)
        redis.client().blpop([redis.key("webhooks", "bell")], timeout=seconds)


def _lane(endpoint_id: str) -> str:
    return redis.key("webhooks", "lane", endpoint_id)
