"""What the three agents share: take a task, read its file, answer with figures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo.files import resolve
from jobplatform_sdk import Agent, Context, Task

Analyse = Callable[[bytes, Path, Path], dict[str, Any]]
"""(content, path, folder) -> figures as JSON, with one line for people under "summary". Raises CannotAnalyse."""


class CannotAnalyse(Exception):
    """This file is not of the kind it claims to be; trying again would not help."""


def run(analyse: Analyse) -> None:
    """Serve tasks until told to stop. The key and the address come from the environment."""
    root = Path(os.environ["DEMO_FOLDER"])
    agent = Agent(concurrency=4)

    @agent.handler
    def read(task: Task, context: Context) -> dict[str, Any]:
        return answer(analyse, root, task.payload["relative"])

    agent.run()


def answer(analyse: Analyse, root: Path, relative: str) -> dict[str, Any]:
    """The figures, and proof of what was read. CannotAnalyse also when the file cannot be read."""
    try:
        path = resolve(root, relative)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise CannotAnalyse(getattr(error, "strerror", None) or str(error)) from None
    return {**analyse(data, path, root), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
