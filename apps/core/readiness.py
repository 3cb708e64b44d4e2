"""A process says that it does its work now.

The supervisor of `manage.py up` names a file per child and waits for it; a container's health check can look at the
same file. Without the setting nothing happens.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

from django.conf import settings

from apps.core import observe

GC_THRESHOLD = 50_000
"""Allocations between collections. Batches make many short-lived rows; Python's default (700) searches among them in vain."""


def settle() -> None:
    """Everything is loaded: what is there now stays, and the garbage collector need not look at it again and again."""
    observe.start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def mark_ready() -> None:
    settle()
    say_ready()


def say_ready() -> None:
    if settings.READY_FILE:
        Path(settings.READY_FILE).write_text(str(os.getpid()))
