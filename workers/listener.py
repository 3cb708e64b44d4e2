"""The listener: hears agents. Any number of copies may run.

Reports come from JetStream and are acknowledged only after the database has them; a copy that dies in between leaves them
to the next, and applying them twice is harmless. Heartbeats are plain messages: one that is lost is followed by another.
Sessions that are asked for by event come in here too, when the operator names a transport (docs/events.md).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from datetime import datetime

from django.conf import settings
from django.db import close_old_connections
from django.db.utils import DatabaseError, InterfaceError

from apps.agents.heartbeats import Ear, read_heartbeat
from apps.core import clock, redis
from apps.core.readiness import mark_ready, say_stopped
from apps.messaging import subjects
from apps.messaging.connection import wire
from apps.messaging.consumer import Message, PullConsumer
from apps.messaging.envelope import AgentReport, BadReport, parse_report
from apps.tasks.executor import wake
from apps.tasks.results import ReportDesk
from apps.tasks.sweeper import Listening

log = logging.getLogger(__name__)

BATCH = 500
FETCH_SECONDS = 1.0
PAUSE_SECONDS = 1.0
HEARTBEATS_KEPT = 10_000


class Listener:
    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._unapplied: list[Message] = []
        self._heartbeats: queue.Queue[tuple[str, bytes]] = queue.Queue(maxsize=HEARTBEATS_KEPT)
        self._ear = Ear()

    def stop(self) -> None:
        self.stopping.set()

    def run(self) -> None:
        """Until stopped. An outage of the database, Redis or NATS is waited out; nothing is acknowledged meanwhile."""
        while not wire().wait_up(PAUSE_SECONDS) and not self.stopping.is_set():
            log.warning("nats.awaited")
        subscription = wire().subscribe(subjects.ALL_HEARTBEATS, self._heard, queue="listener")
        pulse = threading.Thread(target=self._loop, args=(self._hear,), name="heartbeats", daemon=True)
        pulse.start()
        consumer = PullConsumer(subjects.REPORTS, subjects.LISTENER)
        desk = ReportDesk()
        stop_events = _take_events()
        mark_ready("listener")
        try:
            self._loop(lambda: self._apply(consumer, desk))
        finally:
            self.stopping.set()
            stop_events()
            subscription.close()
            pulse.join(timeout=5)
            say_stopped("listener")

    def _loop(self, step: Callable[[], None]) -> None:
        while not self.stopping.is_set():
            try:
                step()
            except redis.RedisDown as error:
                redis.log_away(error)
                self.stopping.wait(PAUSE_SECONDS)
            except (DatabaseError, InterfaceError) as error:
                log.warning("database.away", extra={"error": str(error)})
                close_old_connections()
                self.stopping.wait(PAUSE_SECONDS)

    def _apply(self, consumer: PullConsumer, desk: ReportDesk) -> None:
        """Fetch, apply, acknowledge. What could not be applied is kept and tried again before anything new is fetched."""
        if not self._unapplied:
            self._unapplied = consumer.fetch(BATCH, FETCH_SECONDS)
        if self._unapplied:
            desk.apply(list(_read(self._unapplied)), now=clock.now())
            consumer.ack(self._unapplied)
            self._unapplied = []

    # Heartbeats

    def _heard(self, subject: str, data: bytes) -> None:
        """On the wire's thread: keep it for ours. A full queue drops the newest; agents beat again."""
        try:
            self._heartbeats.put_nowait((subject, data))
        except queue.Full:
            log.warning("heartbeat.dropped")

    def _hear(self) -> None:
        if wire().healthy():
            Listening().mark(now=clock.now())
        try:
            subject, data = self._heartbeats.get(timeout=1.0)
        except queue.Empty:
            return
        self._beat(subject, data, clock.now())

    def _beat(self, subject: str, data: bytes, now: datetime) -> None:
        try:
            beat = read_heartbeat(subject, data)
        except ValueError as error:
            log.warning("heartbeat.malformed", extra={"subject": subject, "error": str(error)})
            return
        if self._ear.hear(beat, now=now):
            wake(now=now)


def _take_events() -> Callable[[], None]:
    """Sessions by event, when the operator names a transport; what ends that."""
    if not settings.EVENT_TRANSPORTS:
        return lambda: None
    from apps.workflows.eventing import agency_events

    agency_events.listen()
    return agency_events.reset


def _read(messages: Iterable[Message]) -> Iterable[AgentReport]:
    now = clock.now()
    for message in messages:
        try:
            yield parse_report(message.subject, message.data, now=now)
        except BadReport as error:
            # Dropped and said: it can never become valid, and keeping it would block the stream.
            log.warning("report.malformed", extra={"subject": message.subject, "error": str(error)})
