"""Reads the task store beside the platform, after a measurement: what became of each task. JSON in, JSON out."""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    import django

    django.setup()
    json.dump(audit(json.load(sys.stdin)), sys.stdout)


def audit(question: dict[str, Any]) -> dict[str, Any]:
    """`{"org", "run", "count"}` → when each result was received by the agent, in task order, when the last was recorded,
    how many milliseconds each waited in the queue, and what is wrong. Task ids are `<run>-<number>`, numbers from 0. Times
    are nanoseconds since the epoch."""
    from apps.tasks.models import Task

    run, count = question["run"], question["count"]
    rows = Task.objects.filter(org_id=question["org"], task_id__startswith=f"{run}-").values_list(
        "task_id", "status", "attempt", "result", "updated_at", "queued_at", "assigned_at"
    )
    found = {int(task_id.rpartition("-")[2]): rest for task_id, *rest in rows}
    wrong = [f"{run}-{number} is not there" for number in range(count) if number not in found]
    received, recorded, waits = [], [], []
    for number in sorted(found):
        status, attempt, result, updated_at, queued_at, assigned_at = found[number]
        if status != "completed" or attempt != 1 or not isinstance(result, dict) or result.get("number") != number:
            wrong.append(f"{run}-{number}: {status}, attempt {attempt}, result {result}")
            continue
        received.append(result["received_ns"])
        if assigned_at and queued_at:
            waits.append(1000 * (assigned_at - queued_at).total_seconds())
        recorded.append(int(updated_at.timestamp() * 1000) * 1_000_000)
    return {"wrong": wrong[:20], "received_ns": received, "last_recorded_ns": max(recorded, default=0), "waits_ms": waits}


if __name__ == "__main__":
    main()
