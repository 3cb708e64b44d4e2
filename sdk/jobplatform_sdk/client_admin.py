"""Webhooks and the audit trail, for both clients: a method gives what `_ask` gives, the answer of `Client` and something to
await of `AsyncClient`, so that each is written once.

Rows are the platform's JSON objects. Lists come page by page: `{"items": […], "next_cursor": …}`; give the cursor back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from jobplatform_sdk.client_calls import Answer, Call, _post, written

WEBHOOKS, AUDIT = "/api/v1/webhooks", "/api/v1/audit"


def _json(answer: Answer) -> Any:
    return answer.json()


def _nothing(answer: Answer) -> None:
    if answer.status >= 300:
        raise answer.error()


def _params(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = []
    for name, value in values.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is not None:
                found.append((name, one.isoformat() if isinstance(one, datetime) else str(one)))
    return tuple(found)


def _get(path: str, **params: Any) -> Call[Any]:
    return Call(method="GET", path=path, read=_json, params=_params(params))


def _path(*parts: str) -> str:
    return "/".join((WEBHOOKS, *(quote(part, safe="") for part in parts)))


class AdminCalls:
    """Operators and org admins."""

    _ask: Any

    # ---- webhooks ----

    def webhooks(self) -> Any:
        """`{"items": [endpoint, …]}`"""
        return self._ask(_get(WEBHOOKS))

    def webhook(self, endpoint_id: str) -> Any:
        return self._ask(_get(_path(endpoint_id)))

    def create_webhook(self, url: str, *, events: Sequence[str] = ("*",), description: str = "", enabled: bool = True) -> Any:
        """The endpoint with its `secret`, which is shown this once."""
        body = {"url": url, "events": list(events), "description": description, "enabled": enabled}
        return self._ask(_post(WEBHOOKS, body, _json, repeatable=False))

    def update_webhook(self, endpoint_id: str, **changes: Any) -> Any:
        """changes: url, events, description, enabled."""
        headers = {"Content-Type": "application/json"}
        return self._ask(Call(method="PATCH", path=_path(endpoint_id), read=_json, body=written(changes, "The change"), headers=headers))

    def delete_webhook(self, endpoint_id: str) -> Any:
        return self._ask(Call(method="DELETE", path=_path(endpoint_id), read=_nothing, repeatable=False))

    def rotate_webhook_secret(self, endpoint_id: str, *, overlap_s: int = 86_400) -> Any:
        """The endpoint with its new `secret`; the old one signs, too, for `overlap_s` more seconds."""
        return self._ask(_post(_path(endpoint_id, "rotate-secret"), {"overlap_s": overlap_s}, _json, repeatable=False))

    def ping_webhook(self, endpoint_id: str) -> Any:
        """The delivery; look at it again to see what came of it."""
        return self._ask(_post(_path(endpoint_id, "ping"), {}, _json, repeatable=False))

    def webhook_deliveries(
        self, endpoint_id: str, *, state: str | None = None, event: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Any:
        """A page of the log, newest first."""
        return self._ask(_get(_path(endpoint_id, "deliveries"), state=state, event=event, limit=limit, cursor=cursor))

    def webhook_delivery(self, endpoint_id: str, delivery_id: str) -> Any:
        """With its payload and every try."""
        return self._ask(_get(_path(endpoint_id, "deliveries", delivery_id)))

    def replay_webhook_delivery(self, endpoint_id: str, delivery_id: str) -> Any:
        return self._ask(_post(_path(endpoint_id, "deliveries", delivery_id, "replay"), {}, _json))

    def replay_webhook(self, endpoint_id: str, since: datetime | str, *, missed: bool = False) -> Any:
        """Send all that failed since then again; `missed`: and what happened while it was disabled. `{"replayed": n}`"""
        at = since.isoformat() if isinstance(since, datetime) else since
        return self._ask(_post(_path(endpoint_id, "replay"), {"since": at, "missed": missed}, _json))

    # ---- the audit trail ----

    def audit(
        self,
        *,
        kind: str | Sequence[str] | None = None,
        key: str | None = None,
        by: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Any:
        """A page of who changed what, newest first."""
        return self._ask(_get(AUDIT, kind=kind, key=key, by=by, since=since, until=until, limit=limit, cursor=cursor))

    def audit_export(self, *, form: str = "ndjson", **filters: Any) -> Any:
        """All lines that match, as bytes: `ndjson` or `csv`. Filters as of `audit`."""
        return self._ask(Call(method="GET", path=f"{AUDIT}/export", read=_body, params=_params({"format": form, **filters})))


def _body(answer: Answer) -> bytes:
    if answer.status >= 300:
        raise answer.error()
    return answer.body
