"""A real agent in a process of its own. It does what a task's payload says and writes down each start and end.

    python -m tests.agents.recorder SUBJECT HISTORY_DIR SLOTS        ($JOBPLATFORM_NATS_URL, $JOBPLATFORM_API_KEY)

`task_job_submission_data.do`, or `input.do` of a session's item:
{"seconds": 0.1, "block": 0.1, "until": "/a/file", "progress": [25, 50], "log": "text", "decline": ["ada"],
"fail": {"attempts": 1, "retryable": true}, "die": true}. `block` holds the whole agent: it hears nothing until the task is done.
`until` lets a test say when it goes on: it ends when the file is there, and goes on after progress 25 when `/a/file.25` is.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import Any

from jobplatform_sdk import Agent, Bid, Call, Context, Decline, Retryable, Task


class History:
    """Append-only; one write per line, so that a SIGKILL leaves whole lines."""

    def __init__(self, directory: Path, agent: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._agent = agent
        self._file = os.open(directory / f"{agent}-{os.getpid()}.history", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, event: str, **facts: Any) -> None:
        line = {"event": event, "agent": self._agent, "pid": os.getpid(), "at": time.time(), **facts}
        os.write(self._file, json.dumps(line).encode() + b"\n")


async def there(path: str) -> None:
    while not os.path.exists(path):
        await asyncio.sleep(0.02)


def main() -> None:
    subject, history, slots = sys.argv[1], History(Path(sys.argv[2]), sys.argv[1]), int(sys.argv[3])
    agent = Agent(subject_id=subject, concurrency=slots)

    @agent.handler
    async def work(task: Task, context: Context) -> dict[str, Any]:
        do = task.payload.get("do") or task.payload.get("input", {}).get("do") or {}
        if subject in do.get("decline", ()):
            raise Decline("not for me")
        facts = {"task_id": task.task_id, "attempt": task.attempt, "nonce": secrets.token_hex(8)}
        history.write("start", **facts)
        if do.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = "cancelled"
        try:
            for percent in do.get("progress", ()):
                context.progress(percent, f"at {percent}")
                await (there(f"{do['until']}.{percent}") if "until" in do else asyncio.sleep(0.1))
            if "log" in do:
                context.log(do["log"])
            if "block" in do:
                time.sleep(do["block"])
            else:
                await asyncio.sleep(do.get("seconds", 0))
            if "until" in do:
                await there(do["until"])
            fail = do.get("fail", {})
            if task.attempt <= fail.get("attempts", 0):
                outcome = "failed"
                raise (Retryable if fail.get("retryable", True) else ValueError)("as it was told")
            outcome = "completed"
            return {"by": subject, "words": len(task.goal.split()), **facts}
        finally:
            history.write("end", outcome=outcome, **facts)

    @agent.bidder
    async def bid(call: Call) -> Bid | None:
        """As the call's brief says: {"bids": {"ada": {"price": 1, …}}}."""
        offer = call.brief.get("bids", {}).get(subject)
        return Bid(**offer) if offer else None

    agent.run()


if __name__ == "__main__":
    main()
