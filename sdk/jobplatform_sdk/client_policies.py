"""Policy scripts and backtests, for both clients: a method gives what `_ask` gives, the answer of `Client` and something to
await of `AsyncClient`. Answers are the platform's JSON objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from jobplatform_sdk.client_admin import _get, _json
from jobplatform_sdk.client_calls import Call, _post

POLICIES, BACKTESTS = "/api/v1/policies", "/api/v1/backtests"


def _send(path: str, **body: Any) -> Call[Any]:
    return _post(path, {name: value for name, value in body.items() if value is not None}, _json)


def _path(script_id: str, verb: str = "") -> str:
    return f"{POLICIES}/{quote(script_id, safe='/')}" + (f"/{verb}" if verb else "")


class PolicyCalls:
    """Operators look, test and backtest; org admins register, activate and retire."""

    _ask: Any

    def policies(self, *, hook: str | None = None, cursor: str | None = None) -> Any:
        """`{"items": […], "next_cursor"}`"""
        return self._ask(_get(POLICIES, hook=hook, cursor=cursor))

    def policy(self, script_id: str, *, version: int | None = None) -> Any:
        """With `source`, `tests` and `versions`."""
        return self._ask(_get(_path(script_id), version=version))

    def register_policy(
        self, script_id: str, *, hook: str, source: str, tests: Sequence[Any] | None = None, activate: bool | None = None
    ) -> Any:
        return self._ask(_send(POLICIES, script_id=script_id, hook=hook, source=source, tests=tests, activate=activate))

    def activate_policy(self, script_id: str, version: int) -> Any:
        """Refused (`tests_failed`) unless the version's own tests pass."""
        return self._ask(_send(_path(script_id, "activate"), version=version))

    def retire_policy(self, script_id: str, version: int) -> Any:
        return self._ask(_send(_path(script_id, "retire"), version=version))

    def test_policy(self, script_id: str, *, version: int | None = None, tests: Sequence[Any] | None = None) -> Any:
        """`{"passed", "failed", "tests": […]}`"""
        return self._ask(_send(_path(script_id, "run-tests"), version=version, tests=tests))

    def diff_policy(self, script_id: str, *, old: int | None = None, new: int | None = None) -> Any:
        return self._ask(_get(_path(script_id, "diff"), **{"from": old, "to": new}))

    def start_backtest(
        self,
        script_id: str,
        *,
        version: int | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        task_ids: Sequence[str] | None = None,
    ) -> Any:
        """Done at once, with `flips`, when it is short; else look again with `backtest(id)`."""
        window = {"since": since, "until": until, "limit": limit, "task_ids": list(task_ids) if task_ids else None}
        return self._ask(_send(_path(script_id, "backtest"), version=version, **window))

    def backtests(self, *, cursor: str | None = None) -> Any:
        return self._ask(_get(BACKTESTS, cursor=cursor))

    def backtest(self, backtest_id: str) -> Any:
        return self._ask(_get(f"{BACKTESTS}/{quote(backtest_id, safe='')}"))

    def backtest_flips(self, backtest_id: str, *, cursor: str | None = None, change: str | None = None) -> Any:
        return self._ask(_get(f"{BACKTESTS}/{quote(backtest_id, safe='')}/flips", cursor=cursor, change=change))
