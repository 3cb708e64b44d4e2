"""What the OpenAPI document says about backtests."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema, inline_serializer
from rest_framework import serializers

from apps.core.schema import problems
from apps.dsl.api_docs import HOOKS, TAG
from apps.dsl.models import Backtest

_FIELDS = {
    "id": serializers.CharField(),
    "script_id": serializers.CharField(),
    "version": serializers.IntegerField(),
    "hook": serializers.ChoiceField(choices=HOOKS),
    "window": serializers.JSONField(help_text="since, until, limit, task_ids"),
    "status": serializers.ChoiceField(choices=Backtest.Status.choices),
    "summary": serializers.CharField(help_text="where it is, or what it found, in a sentence or two"),
    "runs_total": serializers.IntegerField(help_text="recorded decisions in the window"),
    "runs_seen": serializers.IntegerField(help_text="asked again so far"),
    "result": serializers.JSONField(
        allow_null=True,
        help_text="runs, unchanged, flipped, changes (count by kind), errors, call_us; for priority also `queue`: kendall_tau, movers",
    ),
    "error": serializers.CharField(),
    "created_at": serializers.DateTimeField(),
    "created_by": serializers.CharField(),
    "ended_at": serializers.DateTimeField(allow_null=True),
    "status_url": serializers.CharField(),
}
_FLIP = inline_serializer(
    "BacktestFlip",
    {
        "task_id": serializers.CharField(),
        "run_id": serializers.CharField(help_text="the recorded decision"),
        "place": serializers.IntegerField(),
        "change": serializers.CharField(help_text="such as accept -> reject, raised, picks another"),
        "old": serializers.JSONField(help_text="decision, reason, output, error, script_id, version"),
        "new": serializers.JSONField(help_text="decision, reason, output, error"),
    },
    many=True,
)
_BACKTEST = inline_serializer("Backtest", _FIELDS)
_MISSING = OpenApiResponse(description="No such backtest in this org.")
_CURSOR = OpenApiParameter("cursor", description="`next_cursor` of the page before")

START = extend_schema(
    operation_id="policies_backtest",
    tags=TAG,
    summary="Ask recorded decisions again of a version of a script",
    description="A short one (2,000 decisions, 5 seconds) is answered at once with the first flips; a long one with 202 and `status_url`.",
    request=inline_serializer(
        "StartBacktest",
        {
            "version": serializers.IntegerField(required=False, help_text="default: the newest"),
            "since": serializers.DateTimeField(required=False),
            "until": serializers.DateTimeField(required=False),
            "limit": serializers.IntegerField(required=False, help_text="the newest so many; default 10,000, at most 500,000"),
            "task_ids": serializers.ListField(child=serializers.CharField(), required=False, help_text="only these tasks; at most 1,000"),
        },
    ),
    responses={200: inline_serializer("BacktestWithFlips", {**_FIELDS, "flips": _FLIP}), 202: _BACKTEST, **problems(404, 409, 422)},
    examples=[OpenApiExample("the last day", {"version": 3, "since": "2026-11-21T00:00:00Z", "limit": 100000}, request_only=True)],
)
LIST = extend_schema(
    operation_id="backtests_list",
    tags=TAG,
    summary="Backtests of the org, newest first",
    parameters=[_CURSOR],
    responses=inline_serializer(
        "BacktestPage", {"items": inline_serializer("Backtests", _FIELDS, many=True), "next_cursor": serializers.CharField(allow_null=True)}
    ),
)
SHOW = extend_schema(operation_id="backtests_show", tags=TAG, summary="A backtest", responses={200: _BACKTEST, 404: _MISSING})
FLIPS = extend_schema(
    operation_id="backtests_flips",
    tags=TAG,
    summary="Decisions that would have been others, oldest first",
    parameters=[_CURSOR, OpenApiParameter("change", description="only this kind of change")],
    responses={
        200: inline_serializer("BacktestFlipPage", {"items": _FLIP, "next_cursor": serializers.CharField(allow_null=True)}),
        404: _MISSING,
    },
)
