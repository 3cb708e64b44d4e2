"""Operators' pages of the admin: dead letters, schedules with checked forms, and beat's rows, which are not typed over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django_celery_beat.models import PeriodicTask

from apps.core import clock
from apps.orgs.models import Change
from apps.tasks.models import BulkAction, DeadLetter, Schedule, Task
from apps.tasks.operating import schedules
from tests.factories import NOON
from tests.integration.tasks_api.test_dead_letters import ended

pytestmark = pytest.mark.store
LETTERS, SCHEDULES, BEAT = "/admin/tasks/deadletter/", "/admin/tasks/schedule/", "/admin/django_celery_beat/periodictask/"
ENTRY = '{"task_goal": "tidy", "task_intent": "i", "task_priority_value": 1}'
FORM = {
    "org": "acme", "name": "nightly", "description": "", "entry": ENTRY, "enabled": "on", "cron": "30 2 * * *", "timezone": "Europe/Berlin",
    "overlap": "skip", "catch_up": "one", "catch_up_max": "10", "jitter_seconds": "0",
}  # fmt: skip


@pytest.fixture
def boss(acme, client):
    client.force_login(User.objects.create_superuser("boss", password="x"))
    return client


def test_dead_letters_are_listed_done_again_and_discarded(boss, django_assert_max_num_queries):
    for name in ("t1", "t2", "t3"):
        ended(name)
    with django_assert_max_num_queries(12):
        shown = boss.get(LETTERS).content.decode()
    assert "it broke" in shown and "/admin/tasks/task/acme_2Ft1/change/" in shown
    said = boss.post(LETTERS, {"action": "requeue", "_selected_action": ["acme/t1"]}, follow=True).content.decode()
    assert "1 done again" in said and Task.objects.get(pk="acme/t1~2").retry_of == "t1"
    boss.post(LETTERS, {"action": "discard", "_selected_action": ["acme/t2"], "confirmed": "yes"}, follow=True)
    assert DeadLetter.objects.get(pk="acme/t2").settled_by == "admin boss"
    assert "t3" in boss.get(LETTERS).content.decode() and "acme_2Ft2/" not in boss.get(LETTERS).content.decode()
    assert "acme_2Ft2/" in boss.get(LETTERS + "?state=all").content.decode()
    assert boss.get(LETTERS + "?kind__exact=agent_failed&agent=ada&q=t").status_code == 200


def test_bulk_actions_are_shown(boss):
    BulkAction.objects.create(
        id="a1", org_id="acme", source="tasks", action="cancel", upto=1, total=1200, done=500, actor="olga", created_at=NOON,
        updated_at=NOON,
    )  # fmt: skip
    assert "500 of 1,200" in boss.get("/admin/tasks/bulkaction/").content.decode()
    assert boss.get("/admin/tasks/bulkaction/a1/change/").status_code == 200


def test_a_schedule_is_made_looked_at_changed_and_ended(boss):
    made = boss.post(SCHEDULES + "add/", FORM)
    assert made.status_code == 302, made.context["adminform"].form.errors
    schedule = Schedule.objects.get()
    assert (schedule.created_by, schedule.cron, schedule.entry["task_goal"]) == ("admin boss", "30 2 * * *", "tidy")
    assert PeriodicTask.objects.filter(name="schedule acme/nightly").exists() and schedule.next_fire_at > clock.now()
    page = boss.get(f"{SCHEDULES}{schedule.pk}/change/").content.decode()
    assert "02:30:00" in page and "none yet" in page
    assert boss.post(f"{SCHEDULES}{schedule.pk}/change/", {**FORM, "cron": "", "every_seconds": "600"}).status_code == 302
    schedule.refresh_from_db()
    assert (schedule.cron, schedule.every_seconds) == ("", 600)
    assert "nightly" in boss.get(SCHEDULES).content.decode()
    said = boss.post(SCHEDULES, {"action": "run_now", "_selected_action": [schedule.pk]}, follow=True).content.decode()
    assert "fired nightly@" in said and Task.objects.filter(schedule_id="nightly").count() == 1
    boss.post(SCHEDULES, {"action": "pause", "_selected_action": [schedule.pk]})
    assert not Schedule.objects.get().enabled
    assert boss.post(f"{SCHEDULES}{schedule.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Schedule.objects.exists() and not PeriodicTask.objects.filter(name__startswith="schedule ").exists()
    assert Change.objects.filter(kind="schedule", by="admin boss").count() == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cron": "61 * * * *"}, "is not a cron rule"), ({"every_seconds": "60"}, "exactly one of"), ({"timezone": "Mars"}, "IANA"),
        ({"entry": "{"}, "is not JSON"),
        ({"entry": '{"task_goal": "g"}'}, "task_intent: is required"), ({"entry": "[]"}, "must be a JSON object"),
        ({"name": "a b"}, "Enter a valid value"), ({"catch_up_max": "0"}, "greater than or equal to 1"),
    ],
)  # fmt: skip
def test_a_wrong_schedule_is_not_stored_and_says_why(boss, change, said):
    page = boss.post(SCHEDULES + "add/", {**FORM, **change})
    assert page.status_code == 200 and said.lower() in page.content.decode().lower()
    assert not Schedule.objects.exists()


def test_beats_rows_of_schedules_are_shown_but_changed_elsewhere(boss):
    values = {"entry": {"task_goal": "g", "task_intent": "i", "task_priority_value": 0}, "every_seconds": 60}
    schedules.create(Schedule(org_id="acme", name="often", **values), "", by="tests", now=clock.now() - timedelta(seconds=1))
    row = PeriodicTask.objects.get(name="schedule acme/often")
    shown = boss.get(BEAT).content.decode()
    assert "schedule acme/often" in shown
    assert boss.get(f"{BEAT}{row.pk}/change/").status_code == 200
    assert boss.post(f"{BEAT}{row.pk}/change/", {"name": "x"}).status_code == 403
    assert boss.post(f"{BEAT}{row.pk}/delete/", {"post": "yes"}).status_code == 403
