"""Background verbs: how code below asks Celery to do something later. The one door to `celery`.

A message is a hint. Sending it may fail (the broker is away): that is logged and swallowed, because the
sweeper finds whatever a lost hint left lying.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from celery import chord, current_app
from celery.app.task import Context
from celery.exceptions import CeleryError
from kombu.exceptions import OperationalError

from apps.core.redis import RedisDown

log = logging.getLogger(__name__)

AWAY = (OperationalError, ConnectionError, TimeoutError, CeleryError, *RedisDown)


def send(name: str, *, expires_seconds: float | None = None, **arguments: Any) -> bool:
    """Send the hint; False when the broker is away. Whoever comes to it later than `expires_seconds` leaves it alone."""
    return send_many(name, [arguments], expires_seconds=expires_seconds)


def send_many(name: str, each: Sequence[Mapping[str, Any]], *, expires_seconds: float | None = None) -> bool:
    """The same hint with other arguments, in as few round trips as the broker allows; False when it is away."""
    how: dict[str, Any] = {"retry": False, "ignore_result": True, "expires": expires_seconds}
    try:
        if len(each) == 1:
            current_app.send_task(name, kwargs=dict(each[0]), **how)
        else:
            with current_app.producer_pool.acquire(block=True) as producer, producer.batch(500):
                for arguments in each:
                    current_app.send_task(name, kwargs=dict(arguments), producer=producer, **how)
    except (OperationalError, ConnectionError, TimeoutError) as error:
        log.warning("background.not_sent", extra={"work": name, "hints": len(each), "error": str(error)})
        return False
    return True


def send_chord(group_id: str, name: str, each: Sequence[Mapping[str, Any]], *, then: str, arguments: Mapping[str, Any]) -> bool:
    """A chord: the parts `name` (one per arguments), and when all have returned, the hint `then`. False when it is away.

    What the parts answer is not kept, and `then` is not told: it must look for itself."""
    # Nobody waits for their results: a sender that did would listen to the result backend, and wait for one that is away.
    options = {"ignore_result": True}
    parts = [current_app.signature(name, kwargs=dict(one), immutable=True, options=options) for one in each]
    body = current_app.signature(then, kwargs=dict(arguments), immutable=True, options=options)
    try:
        chord(parts, task_id=group_id, app=current_app)(body)
    except AWAY as error:
        log.warning("background.not_sent", extra={"work": name, "hints": len(each), "error": str(error)})
        return False
    return True


def saved_part(request: Any) -> dict[str, Any] | None:
    """Of the message in hand: what `part_done` needs to hear later, as JSON; None when it is no part of a chord."""
    if not request.chord:
        return None
    return {"id": request.id, "group": request.group, "group_index": request.group_index, "chord": dict(request.chord)}


def part_done(saved: Mapping[str, Any]) -> bool:
    """Tell a chord that a part has ended whose message went long ago. Telling it twice is harmless."""
    try:
        current_app.backend.mark_as_done(saved["id"], None, request=Context(dict(saved), ignore_result=True))
    except AWAY as error:
        log.warning("background.part_not_told", extra={"error": str(error)})
        return False
    return True


def forget_chords(group_ids: Sequence[str]) -> None:
    """Delete what the result backend keeps of chords."""
    backend = current_app.backend
    if not hasattr(backend, "get_key_for_group") or not hasattr(backend, "client"):
        return  # a backend that is not Redis lets them expire
    keys = [backend.get_key_for_group(group, end) for group in group_ids for end in ("", ".j", ".t", ".s", ".d", ".c")]
    try:
        for start in range(0, len(keys), 1000):
            backend.client.delete(*keys[start : start + 1000])
    except AWAY as error:
        log.warning("background.not_forgotten", extra={"error": str(error)})
