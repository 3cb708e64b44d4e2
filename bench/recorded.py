"""A backtest over many recorded decisions, run by the platform's own worker. JSON in, JSON out."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

DRAFT = """
LIMIT = 60 * 1024

def approve(task):
    payload = task["payload"]
    if payload["size_bytes"] > LIMIT:
        return {"accepted": False, "reason": "%d bytes are more than %d" % (payload["size_bytes"], LIMIT)}
    if task["priority"] > 990:
        return {"accepted": None, "reason": "a person should look at it"}
    return {"accepted": True, "reason": "fine"}
"""
PATIENCE_SECONDS = 600.0
CHUNK = 5_000


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    import django

    django.setup()
    json.dump(measure(json.load(sys.stdin)), sys.stdout)


def measure(question: dict[str, Any]) -> dict[str, Any]:
    """`{"org", "count"}` → what the backtest says about itself, and the seconds until its answer was there."""
    from apps.core import clock
    from apps.dsl import backtest, scripts

    org_id, count = question["org"], question["count"]
    record(org_id, count)
    script = scripts.register(org_id=org_id, script_id="bench/draft", hook="approval", source=DRAFT, by="bench", now=clock.now()).script
    began = time.monotonic()
    test = backtest.start(script, backtest.Window(limit=count), org_id=org_id, by="bench", now=clock.now())
    while test.status in ("queued", "running"):
        if time.monotonic() > began + PATIENCE_SECONDS:
            raise SystemExit(f"the backtest did not end in {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.05)
        test.refresh_from_db()
    if test.status != "done":
        raise SystemExit(f"the backtest ended as {test.status}: {test.error}")
    return {"decisions": test.result["runs"], "answered_s": round(time.monotonic() - began, 2), **test.result}


def record(org_id: str, count: int) -> None:
    """Approvals as the platform records them, a task of some 700 bytes each."""
    from apps.core import clock, ids
    from apps.dsl.facts import task_facts
    from apps.dsl.models import PolicyRun

    now = clock.now()
    for first in range(0, count, CHUNK):
        rows = []
        for number in range(first, min(count, first + CHUNK)):
            entry = {
                "task_id": f"recorded-{number}", "task_goal": "look at one file", "task_intent": "to be measured",
                "task_priority_value": number % 1000, "submitter_subject_id": f"{org_id}:sam",
                "task_job_submission_data": {"path": f"a/b/file{number}.py", "size_bytes": number * 7919 % 65536},
            }  # fmt: skip
            rows.append(
                PolicyRun(
                    id=ids.time_ordered(), org_id=org_id, task_key=f"{org_id}/recorded-{number}", hook="approval",
                    script_id="approval/default", script_version=1, input={"task": task_facts(entry, org_id=org_id)},
                    output={"accepted": True, "reason": "the default policy accepts every task"}, at=now,
                )  # fmt: skip
            )
        PolicyRun.objects.bulk_create(rows)


if __name__ == "__main__":
    main()
