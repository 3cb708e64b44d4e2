"""Which functions are jobs. `as_job` leaves a mark on a function; nothing without one is ever run by a worker.

A job is addressed as `package.module:Class.method` (or `package.module:function`). `address` writes it when a job is
submitted, `resolve` reads it in the worker, and both say no to what the other could not use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from apps.core.errors import Missing

if TYPE_CHECKING:
    from apps.jobs.options import JobOptions

ATTRIBUTE = "as_job"


class UnknownTarget(Missing):
    """The row names code that is not there, or that is no job. Facts: `target`, `problem`."""

    code, sentence = "unknown_target", "That is no job of this platform."


@dataclass(frozen=True, kw_only=True)
class JobMark:
    options: JobOptions
    body: Callable[..., Any]
    """the function as it was written"""
    is_async: bool
    accepts: Any = None
    """what the request's data must satisfy: a DRF serializer class, or a function data -> data"""
    result: Any = None
    """what it answers, for OpenAPI: a type or a serializer; None: the return annotation"""


@dataclass(frozen=True, kw_only=True)
class Found:
    target: str
    name: str
    owner_class: type | None
    """None: a plain function"""
    mark: JobMark


def mark_of(function: Any) -> JobMark | None:
    mark = getattr(function, ATTRIBUTE, None)
    return mark if isinstance(mark, JobMark) else None


def marked_in(cls: type, name: str) -> JobMark | None:
    """The mark of `name` nearest to `cls`: an override without one hands over to its parent's (with super())."""
    return next((mark for parent in cls.__mro__ if (mark := mark_of(vars(parent).get(name)))), None)


@lru_cache(maxsize=1024)
def address(cls: type | None, mark: JobMark) -> str:
    """How a worker finds `mark.body`, as a method of `cls` or as a function (None). TypeError when it could not."""
    name = mark.body.__name__
    place: Any = cls or mark.body
    if "<locals>" in place.__qualname__:
        raise TypeError(f"{place.__qualname__} cannot be found by a worker: define it at the top of a module.")
    if cls is None:
        return f"{mark.body.__module__}:{mark.body.__qualname__}"
    target = f"{cls.__module__}:{cls.__qualname__}.{name}"
    if (nearest := marked_in(cls, name)) is not mark:
        why = "overrides it as a job of its own" if nearest else f"knows it by another name than {name}"
        raise TypeError(f"{mark.body.__qualname__} cannot be queued for {cls.__qualname__}, which {why}.")
    return target


@lru_cache(maxsize=1024)
def resolve(target: str) -> Found:
    """The job at that address. Raises UnknownTarget for anything that bears no mark."""
    module_name, _, path = target.partition(":")
    names = path.split(".")
    if not all(name.isidentifier() for name in (*module_name.split("."), *names)):
        raise UnknownTarget(target=target, problem="is no address")
    try:
        place: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise UnknownTarget(target=target, problem=str(error)) from None
    for name in names[:-1]:
        place = vars(place).get(name)
        if not isinstance(place, type):
            raise UnknownTarget(target=target, problem=f"{name} is no class there")
    mark = marked_in(place, names[-1]) if isinstance(place, type) else mark_of(vars(place).get(names[-1]))
    if mark is None:
        raise UnknownTarget(target=target, problem="is not marked as a job")
    return Found(target=target, name=names[-1], owner_class=place if isinstance(place, type) else None, mark=mark)
