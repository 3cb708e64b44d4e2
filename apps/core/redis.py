"""The door to Redis: one pooled client per process, and scripts that reload themselves.

Redis is the order: queues, leases, counters, caches. Losing all of it loses no task. Every key starts with
`REDIS_PREFIX` and carries its org, and has a TTL or an owner that deletes it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import redis
from django.conf import settings

RedisDown = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
)
"""What a Redis that is away raises. Handled where work can go on without it."""

Refused = redis.exceptions.ResponseError
"""The server is there and says no."""

LockLost = redis.exceptions.LockError
"""A lock was not got in time, or lapsed before it was given back."""

log = logging.getLogger(__name__)


def log_away(error: Exception) -> None:
    """Entry points say it in one line and come back later; nothing is lost by waiting."""
    log.warning("redis.away", extra={"error": str(error)})


@lru_cache(maxsize=1)
def client() -> redis.Redis:
    # A blocking pool: a burst of threads waits for a connection instead of opening a thousand.
    pool = redis.BlockingConnectionPool.from_url(
        settings.REDIS_URL,
        max_connections=64,
        timeout=5,
        decode_responses=True,
        socket_timeout=5,
        socket_connect_timeout=2,
        socket_keepalive=True,
        health_check_interval=30,
    )
    return redis.Redis(connection_pool=pool)


@lru_cache(maxsize=1)
def raw() -> redis.Redis:
    """The same server in bytes, for libraries that bring keys and waits of their own (RQ, Dramatiq)."""
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=2, socket_timeout=5, socket_keepalive=True, health_check_interval=30
    )


def reset() -> None:
    """Forget the clients (after a fork, or when a test moves to another server)."""
    client.cache_clear()
    raw.cache_clear()
    _voice.forget()


def key(*parts: str) -> str:
    return ":".join((settings.REDIS_PREFIX, *parts))


class _Voice:
    """A connection that only publishes and never hears an answer: a round trip less, for news that may be lost."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None

    def publish(self, messages: Sequence[tuple[str, str]]) -> None:
        with self._lock:
            connection = self._connection or self._connect()
            try:
                # No health check: it would wait for the answer to a PING.
                connection.send_packed_command(connection.pack_commands([("PUBLISH", *each) for each in messages]), check_health=False)
            except RedisDown:
                self._connection = None
                raise

    def _connect(self) -> Any:
        pool = client().connection_pool
        connection = pool.connection_class(**{**pool.connection_kwargs, "health_check_interval": 0})
        connection.connect()
        connection.send_command("CLIENT", "REPLY", "OFF")
        self._connection = connection
        return connection


_voice = _Voice()
os.register_at_fork(after_in_child=_voice.forget)


def publish(messages: Sequence[tuple[str, str]]) -> None:
    """News as (channel, text), sent without waiting for the server. Raises one of RedisDown."""
    _voice.publish(messages)


PLACES = Path(__file__).with_name("places.lua")
"""What several scripts share about concurrency keys and lanes."""


def script(*paths: Path) -> Any:
    """A Lua script, one file after the other, as a callable `(keys=, args=, client=)`; runs by hash, reloaded when the
    server forgot it."""
    return client().register_script("\n".join(path.read_text() for path in paths))
