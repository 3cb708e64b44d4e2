"""A process says that it does its work now.

The supervisor of `manage.py up` names a file per child and waits for it; a container's health check can look at the
same file. Without the setting nothing happens.
"""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path

from django.conf import settings

from apps.core import logs, observe

log = logging.getLogger(__name__)

GC_THRESHOLD = 50_000
"""Allocations between collections. Batches make many short-lived rows; Python's default (700) searches among them in vain."""


def settle() -> None:
    """Everything is loaded: what is there now stays, and the garbage collector need not look at it again and again."""
    observe.start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def mark_ready(worker: str) -> None:
    """`worker`: as the log names it."""
    settle()
    say_ready()
    log.info("worker.started", extra={"worker": worker, "pid": os.getpid()})


def say_stopped(worker: str) -> None:
    logs.start()  # no message is in hand any more
    log.info("worker.stopped", extra={"worker": worker, "pid": os.getpid()})


def say_ready() -> None:
    if settings.READY_FILE:
        Path(settings.READY_FILE).write_text(str(os.getpid()))
