"""Whoever writes to SQLite takes his turn.

One writer at a time may have a SQLite file. Its own way to wait is to look again after ever longer naps, up to a tenth of a
second, and whoever happens to look first gets it: beside a busy writer somebody is always unlucky for a third of a second.
Here those that wait queue up on a file lock beside the database, which wakes them in turn; only the first of them looks
whether SQLite is free, at least every millisecond. Nobody overtakes him, not even the writer who has just finished.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.utils import OperationalError

LOOK_SECONDS = (0.0001, 0.001)
"""Pauses between looks: the first, and the longest. Most transactions are shorter than a millisecond."""
SUFFIX = "-turn"


class DatabaseWrapper(base.DatabaseWrapper):
    _turnstile: int | None = None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        self._leave()
        if not self.is_in_memory_db():
            self._turnstile = os.open(f"{conn_params['database']}{SUFFIX}", os.O_CREAT | os.O_RDWR, 0o600)
        return connection

    def _start_transaction_under_autocommit(self) -> None:
        if self._turnstile is None:
            return super()._start_transaction_under_autocommit()
        patience = self.settings_dict["OPTIONS"].get("timeout", 5.0)
        until = time.monotonic() + patience
        with self._first_in_line(patience):
            pause, longest = LOOK_SECONDS
            while True:
                try:
                    return super()._start_transaction_under_autocommit()
                except OperationalError as error:
                    # Whoever stood in line for longer than his patience has had one look, and those behind him have theirs.
                    if "locked" not in str(error) or time.monotonic() >= until:
                        raise
                time.sleep(pause)
                pause = min(2 * pause, longest)

    @contextmanager
    def _first_in_line(self, patience: float) -> Iterator[None]:
        """The kernel lets go of the lock of a process that dies."""
        fcntl.flock(self._turnstile, fcntl.LOCK_EX)
        try:
            self.connection.execute("PRAGMA busy_timeout = 0")
            yield
        finally:
            fcntl.flock(self._turnstile, fcntl.LOCK_UN)
            self.connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")

    def _close(self) -> None:
        super()._close()
        self._leave()

    def _leave(self) -> None:
        if self._turnstile is not None:
            os.close(self._turnstile)
            self._turnstile = None
