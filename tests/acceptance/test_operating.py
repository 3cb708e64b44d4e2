"""Running a whole platform: schedules rung for by two beats, hundreds of tasks cancelled by filter, a dead letter done again."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

import pytest

from tests.processes import wait_until
from tests.services import Server

pytestmark = pytest.mark.acceptance


def test_a_schedule_fires_once_at_each_time_with_two_beats(org, stack):
    command = [sys.executable, "-m", "celery", "-A", "jobplatform", "beat"]
    second = Server("beat-2", command, ready="is starting", port=0, env=stack.environment)
    stack.agents.append(second)
    second.start()
    try:
        operator = org.as_("olga")
        entry = {"goal": "tick", "intent": "to see it once", "priority": 0}
        name = f"tick-{org.org_id}-{'m' if stack.tasks_url else 's'}"
        assert operator.post("/api/v1/schedules", {"name": name, "entry": entry, "every_seconds": 5}).status == 201

        def fired():
            found = operator.get(f"/api/v1/schedules/{name}/firings").json["items"]
            return found if sum(one["outcome"] == "fired" for one in found) >= 2 else None

        firings = wait_until(fired, seconds=60, every=0.2, what="two firings")
        assert operator.post(f"/api/v1/schedules/{name}/pause").status == 200
    finally:
        second.kill()
    done = [firing for firing in firings if firing["outcome"] == "fired"]
    planned = sorted(datetime.fromisoformat(firing["planned"]) for firing in done)
    assert len(set(planned)) == len(planned)
    assert all((later - earlier) % timedelta(seconds=5) == timedelta(0) for earlier, later in zip(planned, planned[1:], strict=False))
    tasks = [task for task in org.tasks().values() if task["schedule_id"] == name]
    assert {task["task_id"] for task in tasks} >= {firing["task_id"] for firing in done}
    assert len({task["task_id"] for task in tasks}) == len(tasks)
    for firing in done:
        assert org.api.ended(firing["task_id"])["status"] == "completed"
        assert len(org.starts(firing["task_id"])) == 1
    assert stack.manage("shell", "-c", _BEAT_ROW.format(name=f"schedule {org.org_id}/{name}")).stdout.strip().endswith("upkeep.schedules")


_BEAT_ROW = "from django_celery_beat.models import PeriodicTask; print(PeriodicTask.objects.get(name='{name}').task)"


def test_hundreds_of_tasks_are_cancelled_by_filter_with_a_preview(make_org, stack):
    org = make_org(agents={"ada": {}}, assignment_deadline_s=600)
    later = {"not_before": "2099-01-01T00:00:00Z"}
    entries = [org.entry(task_id=f"wave-{n:04}", task_completion_timeline=later) for n in range(300)]
    kept = org.entry(task_id="kept", task_completion_timeline=later)
    assert org.api.submit_bulk([*entries, kept])[-1]["summary"]["accepted"] == 301
    operator = org.as_("olga")
    question = {"action": "cancel", "filter": {"q": "wave-", "status": "queued"}, "reason": "a wrong wave"}
    preview = operator.post("/api/v1/tasks/actions", {**question, "dry_run": True}).json
    assert preview["count"] == 300 and len(preview["sample"]) == 10
    going = operator.post("/api/v1/tasks/actions", {"token": preview["token"]})
    assert going.status == 202

    def over():
        found = operator.get(f"/api/v1/bulk-actions/{going.json['id']}").json
        return found if found["status"] == "done" else None

    done = wait_until(over, seconds=60, every=0.2, what="the cancelling")
    assert (done["total"], done["changed"], done["failed"]) == (300, 300, 0)
    assert stack.rows.statuses(org.org_id) == {"cancelled": 300, "queued": 1}
    assert org.api.task("wave-0123")["reason"] == "a wrong wave" and org.api.task("kept")["status"] == "queued"


def test_a_dead_letter_is_done_again_and_completes(org):
    entry = org.entry(do={"fail": {"attempts": 1, "retryable": False}})
    org.api.submit(entry, wait=0)
    assert org.api.ended(entry["task_id"])["status"] == "failed"
    operator = org.as_("olga")
    letters = {letter["task_id"]: letter for letter in operator.get("/api/v1/dead-letters?limit=200").json["items"]}
    assert letters[entry["task_id"]]["kind"] == "agent_failed"
    patch = {"task_job_submission_data": {"do": None}}
    made = operator.post(f"/api/v1/dead-letters/{entry['task_id']}/requeue", {"patch": patch, "reason": "mended"})
    assert made.status == 201 and made.json["task_id"] == f"{entry['task_id']}~2"
    assert org.api.ended(made.json["task_id"])["status"] == "completed"
    assert org.api.task(entry["task_id"])["status"] == "failed"
    assert entry["task_id"] not in {letter["task_id"] for letter in operator.get("/api/v1/dead-letters?limit=200").json["items"]}
