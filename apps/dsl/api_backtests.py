"""Backtests over HTTP: start one, look at it, page through the decisions that flip."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.core import clock
from apps.core.errors import Invalid, Problem
from apps.core.http import answer, read_object
from apps.core.pages import page_of
from apps.dsl import api_docs_backtests as docs
from apps.dsl import backtest, scripts
from apps.dsl.comparing import told
from apps.dsl.models import Backtest, BacktestFlip
from apps.dsl.policies import Hook
from apps.orgs.access import RequireRole

PAGE = 100
FIELDS = ("version", "since", "until", "limit", "task_ids")


class StartBacktest(APIView):
    permission_classes = [RequireRole("operator")]

    @docs.START
    def post(self, request: Request, script_id: str) -> HttpResponse:
        version, window = _wanted(read_object(request))
        script = backtest.version_of(request.user.org_id, script_id, version) if scripts.can_exist(script_id) else None
        if script is None:
            raise scripts.UnknownScript(script_id=script_id)
        test = backtest.start(script, window, org_id=request.user.org_id, by=request.user.actor, now=clock.now())
        if test.status in (Backtest.Status.QUEUED, Backtest.Status.RUNNING):
            return answer(shown(test), 202, {"Location": f"/api/v1/backtests/{test.pk}"})
        return answer({**shown(test), "flips": flips(test, 0)[0]})


class Backtests(APIView):
    permission_classes = [RequireRole("operator")]

    @docs.LIST
    def get(self, request: Request) -> HttpResponse:
        found = Backtest.objects.filter(org_id=request.user.org_id).order_by("-id")
        if cursor := request.query_params.get("cursor", ""):
            found = found.filter(id__lt=cursor[:32])
        page, following = page_of(found, PAGE, lambda test: test.pk)
        return answer({"items": [shown(test) for test in page], "next_cursor": following})


class BacktestDetail(APIView):
    permission_classes = [RequireRole("operator")]

    @docs.SHOW
    def get(self, request: Request, backtest_id: str) -> HttpResponse:
        return answer(shown(backtest.find(request.user.org_id, backtest_id)))


class BacktestFlips(APIView):
    permission_classes = [RequireRole("operator")]

    @docs.FLIPS
    def get(self, request: Request, backtest_id: str) -> HttpResponse:
        test = backtest.find(request.user.org_id, backtest_id)
        cursor = request.query_params.get("cursor", "0")
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 9):
            raise Invalid([Problem(field="cursor", code="bad_value", message="is not one of ours")])
        items, following = flips(test, int(cursor), request.query_params.get("change"))
        return answer({"items": items, "next_cursor": following})


def shown(test: Backtest) -> dict[str, Any]:
    return {
        "id": test.pk,
        "script_id": test.script_id,
        "version": test.version,
        "hook": test.hook,
        "window": test.window,
        "status": test.status,
        "summary": _summary(test),
        "runs_total": test.runs_total,
        "runs_seen": test.runs_seen,
        "result": test.result,
        "error": test.error,
        "created_at": clock.iso(test.created_at),
        "created_by": test.created_by,
        "ended_at": clock.iso(test.ended_at),
        "status_url": f"/api/v1/backtests/{test.pk}",
    }


def _summary(test: Backtest) -> str:
    """Where it is, or what it found, in a sentence or two."""
    if test.result and not test.error:
        return told(Hook(test.hook), test.result)
    if test.error:
        return test.error
    if test.status == Backtest.Status.QUEUED:
        return f"It waits for a worker; {test.runs_total:,} recorded decisions will be asked again."
    return f"{test.runs_seen:,} of {test.runs_total:,} recorded decisions were asked again so far."


def flips(test: Backtest, after: int, change: str | None = None) -> tuple[list[dict[str, Any]], str | None]:
    """A page of what flips, oldest first, and the cursor of the next."""
    rows = BacktestFlip.objects.filter(backtest=test, place__gt=after, **({"change": change[:64]} if change else {})).order_by("place")
    page, following = page_of(rows, PAGE, lambda flip: str(flip.place))
    items = [
        {
            "task_id": flip.task_key.partition("/")[2],
            "run_id": flip.run_id,
            "place": flip.place,
            "change": flip.change,
            "old": flip.old,
            "new": flip.new,
        }
        for flip in page
    ]
    return items, following


def _wanted(body: dict[str, Any]) -> tuple[int | None, backtest.Window]:
    problems = [Problem(field=name[:64], code="unknown", message="is not known here") for name in body if name not in FIELDS]
    version, limit = body.get("version"), body.get("limit", backtest.LIMIT_DEFAULT)
    if version is not None and not (type(version) is int and 0 < version < 2**31):
        problems.append(Problem(field="version", code="wrong_type", message="must be a version number"))
    if not (type(limit) is int and 0 < limit <= backtest.LIMIT_MAX):
        problems.append(Problem(field="limit", code="wrong_type", message=f"must be a whole number from 1 to {backtest.LIMIT_MAX}"))
    task_ids = body.get("task_ids", [])
    if not isinstance(task_ids, list) or len(task_ids) > backtest.TASK_IDS or any(type(each) is not str or not each for each in task_ids):
        problems.append(Problem(field="task_ids", code="wrong_type", message=f"must be a list of at most {backtest.TASK_IDS} task ids"))
    instants = {name: clock.read(body[name]) if body.get(name) is not None else None for name in ("since", "until")}
    for name, at in instants.items():
        if at is None and body.get(name) is not None:
            problems.append(Problem(field=name, code="wrong_type", message="must be an instant such as 2026-11-22T12:00:00Z"))
    if not problems and instants["since"] and instants["until"] and instants["since"] >= instants["until"]:
        problems.append(Problem(field="until", code="out_of_range", message="must be after since"))
    if problems:
        raise Invalid(problems)
    return version, backtest.Window(**instants, limit=limit, task_ids=tuple(task_ids))
