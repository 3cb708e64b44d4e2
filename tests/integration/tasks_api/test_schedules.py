"""Schedules: made, changed, paused; fired once whoever rings; what was missed, what overlaps, what intake refuses."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django_celery_beat.models import PeriodicTask

from apps.core import clock
from apps.orgs.models import Change
from apps.tasks.models import Schedule, ScheduleFiring, Task, Transition
from apps.tasks.operating import schedules
from apps.tasks.operating.schedule_ticker import ScheduleTicker
from tests.factories import NOON, make_org
from tests.threads import at_once

PATH = "/api/v1/schedules"
ENTRY = {"goal": "tidy up", "intent": "every hour", "priority": 3}


def make(name: str = "tidy", *, now: datetime = NOON, org_id: str = "acme", **fields: Any) -> Schedule:
    values = {"cron": "0 * * * *", "entry": ENTRY, **fields}
    if {"every_seconds", "at"} & fields.keys():
        values.pop("cron") if "cron" not in fields else None
    return schedules.create(Schedule(org_id=org_id, name=name, **values), "", by="tests", now=now)


def tick(hours: float = 0, minutes: float = 0, seconds: float = 0) -> int:
    return ScheduleTicker().tick(now=NOON + timedelta(hours=hours, minutes=minutes, seconds=seconds))


def task_ids(**where: Any) -> list[str]:
    return sorted(Task.objects.filter(**where).values_list("task_id", flat=True))


def outcomes() -> list[tuple[str, str]]:
    rows = ScheduleFiring.objects.order_by("planned_at").values_list("planned_at", "outcome")
    return [(planned.isoformat()[11:16], outcome) for planned, outcome in rows]


# ---- firing -----------------------------------------------------------------------------------------------


@pytest.mark.store
def test_it_fires_at_its_time_and_not_before(acme):
    make(now=NOON + timedelta(minutes=1))
    assert (tick(minutes=59), tick(hours=1), tick(hours=1, seconds=5), tick(hours=2, seconds=1)) == (0, 1, 0, 1)
    assert task_ids() == ["tidy@2026-11-22T13:00:00Z", "tidy@2026-11-22T14:00:00Z"]
    task = Task.objects.get(task_id="tidy@2026-11-22T13:00:00Z")
    assert (task.goal, task.priority, task.status, task.schedule_id) == ("tidy up", 3, "queued", "tidy")
    assert (task.submitter_subject_id, task.entry["task_submission_ts"]) == ("acme:tidy", "2026-11-22T13:00:00Z")
    assert Transition.objects.get(task_key=task.key).actor == "schedule tidy"
    schedule = Schedule.objects.get()
    assert (schedule.fired, schedule.last_task_id) == (2, "tidy@2026-11-22T14:00:00Z")
    assert schedule.next_planned_at == NOON + timedelta(hours=3)


def test_many_tickers_at_once_fire_once(shared_acme):
    make(now=NOON + timedelta(minutes=1))
    fired = at_once(6, lambda _: tick(hours=1, seconds=1))
    assert sum(fired) == 1 and task_ids() == ["tidy@2026-11-22T13:00:00Z"]
    assert ScheduleFiring.objects.filter(outcome="fired").count() == 1 and Schedule.objects.get().fired == 1


def test_a_ticker_that_read_the_schedule_before_another_fired_it_does_nothing(acme):
    make(now=NOON + timedelta(minutes=1))
    slow = Schedule.objects.get()
    assert tick(hours=1) == 1
    assert ScheduleTicker()._plan(slow, NOON + timedelta(hours=1)) == []
    assert len(task_ids()) == 1


def test_a_ticker_that_died_before_it_submitted_leaves_it_to_the_next(acme, monkeypatch):
    make(now=NOON + timedelta(minutes=1))
    with monkeypatch.context() as dying:
        dying.setattr(ScheduleTicker, "carry_out", lambda *_args, **_more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tick(hours=1)
    assert (task_ids(), outcomes()) == ([], [("13:00", "planned")])
    assert tick(hours=1, seconds=5) == 0  # somebody may still be at it
    assert tick(hours=1, seconds=20) == 1
    assert (task_ids(), outcomes()) == (["tidy@2026-11-22T13:00:00Z"], [("13:00", "fired")])


def test_a_ticker_that_died_after_it_submitted_makes_no_second_task(acme, monkeypatch):
    make(now=NOON + timedelta(minutes=1))
    with monkeypatch.context() as dying:
        dying.setattr(ScheduleTicker, "_told", lambda *_args, **_more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tick(hours=1)
    schedules.change(schedules.read({"entry": {**ENTRY, "goal": "edited meanwhile"}}, Schedule.objects.get()), by="tests", now=NOON)
    assert tick(hours=1, seconds=20) == 1
    assert task_ids() == ["tidy@2026-11-22T13:00:00Z"] and ("13:00", "fired") in outcomes()


@pytest.mark.parametrize(
    ("catch_up", "fired", "told"),
    [
        ("skip", [], [("15:00", "missed")]),
        ("one", ["15"], [("14:00", "missed"), ("15:00", "fired")]),
        ("all", ["14", "15"], [("13:00", "missed"), ("14:00", "fired"), ("15:00", "fired")]),
    ],
)
def test_after_the_platform_was_away(acme, catch_up, fired, told):
    make(now=NOON + timedelta(minutes=1), catch_up=catch_up, catch_up_max=2)
    tick(hours=3, minutes=30)
    assert (task_ids(), outcomes()) == ([f"tidy@2026-11-22T{hour}:00:00Z" for hour in fired], told)
    assert Schedule.objects.get().next_planned_at == NOON + timedelta(hours=4)


@pytest.mark.store
@pytest.mark.parametrize(
    ("overlap", "statuses", "outcome"),
    [
        ("allow", ["queued", "queued"], "fired"),
        ("skip", ["queued"], "overlapped"),
        ("cancel_previous", ["cancelled", "queued"], "fired"),
    ],
)
def test_while_an_earlier_task_is_open(acme, nats, overlap, statuses, outcome):
    make(now=NOON + timedelta(minutes=1), overlap=overlap)
    tick(hours=1)
    tick(hours=2)
    assert list(Task.objects.order_by("task_id").values_list("status", flat=True)) == statuses
    assert outcomes()[-1] == ("14:00", outcome)


def test_an_ended_task_is_no_overlap(acme, nats):
    make(now=NOON + timedelta(minutes=1), overlap="skip")
    tick(hours=1)
    Task.objects.update(status="completed")
    assert tick(hours=2) == 1


def test_what_a_policy_refuses_is_told(acme):
    make(now=NOON + timedelta(minutes=1), entry={**ENTRY, "task_job_submission_data": {"wish": "no"}})
    assert tick(hours=1) == 0
    firing = ScheduleFiring.objects.get()
    assert (firing.outcome, firing.task_id) == ("refused", "tidy@2026-11-22T13:00:00Z") and "not this one" in firing.because


def test_the_rates_of_keys_do_not_hold_for_schedules_but_the_cap_on_open_tasks_does(acme):
    make_org("acme", rate_limit_per_minute=0.01)
    make(now=NOON + timedelta(minutes=1))
    assert [tick(hours=hour) for hour in (1, 2)] == [1, 1]
    from apps.orgs.config_store import OrgConfigProvider

    OrgConfigProvider().set("acme", "max_open_tasks", 2, by="tests", now=NOON)
    assert tick(hours=3) == 0 and outcomes()[-1] == ("15:00", "refused")


def test_once_fires_once_and_its_deadline_counts_from_its_time(acme):
    at = NOON + timedelta(hours=1)
    make(at=at, due_after_seconds=60)
    assert (tick(hours=1), tick(hours=2)) == (1, 0)
    assert Task.objects.get().deadline == at + timedelta(seconds=60) and Schedule.objects.get().next_planned_at is None


def test_a_bad_schedule_does_not_stop_the_others(acme, monkeypatch):
    broken, fine = make("a-broken", now=NOON + timedelta(minutes=1)), make("fine", now=NOON + timedelta(minutes=1))
    Schedule.objects.filter(pk=broken.pk).update(entry={"goal": 7})
    assert fine.name and tick(hours=1) == 1
    assert task_ids() == ["fine@2026-11-22T13:00:00Z"] and ScheduleFiring.objects.filter(outcome="refused").count() == 1


def test_the_schedules_of_an_inactive_org_rest(acme):
    make(now=NOON + timedelta(minutes=1))
    type(acme).objects.update(is_active=False)
    assert tick(hours=1) == 0


def test_the_history_is_forgotten_after_a_season(acme):
    make(now=NOON + timedelta(minutes=1), catch_up="skip")
    tick(hours=1)
    tick(hours=24 * 91, minutes=30)
    assert [outcome for _, outcome in outcomes()] == ["missed"]


# ---- the API ----------------------------------------------------------------------------------------------


BODY = {"name": "nightly", "entry": ENTRY, "cron": "30 2 * * *", "timezone": "Europe/Berlin"}


def test_made_shown_changed_and_ended(acme, operator, submitter):
    made = operator.post(PATH, BODY)
    body = made.json()
    assert (made.status_code, made["Location"], body["cron"], body["every_seconds"]) == (201, f"{PATH}/nightly", "30 2 * * *", None)
    assert len(body["upcoming"]) == 5 and body["upcoming"][0]["local"].split("T")[1][:5] == "02:30"
    assert body["entry"]["submitter_subject_id"].startswith("acme:")
    assert [item["name"] for item in submitter.get(PATH).json()["items"]] == ["nightly"]
    changed = patch(operator, "nightly", {"every_seconds": 600, "overlap": "skip"})
    assert (changed.status_code, changed.json()["cron"], changed.json()["every_seconds"]) == (200, None, 600)
    assert changed.json()["overlap"] == "skip" and changed.json()["timezone"] == "Europe/Berlin"
    changes = list(Change.objects.filter(kind="schedule").order_by("id").values_list("old__cron", "new__every_seconds"))
    assert changes == [(None, None), ("30 2 * * *", 600)]
    assert operator.client.delete(f"{PATH}/nightly", headers=bearer(operator)).status_code == 204
    assert submitter.get(f"{PATH}/nightly").status_code == 404 and not PeriodicTask.objects.filter(name__startswith="schedule ").exists()


def bearer(caller) -> dict[str, str]:
    return {"Authorization": f"Bearer {caller.key}"}


def patch(caller, name: str, body: dict[str, Any]):
    return caller.client.patch(f"{PATH}/{name}", data=body, content_type="application/json", headers=bearer(caller))


def test_pausing_forgets_what_passes_meanwhile(acme, operator):
    make(now=clock.now())
    paused = operator.post(f"{PATH}/tidy/pause").json()
    assert (paused["enabled"], paused["next"]) == (False, None)
    assert not PeriodicTask.objects.get(name="schedule acme/tidy").enabled
    assert ScheduleTicker().tick(now=clock.now() + timedelta(days=2)) == 0
    resumed = operator.post(f"{PATH}/tidy/resume").json()
    assert resumed["enabled"] and resumed["next"] > clock.iso(clock.now())
    assert operator.post(f"{PATH}/tidy/resume").status_code == 200


def test_run_now_submits_one_out_of_turn_even_when_paused(acme, operator, submitter):
    make(enabled=False, now=clock.now())
    firing = operator.post(f"{PATH}/tidy/run")
    assert (firing.status_code, firing.json()["outcome"]) == (201, "fired")
    assert firing.json()["task_id"] in task_ids(schedule_id="tidy") and "key" in firing.json()["actor"]
    assert [item["task_id"] for item in submitter.get(f"{PATH}/tidy/firings").json()["items"]] == [firing.json()["task_id"]]
    assert [item["schedule_id"] for item in submitter.get("/api/v1/tasks?schedule=tidy").json()["items"]] == ["tidy"]


def test_the_next_times_may_be_asked_for_before_anything_is_stored(acme, submitter):
    response = submitter.post(f"{PATH}/preview?count=3", {"cron": "30 2 29 3 *", "timezone": "Europe/Berlin"})
    assert response.status_code == 200 and len(response.json()["upcoming"]) == 3 and not Schedule.objects.exists()
    make(now=clock.now())
    assert len(submitter.get(f"{PATH}/tidy/next?count=7").json()["items"]) == 7


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"), ({"name": "a/b"}, "name"), ({"name": "x" * 65}, "name"), ({"name": "preview"}, "name"),
        ({"entry": []}, "entry"), ({"entry": {}}, "entry.task_goal"), ({"entry": {**ENTRY, "task_id": "t"}}, "entry.task_id"),
        ({"entry": {**ENTRY, "submitter_subject_id": "umbrella:eve"}}, "entry.submitter_subject_id"),
        ({"entry": {**ENTRY, "task_completion_timeline": {"due": "2030-01-01T00:00:00Z"}}}, "entry.task_completion_timeline.due"),
        ({"cron": "61 * * * *"}, "cron"), ({"cron": ""}, "cron"), ({"cron": "@daily"}, "cron"), ({"cron": 7}, "cron"),
        ({"cron": None}, "cron"), ({"every_seconds": 60}, "every_seconds"), ({"cron": None, "every_seconds": 4}, "every_seconds"),
        ({"cron": None, "every_seconds": True}, "every_seconds"), ({"cron": None, "at": "soon"}, "at"), ({"cron": None, "at": 7}, "at"),
        ({"timezone": "Mars/Base"}, "timezone"), ({"timezone": "../etc"}, "timezone"), ({"overlap": "maybe"}, "overlap"),
        ({"catch_up": ""}, "catch_up"), ({"catch_up_max": 0}, "catch_up_max"), ({"jitter_seconds": -1}, "jitter_seconds"),
        ({"enabled": "yes"}, "enabled"), ({"next_fire_at": "2030-01-01T00:00:00Z"}, "next_fire_at"), ({"fired": 3}, "fired"),
        ({"starts_at": "2030-01-02T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z"}, "ends_at"),
        ({"due_after_seconds": 0}, "due_after_seconds"),
    ],
)  # fmt: skip
def test_a_bad_schedule_is_refused_and_the_field_is_named(acme, operator, change, field):
    response = operator.post(PATH, {**BODY, **change})
    assert response.status_code == 422, response.content
    assert field in [problem["field"] for problem in response.json()["errors"]]
    assert not Schedule.objects.exists() and not PeriodicTask.objects.filter(name__startswith="schedule ").exists()


def test_a_name_is_taken_once_in_an_org(acme, operator, caller):
    assert operator.post(PATH, BODY).status_code == 201
    assert (operator.post(PATH, BODY).status_code, operator.post(PATH, BODY).json()["code"]) == (409, "name_taken")
    assert caller("operator", "umbrella").post(PATH, BODY).status_code == 201


def test_another_orgs_schedule_is_missing_and_submitters_only_look(acme, operator, submitter, caller):
    make(now=clock.now())
    eve = caller("operator", "umbrella")
    for place in ("", "/next", "/firings"):
        assert eve.get(f"{PATH}/tidy{place}").status_code == 404
    for verb in ("pause", "resume", "run"):
        assert (eve.post(f"{PATH}/tidy/{verb}").status_code, submitter.post(f"{PATH}/tidy/{verb}").status_code) == (404, 403)
    assert submitter.post(PATH, BODY).status_code == 403 and patch(submitter, "tidy", {}).status_code == 403
    assert eve.get(PATH).json()["items"] == []


# ---- beat's rows ------------------------------------------------------------------------------------------


def test_beat_knows_each_schedule_and_rings_for_the_ticker(acme):
    make("nightly", cron="30 2 * * mon", timezone="Europe/Berlin", now=NOON)
    make("often", every_seconds=90, now=NOON)
    make("once", at=NOON + timedelta(days=1), now=NOON)
    rows = {row.name: row for row in PeriodicTask.objects.filter(name__startswith="schedule ")}
    assert set(rows) == {"schedule acme/nightly", "schedule acme/often", "schedule acme/once"}
    assert {row.task for row in rows.values()} == {"upkeep.schedules"}
    crontab = rows["schedule acme/nightly"].crontab
    assert (crontab.minute, crontab.hour, crontab.day_of_week, str(crontab.timezone)) == ("30", "2", "mon", "Europe/Berlin")
    assert rows["schedule acme/often"].interval.every == 90
    assert rows["schedule acme/once"].clocked.clocked_time == NOON + timedelta(days=1) and rows["schedule acme/once"].one_off


def test_a_rule_beat_cannot_read_rings_every_hour(acme):
    make(cron="0 9 L * *", now=NOON)
    row = PeriodicTask.objects.get(name="schedule acme/tidy")
    assert (row.crontab.minute, row.crontab.hour, row.crontab.day_of_month) == ("0", "*", "*")
    assert row.schedule


def test_beat_takes_its_upkeep_from_the_code(transactional_db):
    from django_celery_beat.schedulers import DatabaseScheduler

    from jobplatform.celery import app

    assert app.conf.beat_scheduler.endswith("DatabaseScheduler")
    scheduler = DatabaseScheduler(app=app)
    for name in ("sweep", "reconcile", "revoked", "schedules"):
        row = PeriodicTask.objects.get(name=name)
        assert row.enabled and row.expire_seconds and row.task.startswith("upkeep.")
    assert {"sweep", "reconcile", "revoked", "schedules"} <= set(scheduler.schedule)
