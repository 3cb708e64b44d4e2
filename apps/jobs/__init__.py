"""Any method as a job: `from apps.jobs import JobManagerMixin, as_job`."""

from __future__ import annotations

import importlib
from typing import Any

_OFFERED = {
    "JobManagerMixin": "apps.jobs.mixin",
    "as_job": "apps.jobs.mixin",
    "JobManager": "apps.jobs.manager",
    "get_job_manager": "apps.jobs.manager",
    "PlainRequest": "apps.jobs.adapters.plain",
}
__all__ = list(_OFFERED)


def __getattr__(name: str) -> Any:
    # Not imported at once: Django imports this package before its models may be.
    if name not in _OFFERED:
        raise AttributeError(name)
    return getattr(importlib.import_module(_OFFERED[name]), name)
