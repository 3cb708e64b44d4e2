"""The secrets of a running platform stand where they must and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from django.conf import settings

from tests.processes import METRICS_TOKEN

pytestmark = pytest.mark.acceptance
CANARY = "canary-" + "5" * 24


def processes(stack) -> list[psutil.Process]:
    """Servers, workers and their children, as they are now."""
    top = psutil.Process(stack.state["pid"])
    return [top, *top.children(recursive=True)]


def test_no_secret_stands_on_a_command_line_or_in_a_log(stack, org):
    """The platform's own, those of an org, and what users wrote into a task that came to nothing."""
    task = org.api.submit(org.entry(task_goal=CANARY, do={"log": CANARY, "fail": {"attempts": 99, "retryable": False}}), wait=30)
    assert task.status in (200, 202), task.body
    org.as_("ann").post("/org-config/" + org.org_id + "/max_attempts", {"value": CANARY})
    secrets = {
        "Redis": urlsplit(stack.state["urls"]["redis"]).password,
        "SECRET_KEY": settings.SECRET_KEY,
        "METRICS_TOKEN": METRICS_TOKEN,
        **{name: key.split(".")[0].split("_", 2)[2] for name, key in org.keys.items()},
        "a task": CANARY,
    }
    assert all(secret and len(secret) >= 12 for secret in secrets.values())
    told = {}
    for process in processes(stack):
        try:
            told[f"{process.pid} {process.name()}"] = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
    assert len(told) > 8
    told |= {file.name: file.read_text(errors="replace") for file in (stack.data / "log").iterdir() if file.is_file()}
    assert [(place, name) for place, text in told.items() for name, secret in secrets.items() if secret in text] == []


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="only Linux tells the limits of other processes")
def test_a_process_that_crashes_leaves_no_copy_of_its_memory(stack):
    limits = {}
    for process in processes(stack):
        try:
            limits[process.pid] = Path(f"/proc/{process.pid}/limits").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
    assert len(limits) > 8
    assert [text for text in limits.values() if not re.search(r"^Max core file size +0 +0 ", text, re.MULTILINE)] == []
