"""The ticker: fires schedules that are due. Any number of copies, and any number of beats that ring for them.

Record, act, record: in one transaction a schedule moves on to its next time (compare-and-set on `step`) and its firings are
written as `planned`; then each is submitted through intake under its derived id; then its row says what came of it. A ticker
that dies in between leaves rows that say `planned`, and the next one does them: the derived id makes of two tries one task.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import DatabaseError, InterfaceError, router, transaction
from django.db.models import F

from apps.core import ids
from apps.core.errors import Invalid, PlatformError, Unavailable
from apps.core.redis import RedisDown
from apps.tasks import steering
from apps.tasks.intake import Origin, OtherBody, TaskIntake, Verdict
from apps.tasks.models import Schedule, ScheduleFiring, Task
from apps.tasks.operating import schedules
from apps.tasks.operating.timing import plan
from apps.tasks.states import OPEN, TERMINAL

log = logging.getLogger(__name__)

ACTOR = "timetable"
LIMIT = 200
LEFT_LYING = timedelta(seconds=15)
"""A firing that says `planned` for so long was left by a ticker that died."""
KEPT = timedelta(days=90)
"""How long the history of firings goes back."""
LOOKED_BACK = 200
"""Of a schedule's tasks, so many of the latest are looked at for one that is still open."""
Outcome = ScheduleFiring.Outcome


@contextmanager
def _one_of_many(name: str) -> Iterator[None]:
    """What is wrong with one schedule (its time zone is gone, its policy is away) is told, and stops no other. What is wrong
    with a store rises: it stops them all, and the next tick begins again."""
    try:
        yield
    except PlatformError as error:
        log.warning("schedule.not_fired", extra={"schedule": name, "error": str(error)})
    except (DatabaseError, InterfaceError, *RedisDown):
        raise
    except Exception:  # the boundary of one schedule
        log.exception("schedule.broken", extra={"schedule": name})


class ScheduleTicker:
    def tick(self, *, now: datetime) -> int:
        """Fire what is due; the number of tasks submitted."""
        fired = 0
        due = Schedule.objects.filter(enabled=True, next_fire_at__lte=now, org__is_active=True)
        for schedule in due.order_by("next_fire_at")[:LIMIT]:
            with _one_of_many(str(schedule)):
                for firing in self._plan(schedule, now):
                    fired += self.carry_out(firing, schedule, now=now)
        return fired + self._left_lying(now)

    def run_now(self, schedule: Schedule, *, by: str, now: datetime) -> ScheduleFiring:
        """One task out of turn, whatever is open and whether or not the schedule is paused."""
        firing = self._row(schedule, now, Outcome.PLANNED, by, now)
        firing.save()
        self.carry_out(firing, schedule, now=now, out_of_turn=True)
        return firing

    # Deciding

    def _plan(self, schedule: Schedule, now: datetime) -> list[ScheduleFiring]:
        """The firings that this ticker is to carry out; none when another was first."""
        rule = schedules.rule_of(schedule)
        found = plan(rule, schedule.next_planned_at, catch_up=schedule.catch_up, bound=schedule.catch_up_max, now=now)
        rows = [self._row(schedule, at, Outcome.PLANNED, ACTOR, now) for at in found.fire]
        if found.missed and found.last_missed:
            missed = self._row(schedule, found.last_missed, Outcome.MISSED, ACTOR, now)
            missed.because = "the platform was away at this time" + (f", and at {found.missed - 1} before it" if found.missed > 1 else "")
            rows.append(missed)
        following = found.following
        moved = {
            "next_planned_at": following,
            "next_fire_at": rule.fire_at(following) if following else None,
            "step": schedule.step + 1,
        }
        with transaction.atomic(using=router.db_for_write(Schedule)):
            if not Schedule.objects.filter(pk=schedule.pk, step=schedule.step, enabled=True).update(**moved):
                return []
            ScheduleFiring.objects.bulk_create(rows, ignore_conflicts=True)
            ScheduleFiring.objects.filter(schedule=schedule, planned_at__lt=now - KEPT).delete()
        return [row for row in rows if row.outcome == Outcome.PLANNED]

    def _row(self, schedule: Schedule, planned: datetime, outcome: str, actor: str, now: datetime) -> ScheduleFiring:
        key = f"{schedule.pk}:{ids.task_key(schedule.org_id, schedules.task_id_of(schedule, planned))}"
        return ScheduleFiring(id=key, schedule=schedule, planned_at=planned, at=now, outcome=outcome, actor=actor)

    def _left_lying(self, now: datetime) -> int:
        rows = ScheduleFiring.objects.filter(outcome=Outcome.PLANNED, at__lte=now - LEFT_LYING).select_related("schedule")
        fired = 0
        for firing in rows.order_by("at")[:LIMIT]:
            with _one_of_many(str(firing)):
                fired += self.carry_out(firing, firing.schedule, now=now)
        return fired

    # Acting

    def carry_out(self, firing: ScheduleFiring, schedule: Schedule, *, now: datetime, out_of_turn: bool = False) -> bool:
        """Submit it, unless its overlap policy says no. True when there is a task."""
        task_id = schedules.task_id_of(schedule, firing.planned_at)
        if not out_of_turn and (before := self._open_before(schedule, task_id)):
            if schedule.overlap == Schedule.Overlap.SKIP:
                return self._told(firing, Outcome.OVERLAPPED, because=f"{before[0].task_id} is still {before[0].status}")
            if schedule.overlap == Schedule.Overlap.CANCEL_PREVIOUS:
                self._cancel(before, task_id, now)
        verdict = self._submit(schedule, firing, task_id, now)
        # Another body: the template was edited after a try that got as far as the task.
        if verdict.error is None or isinstance(verdict.error, OtherBody):
            return self._told(firing, Outcome.FIRED, task_id=task_id)
        if isinstance(verdict.error, Unavailable):
            raise verdict.error  # the row stays `planned`, and is tried again
        return self._told(firing, Outcome.REFUSED, task_id=task_id if verdict.status else "", because=str(verdict.error)[:1000])

    def _submit(self, schedule: Schedule, firing: ScheduleFiring, task_id: str, now: datetime) -> Verdict:
        try:
            entry = schedules.entry_of(schedule, firing.planned_at)
        except Invalid as error:
            return Verdict(task_id=task_id, error=error)
        origins = {task_id: Origin(schedule_id=schedule.name)}
        return TaskIntake().submit_many([entry], schedules.principal_of(schedule), now=now, origins=origins)[0]

    def _open_before(self, schedule: Schedule, task_id: str) -> list[Task]:
        if schedule.overlap == Schedule.Overlap.ALLOW:
            return []
        rows = Task.objects.filter(org_id=schedule.org_id, schedule_id=schedule.name).order_by("-sequence")
        latest = rows.only("key", "task_id", "status")[:LOOKED_BACK]
        return [task for task in latest if task.status in OPEN and task.task_id != task_id]

    def _cancel(self, tasks: list[Task], task_id: str, now: datetime) -> None:
        for task in Task.objects.filter(pk__in=[task.key for task in tasks]):
            if task.status not in TERMINAL:
                try:
                    steering.cancel(task, actor=ACTOR, reason=f"{task_id} took its place", now=now)
                except PlatformError as error:
                    log.info("schedule.not_cancelled", extra={"task": task.key, "error": str(error)})

    def _told(self, firing: ScheduleFiring, outcome: str, *, task_id: str = "", because: str = "") -> bool:
        changed = {"outcome": outcome, "task_id": task_id, "because": because}
        if ScheduleFiring.objects.filter(pk=firing.pk, outcome=Outcome.PLANNED).update(**changed) and outcome == Outcome.FIRED:
            Schedule.objects.filter(pk=firing.schedule_id).update(fired=F("fired") + 1, last_task_id=task_id)
            log.info("schedule.fired", extra={"schedule": firing.id, "task": task_id})
        firing.outcome, firing.task_id, firing.because = outcome, task_id, because
        return outcome == Outcome.FIRED

