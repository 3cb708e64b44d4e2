"""One thread beside a worker's work, for all of it: leases are renewed, news is told, work that cannot be interrupted is ended.

A thread for each chunk would cost as much as a short one.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from django.db import connections

from apps.workflows import news

log = logging.getLogger(__name__)

BEAT_SECONDS = 0.05
GRACE_SECONDS = 15.0
"""Beyond its time an item that cannot be interrupted gets so much more; then its process is ended, and started again."""


class Watch:
    """Of one chunk: its lease is renewed every so often until `stop`."""

    def __init__(self, renew: Callable[[], bool], every_seconds: float) -> None:
        self._renew, self._every = renew, every_seconds
        self._due = time.monotonic() + every_seconds
        self._dies: float | None = None
        self.lost = False
        """The lease is no longer ours."""
        _pulse.watches.add(self)
        _pulse.beat()

    def item_begins(self, timeout_s: float | None) -> None:
        self._dies = time.monotonic() + timeout_s + GRACE_SECONDS if timeout_s else None

    def stop(self) -> None:
        _pulse.watches.discard(self)

    def tick(self, now: float) -> None:
        if self._dies is not None and now >= self._dies:
            log.error("item.cannot_be_interrupted")
            os.kill(os.getpid(), signal.SIGKILL)
        if now >= self._due and not self.lost:
            self._due = now + self._every
            self.lost = not self._renew()
            connections.close_all()


class _Pulse:
    def __init__(self) -> None:
        self.watches: set[Watch] = set()
        self.told: set[str] = set()
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()

    def beat(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="workflows-pulse", daemon=True)
            self._thread.start()
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            time.sleep(BEAT_SECONDS)
            if not self.watches and not self.told:
                self._wanted.clear()
                if not self.watches and not self.told:
                    continue
                self._wanted.set()
            try:
                self._once()
            except Exception:  # a thread that others rely on goes on, whatever a store that is away says
                log.warning("pulse.missed", exc_info=True)

    def _once(self) -> None:
        keys, now = list(self.told), time.monotonic()
        self.told.difference_update(keys)
        news.announce(keys)
        for watch in list(self.watches):
            watch.tick(now)


_pulse = _Pulse()


def tell(session_key: str) -> None:
    """Announce news of a session, within a moment; much news of one is told once."""
    _pulse.told.add(session_key)
    _pulse.beat()


def reset() -> None:
    """After a fork: the thread stayed behind."""
    global _pulse
    _pulse = _Pulse()


os.register_at_fork(after_in_child=reset)
