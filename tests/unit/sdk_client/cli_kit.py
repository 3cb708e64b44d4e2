"""What the tests of jobctl share."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

from tests.unit.sdk_client.conftest import KEY
from tests.unit.sdk_client.wire_server import Reply, Step, event, problem

FINE, NOT_COMPLETED, USAGE, REFUSED, UNREACHABLE = 0, 1, 2, 3, 4
EVIL = "\x1b[2Jgone\x9b31m \u202eback\x07\r\nnext [bold]x[/bold]"


def task(task_id="t1", status="queued", **more):
    times = {"created": "2026-11-22T10:00:00.000Z", "updated": "2026-11-22T10:00:00.000Z"}
    return {"task_id": task_id, "status": status, "goal": "count", "intent": "to know", "priority": 5, "times": times, **more}


def moved(task_id, status, old="queued", event_id="", **more):
    return event("status", {"task_id": task_id, "old": old, "status": status, "at": "2026-11-22T10:00:01.000Z", **more}, event_id)


def present(statuses=None) -> Step:
    """Answers a look at any task: `queued`, or what `statuses` says of it; None: there is no such task."""

    def look(handler, seen):
        task_id = seen.path.rpartition("/")[2]
        status = (statuses or {}).get(task_id, "queued")
        (Reply(200, task(task_id, status)) if status else problem(404, "not_found", "Not found."))(handler, seen)

    return look


SUMMARY = event("summary", {"counts": {"queued": 2, "completed": 7, "failed": 0}})


def documents(out):
    return [json.loads(line) for line in out.splitlines()]


def environment(server):
    server.is_knocked_at = True
    return {**os.environ, "JOBPLATFORM_URL": server.url, "JOBPLATFORM_API_KEY": KEY, "TERM": "xterm-256color"}


def command(*arguments):
    return [sys.executable, "-m", "jobplatform_sdk.cli", *arguments]


def in_terminal(server, *arguments, columns=90):
    """The exit status and all that a terminal received."""
    ours, its = pty.openpty()
    seat = {**environment(server), "COLUMNS": str(columns)}
    process = subprocess.Popen(command(*arguments), stdin=its, stdout=its, stderr=its, env=seat)
    os.close(its)
    received = b""
    try:
        while chunk := os.read(ours, 65536):
            received += chunk
    except OSError:  # how a terminal without anybody at the other side ends
        pass
    os.close(ours)
    return process.wait(60), received.decode()


APPROVED = {"hook": "approval", "script_id": "approval/x", "script_version": 2, "output": {"accepted": True}}
CHOSEN = {"attempt": 1, "agent": "ada", "strategy": "static", "because": "she is the one"}
HISTORY = {
    "items": [
        {"kind": "policy", "at": "2026-11-22T10:00:00.000Z", **APPROVED},
        {"kind": "transition", "at": "2026-11-22T10:00:00.001Z", "status": "queued", "reason": "fine", "actor": "sam"},
        {"kind": "assignment", "at": "2026-11-22T10:00:00.500Z", **CHOSEN},
        {
            "kind": "report",
            "at": "2026-11-22T10:00:01.000Z",
            "agent": "ada",
            "type": "progress",
            "body": {"percent": 40.0, "message": "hm"},
        },
        {"kind": "report", "at": "2026-11-22T10:00:02.000Z", "agent": "bo", "type": "completed", "outcome": "stale", "body": None},
        {"kind": "omen", "at": None, "of": "a newer platform"},
    ]
}

LINES = (
    b'{"task_id": "t1", "goal": "g", "intent": "i"}\n\nnot json\n{"task_id": "t2", "goal": "g", "intent": "i"}\n[1]\n{"task_id": "t3"}\n'
)
