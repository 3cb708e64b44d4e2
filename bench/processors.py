"""TaskProcessors that are measured: they do nothing, or nothing for a while."""

from __future__ import annotations

import time
from typing import Any

from apps.workflows.engine.processors import TaskProcessor, WorkItem, register


@register
class BenchNoop(TaskProcessor):
    def execute_task(self, item: WorkItem) -> Any:
        return item.values.get("n", item.index)


@register
class BenchCount(TaskProcessor):
    """The reduce: how many results there are, and their sum."""

    def execute_task(self, item: WorkItem) -> Any:
        results = item.input["results"]
        return {"count": len(results), "sum": sum(results)}


@register
class BenchNap(TaskProcessor):
    """As work that waits for something: `seconds` of sleep."""

    def execute_task(self, item: WorkItem) -> Any:
        time.sleep(item.input["seconds"])
        return None
