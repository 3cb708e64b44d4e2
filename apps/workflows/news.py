"""News of sessions: who changes one says so on Redis, who watches one is woken and looks at the store.

News are hints. A lost one costs a watcher at most the pause between two looks (`following.BEAT_SECONDS`), a doubled one a
look too many; nothing is decided from them. One thread per process listens for all who watch there, and only while somebody
does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from apps.core import redis

POLL_SECONDS = 1.0
AWAY_SECONDS = 1.0


def _channel() -> str:
    return redis.key("workflows", "news")


def announce(session_keys: Iterable[str]) -> None:
    """Something about these sessions has changed and is in the store. Never raises because Redis is away."""
    keys = list(session_keys)
    if not keys:
        return
    try:
        pipe = redis.client().pipeline(transaction=False)
        for key in keys:
            pipe.publish(_channel(), key)
        pipe.execute()
    except redis.RedisDown as error:
        redis.log_away(error)


class _Ear:
    """Listens for a whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, set[threading.Event]] = {}
        self._thread: threading.Thread | None = None

    def add(self, key: str) -> threading.Event:
        woken = threading.Event()
        with self._lock:
            self._waiting.setdefault(key, set()).add(woken)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="session news")
                self._thread.start()
        return woken

    def drop(self, key: str, woken: threading.Event) -> None:
        with self._lock:
            self._waiting[key].discard(woken)
            if not self._waiting[key]:
                del self._waiting[key]

    def _run(self) -> None:
        while True:
            try:
                with redis.client().pubsub(ignore_subscribe_messages=True) as heard:
                    heard.subscribe(_channel())
                    self._wake(None)  # whatever was missed while nobody listened is in the store: look
                    while not self._nobody():
                        message = heard.get_message(timeout=POLL_SECONDS)
                        if message is not None:
                            self._wake(str(message["data"]))
                return
            except (*redis.RedisDown, ValueError) as error:  # ValueError: the pool was closed while we were reading
                if self._nobody():
                    return
                redis.log_away(error)
                threading.Event().wait(AWAY_SECONDS)

    def _wake(self, key: str | None) -> None:
        with self._lock:
            for one, waiting in self._waiting.items():
                if key is None or one == key:
                    for woken in waiting:
                        woken.set()

    def _nobody(self) -> bool:
        with self._lock:
            if self._waiting:
                return False
            self._thread = None  # under the lock: who comes next starts another
            return True


_ear = _Ear()


@contextmanager
def listening(session_key: str) -> Iterator[threading.Event]:
    """An event that is set whenever there is news of the session; whoever waits for it clears it."""
    woken = _ear.add(session_key)
    try:
        yield woken
    finally:
        _ear.drop(session_key, woken)
