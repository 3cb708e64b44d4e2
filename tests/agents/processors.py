"""TaskProcessors that real workers run in the acceptance tests; they do what an item's values and input say."""

from __future__ import annotations

from typing import Any

from apps.workflows.engine.processors import TaskProcessor, WorkItem, register


@register
class Tell(TaskProcessor):
    """Answers what it was given, or fails: `{"fail": {"attempts": 1}}` in its input, while the attempt is not above that."""

    def execute_task(self, item: WorkItem) -> Any:
        if item.attempt <= item.input.get("fail", {}).get("attempts", 0):
            raise ValueError("as it was told")
        return {"message": item.message, **item.values, **{name: value for name, value in item.input.items() if name != "fail"}}


@register
class TellLater(TaskProcessor):
    """The same, as a coroutine."""

    async def execute_task(self, item: WorkItem) -> Any:
        return {"message": item.message, **item.values}
