"""TaskProcessors: what an item does when a worker of this platform does it, and the registry of them.

    @register
    class WordCount(TaskProcessor):
        result_keys = ("words",)

        def execute_task(self, item: WorkItem) -> Any:
            return len(item.message.split())

`agent_class: "WordCount"` in a session's document names it. The modules in `TASK_PROCESSORS` are imported where the platform
starts, so that a document can be judged by the names there are. `execute_task` may be `async def`. What it answers must be
JSON; what it raises is the reason the item failed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import orjson
from django.conf import settings

if TYPE_CHECKING:
    from apps.workflows.context.context_info import ContextInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkItem:
    """One item, as its processor sees it."""

    session_id: str
    org_id: str
    path: str
    index: int
    attempt: int
    identifier: str = ""
    name: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The variables that the expansion gave it."""
    input: Mapping[str, Any] = field(default_factory=dict)
    """The task's `input`, rendered."""
    message: str = ""
    """The task's `message_template`, rendered."""


class TaskProcessor:
    """Base of every processor. One instance serves the items of a chunk, one after the other. Class attributes are defaults
    for what the document leaves out."""

    agent_class: ClassVar[str] = ""
    """Name in documents; default: the class's own."""
    tools: Sequence[Any] = ()
    shared_instructions: str = ""
    message_template: str = ""
    files_folder: str = ""
    result_keys: Sequence[str] = ()
    dependencies: Sequence[str] = ()

    def __init__(self, *, session_key: str = "", session_id: str = "", user_id: str = "", task: Any = None) -> None:
        self.session_key, self.session_id, self.user_id = session_key, session_id, user_id
        if task is not None:
            self.tools = task.tools or self.tools
            self.shared_instructions = task.shared_instructions or self.shared_instructions
            self.message_template = task.message_template or self.message_template
            self.files_folder = task.files_folder or self.files_folder
            self.result_keys = task.result_keys or self.result_keys

    @cached_property
    def context_info(self) -> ContextInfo:
        """The session's context and stores. Read when asked for; an item that never asks costs nothing."""
        from apps.workflows.context.context_info import ContextInfo

        return ContextInfo.of_session(self.session_key)

    @property
    def result_key(self) -> str:
        return self.result_keys[0] if self.result_keys else ""

    def execute_task(self, item: WorkItem) -> Any:
        """Do it; the result as JSON values. May be a coroutine. Whatever it raises is the reason it failed."""
        raise NotImplementedError

    def validate_result(self, item: WorkItem, result: Any) -> Any:
        """The result as it is kept, or raise. By default: whatever is JSON."""
        return result

    def get_agent_class(self) -> str:
        return name_of(type(self))

    def get_tools(self) -> Sequence[Any]:
        return self.tools

    def format_structured_data(self, data: Any) -> str:
        """For a prompt: texts as they are, the rest as indented JSON."""
        return data if isinstance(data, str) else json.dumps(data, indent=2, ensure_ascii=False, default=str)

    def serialize_context(self, context: Mapping[str, Any]) -> str:
        return orjson.dumps(context, default=str).decode()


Class = TypeVar("Class", bound=type[TaskProcessor])
_classes: dict[str, type[TaskProcessor]] = {}


def name_of(cls: type[TaskProcessor]) -> str:
    return cls.agent_class or cls.__name__


def register(cls: Class) -> Class:
    """A class decorator. Two different classes of one name are a mistake."""
    known = _classes.setdefault(name_of(cls), cls)
    if known is not cls and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"two processors are called {name_of(cls)!r}: {known.__module__} and {cls.__module__}")
    _classes[name_of(cls)] = cls
    return cls


@lru_cache(maxsize=1)
def _load() -> None:
    for module in settings.TASK_PROCESSORS:
        importlib.import_module(module)


def names() -> frozenset[str]:
    _load()
    return frozenset(_classes)


def find(name: str) -> type[TaskProcessor] | None:
    _load()
    return _classes.get(name)
