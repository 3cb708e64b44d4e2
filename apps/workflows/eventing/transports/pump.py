"""Between a wire that must not be held up and work that may take its time: a bounded queue and one thread."""

from __future__ import annotations

import logging
import queue
import threading
from contextlib import suppress

from django.db import close_old_connections
from django.db.utils import DatabaseError, InterfaceError

from apps.core import observe, redis
from apps.core.errors import Unavailable
from apps.workflows.eventing.transports import Deliver, Message

log = logging.getLogger(__name__)

WAITING_MAX = 10_000
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""seconds between tries of one message"""


class Pump:
    """Delivers in order. A message that cannot be worked on now is tried again until it can, or the pump is closed."""

    def __init__(self, name: str, deliver: Deliver) -> None:
        self._deliver = deliver
        self._waiting: queue.Queue[Message | None] = queue.Queue(maxsize=WAITING_MAX)
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"events-{name}", daemon=True)
        self._thread.start()

    def offer(self, message: Message) -> None:
        """Never blocks: what does not fit is lost, and said."""
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            observe.EVENTS.inc(message.transport, "lost")
            log.warning("event.dropped", extra={"transport": message.transport, "topic": message.topic})

    def close(self) -> None:
        self.stopping.set()
        with suppress(queue.Full):  # then the thread looks at `stopping` after its message
            self._waiting.put_nowait(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _run(self) -> None:
        try:
            while not self.stopping.is_set():
                message = self._waiting.get()
                if message is not None:
                    deliver_until_done(self._deliver, message, self.stopping)
        finally:
            close_old_connections()


def deliver_until_done(deliver: Deliver, message: Message, stopping: threading.Event) -> bool:
    """False: stopped before it was done."""
    pause = FIRST_PAUSE
    while not stopping.is_set():
        if deliver_once(deliver, message):
            return True
        stopping.wait(pause)
        pause = min(LONGEST_PAUSE, 2 * pause)
    return False


def deliver_once(deliver: Deliver, message: Message) -> bool:
    """False: something it needs is away."""
    try:
        deliver(message)
    except (Unavailable, DatabaseError, InterfaceError, *redis.RedisDown) as error:
        observe.EVENTS.inc(message.transport, "retried")
        log.warning("event.waits", extra={"transport": message.transport, "topic": message.topic, "error": str(error)[:200]})
        close_old_connections()
        return False
    return True
