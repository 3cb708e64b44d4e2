"""Schedules over HTTP."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from apps.core import clock
from apps.core.errors import Invalid, Problem
from apps.core.http import answer, read_object
from apps.core.pages import page_of
from apps.core.queries import Query, cursor_of, read_cursor
from apps.orgs.access import OPERATOR, SUBMITTER, RequireRole
from apps.tasks.api import docs_schedules as docs
from apps.tasks.models import Schedule
from apps.tasks.operating import schedules
from apps.tasks.operating.schedule_ticker import ScheduleTicker

NEXT_SHOWN, NEXT_MAX, FIRINGS_SHOWN, FIRINGS_MAX = 5, 100, 50, 500
RESERVED = "preview"


class Schedules(APIView):
    permission_classes = [RequireRole(SUBMITTER, POST=OPERATOR)]

    @extend_schema(**docs.LIST)
    def get(self, request: Any) -> HttpResponse:
        query = Query(request.query_params, {"limit", "cursor"})
        limit = query.limit()
        query.done()
        rows = Schedule.objects.filter(org_id=request.user.org_id).order_by("name")
        if query.cursor is not None:
            rows = rows.filter(name__gt=read_cursor(query.cursor, (str,))[0])
        found, following = page_of(rows, limit, lambda schedule: cursor_of(schedule.name))
        return answer({"items": [schedules.shape(schedule) for schedule in found], "next_cursor": following})

    @extend_schema(**docs.CREATE)
    def post(self, request: Any) -> HttpResponse:
        now = clock.now()
        made = schedules.read(read_object(request), Schedule(org_id=request.user.org_id))
        if made.name == RESERVED:
            raise Invalid([Problem(field="name", code="reserved", message="is a reserved word")])
        made = schedules.create(made, request.user.submitter, by=request.user.actor, now=now)
        return answer(schedules.shape(made, upcoming=NEXT_SHOWN, now=now), 201, {"Location": f"/api/v1/schedules/{made.name}"})


class PreviewSchedule(APIView):
    permission_classes = [RequireRole(SUBMITTER)]

    @extend_schema(**docs.PREVIEW)
    def post(self, request: Any) -> HttpResponse:
        now = clock.now()
        count = _count(request, NEXT_SHOWN, NEXT_MAX)
        body = {"name": "preview", "entry": {}, **read_object(request)}
        asked = schedules.read(body, Schedule(org_id=request.user.org_id, created_at=now))
        entry, asked.entry = asked.entry, asked.entry or {"task_goal": "-", "task_intent": "-", "task_priority_value": 0}
        schedules.check(asked, now=now)
        asked.entry = entry
        return answer({"upcoming": schedules.next_times(asked, count, now=now)})


class _Schedule(APIView):
    permission_classes = [RequireRole(OPERATOR)]

    def schedule(self, name: str) -> Schedule:
        return schedules.find(self.request.user.org_id, name)


class OneSchedule(_Schedule):
    permission_classes = [RequireRole(OPERATOR, GET=SUBMITTER)]

    @extend_schema(**docs.GET)
    def get(self, request: Any, name: str) -> HttpResponse:
        return answer(schedules.shape(self.schedule(name), upcoming=NEXT_SHOWN, now=clock.now()))

    @extend_schema(**docs.CHANGE)
    def patch(self, request: Any, name: str) -> HttpResponse:
        schedule, now = self.schedule(name), clock.now()
        changed = schedules.change(schedules.read(read_object(request), schedule), by=request.user.actor, now=now)
        return answer(schedules.shape(changed, upcoming=NEXT_SHOWN, now=now))

    @extend_schema(**docs.DELETE)
    def delete(self, request: Any, name: str) -> HttpResponse:
        schedules.delete(self.schedule(name), by=request.user.actor, now=clock.now())
        return HttpResponse(status=204)


class NextTimes(_Schedule):
    permission_classes = [RequireRole(SUBMITTER)]

    @extend_schema(**docs.NEXT)
    def get(self, request: Any, name: str) -> HttpResponse:
        count = _count(request, NEXT_SHOWN, NEXT_MAX)
        return answer({"items": schedules.next_times(self.schedule(name), count, now=clock.now())})


class Firings(_Schedule):
    permission_classes = [RequireRole(SUBMITTER)]

    @extend_schema(**docs.FIRINGS)
    def get(self, request: Any, name: str) -> HttpResponse:
        count = _count(request, FIRINGS_SHOWN, FIRINGS_MAX, "cursor")
        rows = self.schedule(name).firings.order_by("-planned_at", "-pk")
        if "cursor" in request.query_params:
            planned_ms, key = read_cursor(request.query_params["cursor"], (int, str))
            planned = clock.from_ms(planned_ms)
            rows = rows.filter(planned_at__lte=planned).exclude(planned_at=planned, pk__gte=key)
        found, following = page_of(rows, count, lambda firing: cursor_of(clock.to_ms(firing.planned_at), firing.pk))
        return answer({"items": [schedules.firing_shape(firing) for firing in found], "next_cursor": following})


class Pause(_Schedule):
    @extend_schema(**docs.PAUSE)
    def post(self, request: Any, name: str) -> HttpResponse:
        return answer(schedules.shape(schedules.set_enabled(self.schedule(name), False, by=request.user.actor, now=clock.now())))


class Resume(_Schedule):
    @extend_schema(**docs.RESUME)
    def post(self, request: Any, name: str) -> HttpResponse:
        now = clock.now()
        schedule = schedules.set_enabled(self.schedule(name), True, by=request.user.actor, now=now)
        return answer(schedules.shape(schedule, upcoming=NEXT_SHOWN, now=now))


class RunNow(_Schedule):
    @extend_schema(**docs.RUN)
    def post(self, request: Any, name: str) -> HttpResponse:
        firing = ScheduleTicker().run_now(self.schedule(name), by=request.user.actor, now=clock.now())
        return answer(schedules.firing_shape(firing), 201)


def _count(request: Any, default: int, most: int, *others: str) -> int:
    query = Query(request.query_params, {"count", *others})
    count = query.whole("count", most, default)
    query.done()
    return count
