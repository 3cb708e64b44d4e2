"""Asking why, asking what would be, and the org's configuration, for both clients: a method gives what `_ask` gives, the
answer of `Client` and something to await of `AsyncClient`, so that each is written once. Answers are the platform's JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from jobplatform_sdk import client_calls as calls
from jobplatform_sdk.client_calls import TASKS, Answer, Call, _post

CONFIG = "/api/v1/org-config"


def _json(answer: Answer) -> Any:
    return answer.json()


def _nothing(answer: Answer) -> None:
    if answer.status >= 300:
        raise answer.error()


class Explaining:
    _ask: Any

    def explain(self, task_id: str) -> Any:
        """`summary`, `steps` (every decision with its record, in order), `waiting` (what holds it now; null when it has ended)."""
        return self._ask(Call(method="GET", path=calls.path_of(task_id, "explain"), read=_json))

    def simulate(
        self,
        entry: Mapping[str, Any],
        *,
        kind: str = "task",
        scripts: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        ask_bids: bool = False,
    ) -> Any:
        """What would become of this entry, without effect. Names as in `submit`; the rest is for operators:

        scripts     policy → script id, or {"script_id", "version"} (drafts too): approval, priority, auction_input, plan_retrieve
        config      configuration values instead of the org's
        ask_bids    really call for bids
        """
        options = {"scripts": scripts, "config": config, "ask_bids": ask_bids}
        given = {name: dict(value) if isinstance(value, Mapping) else value for name, value in options.items() if value}
        data = calls.complete(entry) if kind == "task" else dict(entry)
        return self._ask(_post(f"{TASKS}/simulate", {"type": kind, "data": data, "options": given}, _json))

    def config(self) -> Any:
        """Every configuration key of the org: `parameters`, each with value, default, type, meaning, version."""
        return self._ask(Call(method="GET", path=CONFIG, read=_json))

    def set_config(self, org_id: str, key: str, value: Any, *, version: int | None = None) -> Any:
        """For org admins. With `version`: only over that version (0: not set yet), else Conflict."""
        body = {"value": value} if version is None else {"value": value, "version": version}
        path = f"/org-config/{quote(org_id, safe='')}/{quote(key, safe='')}"
        return self._ask(_post(path, body, _json, repeatable=version is None))

    def unset_config(self, key: str, *, version: int | None = None) -> Any:
        """Back to the default."""
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        path = f"{CONFIG}/{quote(key, safe='')}"
        return self._ask(Call(method="DELETE", path=path, read=_nothing, headers=headers, repeatable=False))
