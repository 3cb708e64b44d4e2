"""Doing one item: call its processor, within its time, and believe nothing it answers before it is checked."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from apps.core.errors import PlatformError
from apps.workflows.document.spec import TaskSpec
from apps.workflows.engine.processors import TaskProcessor, WorkItem
from apps.workflows.expansion import result_schema
from apps.workflows.states import ItemStatus

log = logging.getLogger(__name__)

REASON_LENGTH = 1000
RESULT_BYTES = 4 * 1024 * 1024


class _TimeUp(BaseException):
    """Not an Exception: work that swallows those must end too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    status: ItemStatus
    result: Any = None
    reason: str = ""


def execute(processor: TaskProcessor, item: WorkItem, task: TaskSpec, *, run: Callable[[Any], Any]) -> Outcome:
    """`run` drives a coroutine to its end. Never raises but for the end of the process."""
    try:
        with _within(task.timeout_s):
            result = processor.execute_task(item)
            if inspect.isawaitable(result):
                result = run(asyncio.wait_for(result, task.timeout_s))
            result = processor.validate_result(item, result)
    except (_TimeUp, TimeoutError):
        return Outcome(status=ItemStatus.TIMED_OUT, reason=f"took longer than {task.timeout_s:g} s" if task.timeout_s else "timed out")
    except PlatformError as error:
        return Outcome(status=ItemStatus.FAILED, reason=clip(str(error)))
    except Exception as error:  # the boundary of user code: whatever it raises is why the item failed
        facts = {"org": item.org_id, "session": item.session_id, "path": item.path, "index": item.index, "attempt": item.attempt}
        log.warning("item.raised", exc_info=True, extra=facts)
        return Outcome(status=ItemStatus.FAILED, reason=clip(f"{type(error).__name__}: {error}"))
    return judge(result, task)


def judge(result: Any, task: TaskSpec) -> Outcome:
    """A result as it may be kept, or why not. Of an expanded step the schema is for each item."""
    if (wrong := not_json(result)) or (wrong := _breaks(task, result)):
        return Outcome(status=ItemStatus.FAILED, reason=clip(wrong))
    return Outcome(status=ItemStatus.COMPLETED, result=result)


def _breaks(task: TaskSpec, result: Any) -> str:
    if task.result_schema is None:
        return ""
    text = orjson.dumps(task.result_schema, option=orjson.OPT_SORT_KEYS).decode()
    return "; ".join(f"{one.field}: {one.message}" for one in _schema(text).problems(result))


@lru_cache(maxsize=128)
def _schema(text: str) -> result_schema.ResultSchema:
    return result_schema.ResultSchema(orjson.loads(text))


def not_json(result: Any) -> str:
    if result is None or type(result) in (bool, int, str):
        return ""
    try:
        size = len(orjson.dumps(result, option=orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME))
    except (TypeError, ValueError) as error:
        try:
            size = len(json.dumps(result, allow_nan=False))  # integers beyond 64 bits
        except (TypeError, ValueError, RecursionError):
            return f"the result is not JSON: {error}"
    return f"the result is larger than {RESULT_BYTES} bytes" if size > RESULT_BYTES else ""


def clip(text: str) -> str:
    text = text.replace("\x00", "")
    return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 1] + "…"


@contextmanager
def _within(seconds: float | None) -> Iterator[None]:
    """Interrupts Python code on the main thread. What does not let itself be interrupted is ended by `pulse.Watch`."""
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: Any) -> None:
        raise _TimeUp()

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
