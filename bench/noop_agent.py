"""An SDK agent that does nothing but say when it got the task."""

from __future__ import annotations

import os
import time
from typing import Any

from jobplatform_sdk import Agent, Context, Task


def main() -> None:
    agent = Agent(concurrency=int(os.environ.get("BENCH_SLOTS", "100")))

    @agent.handler
    async def answer(task: Task, context: Context) -> dict[str, Any]:
        return {"number": task.payload["number"], "received_ns": time.time_ns()}

    agent.run()


if __name__ == "__main__":
    main()
