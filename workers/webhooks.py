"""Celery tasks of the `webhooks` queue: deliveries made and sent."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import lru_cache

from celery import shared_task, signals

from apps.core import clock, redis
from apps.webhooks import derive
from apps.webhooks.derive import Deriver
from apps.webhooks.order import Order
from apps.webhooks.sender import Sender
from jobplatform.queues import Work

SLICE_SECONDS = 5.0
LISTEN_SECONDS = 0.5
LOOK_AGAIN = timedelta(seconds=2)
REBUILD = timedelta(seconds=30)

_looking = threading.Lock()
_looked_at = _rebuilt_at = clock.from_ms(0)


@lru_cache(maxsize=1)
def sender() -> Sender:
    return Sender()


@signals.worker_shutting_down.connect
def _stop(**_signal: object) -> None:
    if sender.cache_info().currsize:
        sender().stopping = True


@shared_task(name=Work.WEBHOOKS, ignore_result=True)
def drain(**_newer: object) -> None:
    """Make what is to be sent and open lanes for it, for one time slice. The message is a hint; beat sends another."""
    until = clock.now() + timedelta(seconds=SLICE_SECONDS)
    try:
        while derive.listening() and not sender().stopping:
            now = clock.now()
            Deriver().run(now=now)
            sender().look(now=now)
            _look_again()
            if now >= until:
                break
            Order().listen(LISTEN_SECONDS)
    except redis.RedisDown as error:
        redis.log_away(error)


def _look_again() -> None:
    """Beside the lanes, one at a time: reading the past must not hold up the present."""
    global _looked_at
    at = clock.now()
    if at - _looked_at >= LOOK_AGAIN and _looking.acquire(blocking=False):
        _looked_at = at
        threading.Thread(target=_repair, name="webhooks-repair", daemon=True).start()


def _repair() -> None:
    from django.db import connections

    global _rebuilt_at
    try:
        now = clock.now()
        Deriver().look_again(now=now)
        if now - _rebuilt_at >= REBUILD:
            Deriver().rebuild(now=now)
            _rebuilt_at = now
    except redis.RedisDown as error:
        redis.log_away(error)
    finally:
        connections.close_all()
        _looking.release()
