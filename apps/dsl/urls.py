"""Paths of policy scripts. Included at the root. A script id may hold slashes, so the verbs stand first in the table."""

from __future__ import annotations

from django.urls import path

from apps.dsl import api, api_backtests, scripts

urlpatterns = [
    path("api/v1/policies", api.Policies.as_view(), name="policies"),
    path("api/v1/policies/<path:script_id>/activate", api.PolicyStatus.as_view(change=scripts.activate), name="policy-activate"),
    path("api/v1/policies/<path:script_id>/retire", api.PolicyStatus.as_view(change=scripts.retire), name="policy-retire"),
    path("api/v1/policies/<path:script_id>/run-tests", api.RunTests.as_view(), name="policy-tests"),
    path("api/v1/policies/<path:script_id>/diff", api.PolicyDiff.as_view(), name="policy-diff"),
    path("api/v1/policies/<path:script_id>/backtest", api_backtests.StartBacktest.as_view(), name="policy-backtest"),
    path("api/v1/backtests", api_backtests.Backtests.as_view(), name="backtests"),
    path("api/v1/backtests/<str:backtest_id>", api_backtests.BacktestDetail.as_view(), name="backtest"),
    path("api/v1/backtests/<str:backtest_id>/flips", api_backtests.BacktestFlips.as_view(), name="backtest-flips"),
    path("api/v1/policies/<path:script_id>", api.Policy.as_view(), name="policy"),
]
