"""The queues that jobs may name: those of the platform's table and those of the setting JOBS_QUEUES."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace

from django.conf import settings

from jobplatform.queues import JOB_QUEUES, LONG_JOBS, OWN_JOB_QUEUE, QUICK_JOBS, JobQueue


def known() -> dict[str, JobQueue]:
    """By name. Own ones are written `name` or `name:seconds` or `name:seconds:megabytes`."""
    found = {queue.name: queue for queue in JOB_QUEUES}
    for text in settings.JOBS_QUEUES:
        name, *limits = text.split(":")
        given = dict(zip(("time_limit_s", "memory_mb"), map(int, limits), strict=False))
        found[name] = replace(OWN_JOB_QUEUE, name=name, **given)
    return found


def get(name: str) -> JobQueue:
    """The queue of this name. ValueError, with the nearest known one, when there is none."""
    queues = known()
    if name not in queues:
        near = difflib.get_close_matches(name, queues, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise ValueError(f'queue "{name}" is not known{hint} (the setting JOBS_QUEUES adds queues)')
    return queues[name]


def job_queues(names: Iterable[str] = ()) -> tuple[JobQueue, ...]:
    """The queues of these names, in the order in which a worker takes from them. `quick` and `long` stand for their groups (own
    queues are among the long ones); none: all. ValueError for one that is not known."""
    queues = known()
    own = [queue.name for queue in queues.values() if queue not in QUICK_JOBS + LONG_JOBS]
    groups = {"quick": [queue.name for queue in QUICK_JOBS], "long": [*(queue.name for queue in LONG_JOBS), *own]}
    chosen = [each for name in (names or groups) for each in groups.get(name, [name])]
    return tuple(get(name) for name in dict.fromkeys(chosen))
