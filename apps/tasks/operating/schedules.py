"""Schedules as people write them: checked, stored, changed, and shown. `schedule_ticker` fires them, `timing` says when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, router, transaction

from apps.core import clock
from apps.core.auth import Principal
from apps.core.errors import Conflict, Invalid, Missing, Problem
from apps.orgs.audit import record
from apps.orgs.models import Change
from apps.tasks.bodies import Body
from apps.tasks.entries import TaskEntry
from apps.tasks.models import Schedule, ScheduleFiring
from apps.tasks.models_scheduling import NAME
from apps.tasks.operating import beat_rows
from apps.tasks.operating.timing import BadRule, Rule, known_zone
from apps.tasks.parser import TASK_FORM, InitialJobParser, instant

FIELDS = (
    "description", "entry", "cron", "every_seconds", "at", "timezone", "starts_at", "ends_at", "enabled", "overlap", "catch_up",
    "catch_up_max", "jitter_seconds", "due_after_seconds",
)  # fmt: skip
WHEN = ("cron", "every_seconds", "at")
NOT_IN_TEMPLATES = ("task_id", "task_submission_ts")
YEAR = 366 * 86_400
TRIES = 5
"""A schedule that fires while it is edited is edited again, so often."""


class NameTaken(Conflict):
    code, sentence = "name_taken", "There is a schedule with that name."


class ChangedMeanwhile(Conflict):
    code, sentence = "changed_meanwhile", "Somebody else has changed the schedule since; read it again."


def rule_of(schedule: Schedule) -> Rule:
    return Rule(
        cron=schedule.cron,
        every=timedelta(seconds=schedule.every_seconds) if schedule.every_seconds else None,
        at=schedule.at,
        timezone=schedule.timezone,
        anchor=schedule.starts_at or schedule.created_at.replace(microsecond=0),
        ends_at=schedule.ends_at,
        name=str(schedule),
        jitter=timedelta(seconds=schedule.jitter_seconds),
    )


def stamp(planned: datetime) -> str:
    """As it stands in a task id: to the second, unless it has a fraction."""
    text = clock.iso(planned) or ""
    return text.replace(".000Z", "Z")


def task_id_of(schedule: Schedule, planned: datetime) -> str:
    """Derived, so firing twice submits one task."""
    return f"{schedule.name}@{stamp(planned)}"


def entry_of(schedule: Schedule, planned: datetime) -> TaskEntry:
    """The task of one planned time. Raises Invalid when the template is no longer good."""
    data = {**schedule.entry, "task_id": task_id_of(schedule, planned), "task_submission_ts": stamp(planned)}
    if schedule.due_after_seconds:
        due = clock.iso(planned + timedelta(seconds=schedule.due_after_seconds))
        data["task_completion_timeline"] = {**data.get("task_completion_timeline", {}), "due": due}
    return InitialJobParser().parse(data, kind="task", submitter=f"{schedule.org_id}:{schedule.name}")


# ---- checking ---------------------------------------------------------------------------------------------


def check(schedule: Schedule, *, now: datetime) -> None:
    """Everything about a schedule that is not the type of one field. Raises Invalid with every problem."""
    problems: list[Problem] = []

    def wrong(field: str, code: str, message: str) -> None:
        problems.append(Problem(field=field, code=code, message=message))

    given = [name for name in WHEN if getattr(schedule, name)]
    if len(given) != 1:
        wrong(given[1] if given else "cron", "one_of", f"exactly one of {', '.join(WHEN)} says when")
    if schedule.every_seconds and not 5 <= schedule.every_seconds <= YEAR:
        wrong("every_seconds", "out_of_range", f"must be from 5 to {YEAR}")
    if not known_zone(schedule.timezone):
        wrong("timezone", "unknown_zone", "is not a time zone of the IANA database, such as Europe/Berlin")
    elif schedule.cron:
        try:
            rule_of(schedule).check()
        except BadRule as error:
            wrong("cron", "bad_cron", str(error))
    if schedule.at and schedule.pk is None and schedule.at <= now:
        wrong("at", "past", "must be in the future")
    if schedule.starts_at and schedule.ends_at and schedule.ends_at <= schedule.starts_at:
        wrong("ends_at", "out_of_range", "must be after starts_at")
    _check_entry(schedule, wrong, problems)
    if problems:
        raise Invalid(problems)


def _check_entry(schedule: Schedule, wrong: Any, problems: list[Problem]) -> None:
    named = {TASK_FORM.by_wire_name[name].wire if name in TASK_FORM.by_wire_name else name: value for name, value in schedule.entry.items()}
    for name in NOT_IN_TEMPLATES:
        if name in named:
            wrong(f"entry.{name}", "server_owned", "is set at each firing")
    timeline = named.get("task_completion_timeline")
    for name in ("due", "not_before"):
        if isinstance(timeline, dict) and name in timeline:
            wrong(f"entry.task_completion_timeline.{name}", "server_owned", "a fixed time fits one firing only; see due_after_seconds")
    if problems:
        return
    if len(named) == len(schedule.entry):
        schedule.entry = named  # one name for each field, whoever changes it later
    try:
        found = entry_of(schedule, clock.from_ms(0) + timedelta(days=20_000))
    except Invalid as error:
        problems.extend(Problem(field=f"entry.{p.field}".rstrip("."), code=p.code, message=p.message) for p in error.problems)
        return
    if found.org_id != schedule.org_id:
        wrong("entry.submitter_subject_id", "other_org", f"must begin with {schedule.org_id}:")


def read(body: Mapping[str, Any], schedule: Schedule) -> Schedule:
    """The schedule with what the body says of it. Raises Invalid for members of a wrong type; `check` does the rest."""
    said = Body(body)
    if schedule.pk is None:
        schedule.name = said.text("name", required=True, length=64)
        if said.has("name") and not re.fullmatch(NAME, schedule.name):
            said.wrong("name", "bad_id", "must be 1 to 64 letters, digits and . _ - and begin with a letter or digit")
    given = [name for name in WHEN if said.has(name) and body[name] is not None]
    if given:
        # Another way to say when stands for the one before.
        schedule.cron, schedule.every_seconds, schedule.at = "", None, None
    nullable = {name: value for name, value in body.items() if value is not None}
    said.data = {**{name: value for name, value in body.items() if name not in (*WHEN, "starts_at", "ends_at", "due_after_seconds")}}
    said.data |= {name: value for name, value in nullable.items() if name not in said.data}
    for name in ("starts_at", "ends_at", "due_after_seconds"):
        if name in body and body[name] is None:
            setattr(schedule, name, None)
    if said.has("entry") or schedule.pk is None:
        schedule.entry = said.object("entry", required=True)
    schedule.description = said.text("description", schedule.description)
    schedule.cron = " ".join(said.text("cron", schedule.cron, length=120).split())
    schedule.every_seconds = said.whole("every_seconds", 5, YEAR, schedule.every_seconds)
    schedule.timezone = said.text("timezone", schedule.timezone, length=64)
    for name in ("at", "starts_at", "ends_at"):
        if said.has(name):
            setattr(schedule, name, instant(said.take(name, str, ""), name, said.problems) if isinstance(said.data[name], str) else None)
            if not isinstance(said.data[name], str):
                said.take(name, str, "")
    schedule.enabled = said.flag("enabled", schedule.enabled)
    schedule.overlap = said.choice("overlap", tuple(Schedule.Overlap.values), schedule.overlap)
    schedule.catch_up = said.choice("catch_up", tuple(Schedule.CatchUp.values), schedule.catch_up)
    schedule.catch_up_max = said.whole("catch_up_max", 1, 1000, schedule.catch_up_max)
    schedule.jitter_seconds = said.whole("jitter_seconds", 0, 3600, schedule.jitter_seconds)
    schedule.due_after_seconds = said.whole("due_after_seconds", 1, YEAR, schedule.due_after_seconds)
    said.done()
    return schedule


# ---- storing ----------------------------------------------------------------------------------------------


def find(org_id: str, name: str) -> Schedule:
    """Raises Missing, for another org's too."""
    found = Schedule.objects.filter(org_id=org_id, name=name).first()
    if found is None:
        raise Missing()
    return found


def create(schedule: Schedule, principal_submitter: str, *, by: str, now: datetime) -> Schedule:
    """Store a new one. Raises Invalid, NameTaken."""
    schedule.created_at = schedule.updated_at = now
    schedule.created_by = schedule.updated_by = by
    if isinstance(schedule.entry, dict) and principal_submitter:
        schedule.entry = {"submitter_subject_id": principal_submitter, **schedule.entry}
    check(schedule, now=now)
    _aim(schedule, now)
    try:
        with transaction.atomic(using=router.db_for_write(Schedule)):
            schedule.save(force_insert=True)
            _written(schedule, None, by, now)
    except IntegrityError:
        raise NameTaken() from None
    return schedule


def change(schedule: Schedule, *, by: str, now: datetime) -> Schedule:
    """Store an edited one. A new rule forgets what the old one had planned and has not fired; any other change leaves the next
    firing as it is. Raises Invalid, ChangedMeanwhile (by another person; that it fires meanwhile is fine)."""
    check(schedule, now=now)
    read_at, schedule.updated_at, schedule.updated_by = schedule.updated_at, now, by
    with transaction.atomic(using=router.db_for_write(Schedule)):
        for _ in range(TRIES):
            old = Schedule.objects.get(pk=schedule.pk)
            if old.updated_at != read_at:
                break
            _carry_on(schedule, old, now)
            fields = {name: getattr(schedule, name) for name in (*FIELDS, "next_planned_at", "next_fire_at", "updated_at", "updated_by")}
            if Schedule.objects.filter(pk=schedule.pk, step=old.step).update(**fields, step=old.step + 1):
                schedule.step = old.step + 1
                _written(schedule, definition(old), by, now)
                return schedule
        raise ChangedMeanwhile()


def set_enabled(schedule: Schedule, enabled: bool, *, by: str, now: datetime) -> Schedule:
    """Pause or resume. What passes while paused is not caught up. Saying it twice is fine."""
    if schedule.enabled == enabled:
        return schedule
    schedule.enabled = enabled
    return change(schedule, by=by, now=now)


def delete(schedule: Schedule, *, by: str, now: datetime) -> None:
    """Its tasks stay."""
    with transaction.atomic(using=router.db_for_write(Schedule)):
        beat_rows.forget(schedule)
        record(org_id=schedule.org_id, kind=Change.Kind.SCHEDULE, key=schedule.name, old=definition(schedule), new=None, by=by, at=now)
        schedule.delete()


def _carry_on(schedule: Schedule, old: Schedule, now: datetime) -> None:
    """An edited schedule's next time. One that is due, or that waits for its jitter, is not lost to another description."""
    if (rule_of(schedule), schedule.enabled) == (rule_of(old), old.enabled):
        schedule.next_planned_at, schedule.next_fire_at = old.next_planned_at, old.next_fire_at
    else:
        _aim(schedule, now)


def _aim(schedule: Schedule, now: datetime) -> None:
    """At the first time from now on."""
    rule = rule_of(schedule)
    # A start that is given is a time to fire; the making of an interval is not, its first time is one interval later.
    planned = rule.after(now - timedelta(milliseconds=1) if schedule.starts_at else now) if schedule.enabled else None
    schedule.next_planned_at = planned
    schedule.next_fire_at = rule.fire_at(planned) if planned else None


def _written(schedule: Schedule, old: Any, by: str, now: datetime) -> None:
    beat_rows.mirror(schedule)
    new = definition(schedule)
    record(org_id=schedule.org_id, kind=Change.Kind.SCHEDULE, key=schedule.name, old=old, new=new, by=by, at=now)


# ---- as JSON ----------------------------------------------------------------------------------------------


def definition(schedule: Schedule) -> dict[str, Any]:
    """What people wrote."""
    found = {name: getattr(schedule, name) for name in FIELDS}
    return {name: clock.iso(value) if isinstance(value, datetime) else value for name, value in found.items()}


def shape(schedule: Schedule, *, upcoming: int = 0, now: datetime | None = None) -> dict[str, Any]:
    found = {
        "name": schedule.name,
        **{name: value if value != "" or name == "description" else None for name, value in definition(schedule).items()},
        "next": clock.iso(schedule.next_planned_at) if schedule.enabled else None,
        "next_fire_at": clock.iso(schedule.next_fire_at) if schedule.enabled else None,
        "fired": schedule.fired,
        "last_task_id": schedule.last_task_id or None,
        "created_at": clock.iso(schedule.created_at),
        "created_by": schedule.created_by,
        "updated_at": clock.iso(schedule.updated_at),
        "updated_by": schedule.updated_by,
    }
    if upcoming and now is not None:
        found["upcoming"] = next_times(schedule, upcoming, now=now)
    return found


def next_times(schedule: Schedule, count: int, *, now: datetime) -> list[dict[str, Any]]:
    """The planned times from now on, paused or not."""
    rule, zone, found = rule_of(schedule), Rule(timezone=schedule.timezone, anchor=now).zone, []
    for planned in rule.times(now):
        local = planned.astimezone(zone).isoformat()
        found.append({"planned": clock.iso(planned), "local": local, "fires": clock.iso(rule.fire_at(planned))})
        if len(found) == count:
            break
    return found


def firing_shape(firing: ScheduleFiring) -> dict[str, Any]:
    return {
        "planned": clock.iso(firing.planned_at),
        "at": clock.iso(firing.at),
        "outcome": firing.outcome,
        "meaning": ScheduleFiring.Outcome(firing.outcome).label,
        "task_id": firing.task_id or None,
        "because": firing.because or None,
        "actor": firing.actor,
    }


def principal_of(schedule: Schedule) -> Principal:
    """Who submits its tasks: the platform, in the schedule's name."""
    return Principal(org_id=schedule.org_id, role="submitter", subject_id="", key_id="", name=f"schedule {schedule.name}")
