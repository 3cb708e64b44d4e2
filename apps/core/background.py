"""Background verbs: how code below asks Celery to do something later. The one door to `celery`.

A message is a hint. Sending it may fail (the broker is away): that is logged and swallowed, because the
sweeper finds whatever a lost hint left lying.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)


def send(name: str, **arguments: Any) -> bool:
    """Send the hint; False when the broker is away."""
    try:
        current_app.send_task(name, kwargs=arguments, retry=False, ignore_result=True)
    except (OperationalError, ConnectionError, TimeoutError) as error:
        log.warning("background.not_sent", extra={"work": name, "error": str(error)})
        return False
    return True
