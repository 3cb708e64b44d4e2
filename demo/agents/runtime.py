"""What the three agents share: take a task, read its file, answer with figures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.files import resolve
from jobplatform_sdk import Agent, TaskFailed

Analyse = Callable[[bytes, Path, Path], dict[str, Any]]
"""(content, path, folder) -> figures as JSON, with one line for people under "summary". Raises CannotAnalyse."""


class CannotAnalyse(Exception):
    """This file is not of the kind it claims to be; trying again would not help."""


def run(analyse: Analyse) -> None:
    """Serve tasks until told to stop."""
    root = Path(os.environ["DEMO_FOLDER"])
    agent = Agent(
        subject_id=os.environ["AGENT_SUBJECT_ID"],
        nats_url=os.environ["NATS_URL"],
        api_key=os.environ["AGENT_API_KEY"],
        concurrency=int(os.environ.get("AGENT_SLOTS", "4")),
    )

    @agent.task
    def look(task: Any) -> dict[str, Any]:
        try:
            return answer(analyse, root, task.payload["relative"])
        except CannotAnalyse as error:
            raise TaskFailed(str(error), retryable=False) from None

    agent.run()


def answer(analyse: Analyse, root: Path, relative: str) -> dict[str, Any]:
    """The figures, and proof of what was read. CannotAnalyse also when the file cannot be read."""
    try:
        path = resolve(root, relative)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise CannotAnalyse(getattr(error, "strerror", None) or str(error)) from None
    return {**analyse(data, path, root), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
