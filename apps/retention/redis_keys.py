"""What an org has in Redis, in one table. Keys are the org's own when their second part names it; of keys that orgs share, the
members that name it are its."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from apps.core import redis

OWN = frozenset({
    "breakers", "claimed", "config", "contested", "counts", "figures", "key", "keyed", "lanes", "later", "load", "open", "parked",
    "parking", "presence", "probe", "queue", "rate", "roles", "roster", "served", "turn",
})  # fmt: skip
"""`<p>:<name>:<org>` and `<p>:<name>:<org>:…`. Another name may be followed by anything, also by what looks like an org's id."""
THIRD = "breaker"
"""`<p>:breaker:<what is called>:<org>:…`"""
RELEASE = ("wf", "release")
"""`<p>:wf:release:<org>/<session>`"""


def _ticket(org_id: str) -> str:
    return f'\\["{org_id}",*'


def _hold(org_id: str) -> str:
    return f"{org_id}/*"


SHARED: dict[str, Callable[[str], str]] = {
    "active": str, "aside": str, "held": str, "orgs": str, "slopes": str, "turns": str,
    "claims": _ticket, "contests": _ticket, "delayed": _ticket,
    "holders": _hold, "leases": _hold,
}  # fmt: skip
"""Hashes and sorted sets, and which of their members are an org's, as a pattern. Ids of orgs hold no character that means more in
one than itself."""
CHUNK = 1000


def forget(org_id: str) -> int:
    """Delete all of it; how many keys and members that were. Twice is harmless. Raises one of RedisDown."""
    gone = sum(redis.client().unlink(*some) for some in _chunks(_own(org_id)))
    for name, pattern in SHARED.items():
        gone += _leave(redis.key(name), pattern(org_id))
    return gone


def forget_endpoints(endpoint_ids: Iterable[str]) -> None:
    """What the lanes of webhook endpoints have there."""
    for some in _chunks(endpoint_ids):
        redis.client().zrem(redis.key("webhooks", "due"), *some)
        names = [name for one in some for name in (redis.key("webhooks", "lane", one), redis.key("breaker", f"webhook:{one}"))]
        redis.client().unlink(*names)


def _own(org_id: str) -> Iterator[str]:
    prefix = redis.key("")
    for name in redis.client().scan_iter(match=f"{prefix}*:{org_id}*", count=CHUNK):
        parts = name.removeprefix(prefix).split(":")
        if (
            (parts[0] in OWN and parts[1] == org_id)
            or (parts[0] == THIRD and len(parts) > 2 and parts[2] == org_id)
            or (tuple(parts[:2]) == RELEASE and len(parts) > 2 and parts[2].startswith(f"{org_id}/"))
        ):
            yield name


def _leave(name: str, pattern: str) -> int:
    client = redis.client()
    kind = client.type(name)
    if kind == "hash":
        return sum(client.hdel(name, *some) for some in _chunks(each for each, _ in client.hscan_iter(name, match=pattern, count=CHUNK)))
    if kind == "zset":
        return sum(client.zrem(name, *some) for some in _chunks(each for each, _ in client.zscan_iter(name, match=pattern, count=CHUNK)))
    return 0


def _chunks(found: Iterable[Any]) -> Iterator[list[Any]]:
    """Read to the end first: who deletes while he scans may miss some."""
    all_ = list(found)
    yield from (all_[start : start + CHUNK] for start in range(0, len(all_), CHUNK))
