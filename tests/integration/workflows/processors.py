"""TaskProcessors of the tests."""

from __future__ import annotations

import asyncio
from typing import Any

from apps.workflows.engine.processors import TaskProcessor, WorkItem, register


@register
class Echo(TaskProcessor):
    """Answers what it was given."""

    def execute_task(self, item: WorkItem) -> Any:
        return {"message": item.message, **item.values} if item.message else dict(item.values) or dict(item.input)


@register
class Fails(TaskProcessor):
    """Fails while the attempt is below `until` of its values or input; for ever without."""

    def execute_task(self, item: WorkItem) -> Any:
        until = item.values.get("until", item.input.get("until", 10**9))
        if item.attempt < until:
            raise ValueError(f"not yet: attempt {item.attempt}")
        return {"attempt": item.attempt}


@register
class Later(TaskProcessor):
    """Asynchronous."""

    async def execute_task(self, item: WorkItem) -> Any:
        await asyncio.sleep(0)
        return {"later": item.index}


@register
class Sleeps(TaskProcessor):
    def execute_task(self, item: WorkItem) -> Any:
        import time

        time.sleep(float(item.input.get("seconds", 0.05)))
        return {"slept": True}
