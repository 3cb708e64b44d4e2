"""A process says that it does its work now.

The supervisor of `manage.py up` names a file per child and waits for it; a container's health check can look at the
same file. Without the setting nothing happens.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings


def mark_ready() -> None:
    if settings.READY_FILE:
        Path(settings.READY_FILE).write_text(str(os.getpid()))
