"""Backends by whatever people hold in their hands: `self.job_manager = celery_app`, `rq.Queue(connection=…)`, a name, nothing."""

from __future__ import annotations

import importlib
from typing import Any

from django.conf import settings

from apps.jobs.backends.base import JobBackend

NAMES = {
    "celery": ("apps.jobs.backends.celery", "CeleryBackend"),
    "rq": ("apps.jobs.backends.rq", "RqBackend"),
    "dramatiq": ("apps.jobs.backends.dramatiq", "DramatiqBackend"),
    "memory": ("apps.jobs.backends.memory", "MemoryBackend"),
}
EXTRAS = {"rq": "pip install '.[rq]'", "dramatiq": "pip install '.[dramatiq]'"}

_of_objects: dict[int, tuple[Any, JobBackend]] = {}
_named: dict[str, JobBackend] = {}


def named(name: str) -> JobBackend:
    """The one of this process by its name: what upkeep and ends of jobs send with. ValueError, ImportError."""
    if name not in _named:
        _named[name] = _class(name)()
    return _named[name]


def adopt(backend: JobBackend | None, name: str = "") -> None:
    """Make it the one of this process under its name; None: forget that name's."""
    if backend is None:
        _named.pop(name, None)
    else:
        _named[backend.name] = backend


def of(value: Any = None) -> JobBackend:
    """A backend from a JobBackend, a Celery app, an rq.Queue, a Dramatiq broker, a name, or None (the setting JOBS_BACKEND)."""
    if value is None:
        return named(settings.JOBS_BACKEND)
    if isinstance(value, str):
        return named(value)
    if all(hasattr(value, each) for each in ("send", "depth", "interrupt", "traits")):
        return value
    known = _of_objects.get(id(value))
    if known is None:
        # The object is kept with it: an id may be given again to another once the first is gone.
        known = _of_objects[id(value)] = (value, _class(_kind(value))(value))
    return known[1]


def _kind(value: Any) -> str:
    """By where its class comes from: a library that is not used is not imported to find out."""
    for base in type(value).__mro__:
        package = base.__module__.partition(".")[0]
        if package in ("celery", "rq", "dramatiq"):
            return package
    kinds = f"a Celery app, an rq.Queue, a Dramatiq broker, a JobBackend or one of {', '.join(NAMES)}"
    raise TypeError(f"{type(value).__name__} is no queue of jobs: {kinds}")


def _class(name: str) -> Any:
    if name not in NAMES:
        raise ValueError(f'backend "{name}" is not known: one of {", ".join(NAMES)}')
    module, class_name = NAMES[name]
    try:
        return getattr(importlib.import_module(module), class_name)
    except ImportError as error:
        if name not in EXTRAS:
            raise
        raise ImportError(f"jobs on {name} need its library: {EXTRAS[name]}") from error
