"""Schedules that last: edits lose no firing, a fire in between refuses no edit, and one that is broken holds up no other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import DatabaseScheduler

from apps.core import clock
from apps.core.errors import Unavailable
from apps.tasks.executor import JobExecutor
from apps.tasks.intake import TaskIntake, Verdict
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Schedule, ScheduleFiring, Task
from apps.tasks.operating import schedules
from apps.tasks.operating.schedule_ticker import ScheduleTicker
from apps.tasks.standing import standing
from tests.factories import NOON
from tests.integration.tasks_api.test_schedules import BODY, PATH, bearer, make, outcomes, patch, task_ids, tick

EVERYTHING = {
    "description": "tidies", "timezone": "Europe/Berlin", "starts_at": "2030-01-01T00:00:00.000Z", "ends_at": "2031-01-01T00:00:00.000Z",
    "enabled": True, "overlap": "skip", "catch_up": "all", "catch_up_max": 3, "jitter_seconds": 60, "due_after_seconds": 3600,
}  # fmt: skip


# ---- what may be said of one ------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [{"cron": "30 2 * * *"}, {"every_seconds": 600}, {"at": "2030-06-01T00:00:00.000Z"}])
def test_everything_that_may_be_said_of_one_is_kept_and_can_be_taken_back(acme, operator, when):
    made = operator.post(PATH, {"name": "full", "entry": BODY["entry"], **EVERYTHING, **when})
    assert made.status_code == 201, made.content
    assert {name: made.json()[name] for name in {**EVERYTHING, **when}} == {**EVERYTHING, **when}
    row = PeriodicTask.objects.get(name="schedule acme/full")
    assert (clock.iso(row.start_time), clock.iso(row.expires)) == (EVERYTHING["starts_at"], EVERYTHING["ends_at"])
    later = patch(operator, "full", {"ends_at": "2032-01-01T00:00:00.000Z"})
    assert (later.status_code, later.json()["ends_at"]) == (200, "2032-01-01T00:00:00.000Z")
    emptied = patch(operator, "full", {"starts_at": None, "ends_at": None, "due_after_seconds": None})
    assert emptied.status_code == 200 and {emptied.json()[name] for name in ("starts_at", "ends_at", "due_after_seconds")} == {None}
    row.refresh_from_db()
    assert (row.start_time, row.expires) == (None, None) and row.expire_seconds


def test_one_whose_end_has_passed_is_over_and_begins_again_with_a_later_one(acme, operator):
    operator.post(PATH, BODY)
    ended = patch(operator, "nightly", {"ends_at": "2020-01-01T00:00:00Z"}).json()
    assert (ended["next"], ended["upcoming"]) == (None, [])
    assert patch(operator, "nightly", {"ends_at": None}).json()["next"] > clock.iso(clock.now())


# ---- pages ------------------------------------------------------------------------------------------------


def test_schedules_and_firings_come_in_pages(acme, operator, submitter):
    for name in ("c", "a", "b"):
        make(name, now=NOON)
    for hour in range(1, 5):
        tick(hours=hour, seconds=1)
    assert _pages(submitter, f"{PATH}?limit=2", "name") == [["a", "b"], ["c"]]
    hours = _pages(submitter, f"{PATH}/a/firings?count=3", "planned")
    assert [[planned[11:13] for planned in page] for page in hours] == [["16", "15", "14"], ["13"]]


def _pages(caller: Any, path: str, name: str) -> list[list[str]]:
    found, cursor = [], ""
    while cursor is not None:
        page = caller.get(f"{path}{cursor and '&cursor='}{cursor}").json()
        found.append([item[name] for item in page["items"]])
        cursor = page["next_cursor"]
    return found


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?limit=0", "limit"), ("?limit=x", "limit"), ("?count=3", "count"), ("?limit=1&limit=2", "limit"), ("?cursor=x", None),
        ("/tidy/firings?count=0", "count"), ("/tidy/firings?limit=3", "limit"), ("/tidy/firings?cursor=WzFd", None),
        ("/tidy/next?count=101", "count"), ("/tidy/next?cursor=x", "cursor"),
    ],
)  # fmt: skip
def test_a_bad_query_is_400_and_names_what_is_wrong(acme, submitter, query, field):
    make(now=NOON)
    answer = submitter.get(PATH + query)
    assert answer.status_code == 400, answer.content
    assert [problem["field"] for problem in answer.json().get("errors", [])] == ([field] if field else [])


# ---- edits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "fired"), [({"description": "words"}, 1), ({"overlap": "skip"}, 1), ({"cron": "5 * * * *"}, 0)])
def test_only_another_rule_forgets_what_is_due(acme, change, fired):
    make(now=NOON + timedelta(minutes=1))
    edited = schedules.read(change, Schedule.objects.get())
    schedules.change(edited, by="tests", now=NOON + timedelta(hours=1, seconds=1))  # due, and no tick has come yet
    assert tick(hours=1, seconds=2) == fired
    assert task_ids() == ["tidy@2026-11-22T13:00:00Z"][:fired]


def test_a_firing_that_waits_for_its_jitter_outlives_an_edit(acme):
    made = make(now=NOON + timedelta(minutes=1), jitter_seconds=3600)
    planned, fires = made.next_planned_at, made.next_fire_at
    assert fires - planned > timedelta(minutes=1)
    schedules.change(schedules.read({"description": "words"}, made), by="tests", now=planned + timedelta(seconds=30))
    assert ScheduleTicker().tick(now=fires) == 1 and task_ids() == ["tidy@2026-11-22T13:00:00Z"]


def test_a_fire_in_between_refuses_no_edit_and_an_edit_in_between_does(acme):
    make(now=NOON + timedelta(minutes=1))
    mine, theirs = Schedule.objects.get(), Schedule.objects.get()
    assert tick(hours=1) == 1
    now = NOON + timedelta(hours=1, minutes=1)
    assert not schedules.set_enabled(mine, False, by="tests", now=now).enabled
    with pytest.raises(schedules.ChangedMeanwhile):
        schedules.set_enabled(theirs, False, by="tests", now=now)
    assert (tick(hours=3), Schedule.objects.get().enabled) == (0, False)


# ---- one of many ------------------------------------------------------------------------------------------


def test_one_whose_zone_is_gone_stops_no_other(acme, caplog):
    make("a-broken", now=NOON + timedelta(minutes=1))
    make("fine", now=NOON + timedelta(minutes=2))
    Schedule.objects.filter(name="a-broken").update(timezone="Gone/Away")
    assert [tick(hours=hour) for hour in (1, 2)] == [1, 1]
    assert {task_id.partition("@")[0] for task_id in task_ids()} == {"fine"}
    assert "schedule.broken" in caplog.text


def test_what_was_left_lying_and_cannot_be_done_yet_holds_up_nothing_behind_it(acme, monkeypatch):
    for name in ("a", "b"):
        make(name, now=NOON + timedelta(minutes=1))
    really = TaskIntake.submit_many

    def away_for_a(intake, entries, *arguments, **more):
        if entries[0].task_id.startswith("a@"):
            return [Verdict(task_id=entries[0].task_id, error=Unavailable())]
        return really(intake, entries, *arguments, **more)

    with monkeypatch.context() as nobody:
        nobody.setattr(TaskIntake, "submit_many", lambda _, entries, *_a, **_m: [Verdict(task_id=entries[0].task_id, error=Unavailable())])
        assert tick(hours=1) == 0
    monkeypatch.setattr(TaskIntake, "submit_many", away_for_a)
    assert tick(hours=1, seconds=20) == 1
    assert [outcome for _, outcome in outcomes()].count("planned") == 1 and task_ids() == ["b@2026-11-22T13:00:00Z"]
    monkeypatch.setattr(TaskIntake, "submit_many", really)
    assert tick(hours=1, seconds=40) == 1


@pytest.mark.parametrize("overlap", ["skip", "cancel_previous"])
def test_the_task_of_a_ticker_that_died_over_it_is_no_overlap_of_its_own(acme, nats, monkeypatch, overlap):
    make(now=NOON + timedelta(minutes=1), overlap=overlap)
    with monkeypatch.context() as dying:
        dying.setattr(ScheduleTicker, "_told", lambda *_args, **_more: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tick(hours=1)
    assert tick(hours=1, seconds=20) == 1 and outcomes() == [("13:00", "fired")]
    assert list(Task.objects.values_list("status", flat=True)) == ["queued"]


def test_with_a_concurrency_key_they_wait_for_each_other(acme, nats):
    one_at_a_time = {"task_steerability_data": {"concurrency": {"key": "tidy"}}}
    make(now=NOON + timedelta(minutes=1), entry={**BODY["entry"], **one_at_a_time})
    tick(hours=1)
    tick(hours=2)
    now = NOON + timedelta(hours=2)
    TaskLoader().reconcile(now=now)  # until then nobody knows who has a place of a key
    assert JobExecutor().run_batch(now=now) == 1
    first, second = Task.objects.order_by("sequence")
    assert (first.status, second.status, standing(second, now=now).where) == ("dispatched", "queued", "parked")


# ---- beats ------------------------------------------------------------------------------------------------


def test_two_beats_ring_twice_and_one_task_comes_of_it(transactional_db, redis, monkeypatch):
    """Both beats are the real scheduler on the real rows; what they send is done at once, by whoever gets it."""
    from jobplatform.celery import app
    from tests.factories import make_agent, make_org

    make_org("acme")
    make_agent("acme", "ada")
    make("once", at=NOON + timedelta(hours=1), now=NOON)
    rung = []

    def ring(_beat, entry, **_more):
        rung.append(entry.name)
        ScheduleTicker().tick(now=NOON + timedelta(hours=1))

    monkeypatch.setattr(DatabaseScheduler, "apply_async", ring)
    for beat in (DatabaseScheduler(app=app), DatabaseScheduler(app=app)):
        beat.apply_entry(beat.schedule["schedule acme/once"])
    assert rung == ["schedule acme/once"] * 2
    assert task_ids() == ["once@2026-11-22T13:00:00Z"] and ScheduleFiring.objects.count() == 1


def test_a_deleted_one_rings_no_more_and_its_name_is_free(acme, operator):
    operator.post(PATH, BODY)
    assert operator.client.delete(f"{PATH}/nightly", headers=bearer(operator)).status_code == 204
    assert operator.post(PATH, BODY).status_code == 201
    assert PeriodicTask.objects.filter(name__startswith="schedule ").count() == 1
