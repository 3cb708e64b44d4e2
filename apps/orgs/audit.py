"""The audit trail: one line for everything that an operator or an admin does. Called inside the transaction of the change
it tells about, where there is one.

    record(org_id="acme", kind=Change.Kind.CONFIG, key="max_attempts", old=5, new=3, by=principal.actor, at=now)

`old` and `new` are plain JSON: what it was and what it became (None: there was nothing, there is nothing). Whatever is named
like a secret in them is masked here once more, whoever calls. The request's id is added by itself.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import orjson

from apps.core import logs, observe
from apps.orgs.models import Change

MASK = "(secret)"
SIZE_MAX = 16 * 1024
"""Bytes of `old` or `new` as JSON; what is longer is kept as its beginning."""
KEY_LENGTH, BY_LENGTH = 180, 255
_SECRET = re.compile(r"secret|password|passphrase|token|credential|private_key|api_key$|hmac", re.IGNORECASE)


def record(*, org_id: str, kind: str, key: str, old: Any, new: Any, by: str, at: datetime) -> None:
    row = Change(org_id=org_id, kind=kind, key=key[:KEY_LENGTH], old=_kept(old), new=_kept(new), by=by[:BY_LENGTH], at=at)
    row.request_id = logs.bound().get("request_id", "")
    row.save()
    observe.AUDIT_ROWS.inc(str(kind))


def masked(value: Any) -> Any:
    """The same without what is named like a secret, at any depth."""
    if isinstance(value, dict):
        return {name: MASK if _is_secret(name, each) else masked(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(each) for each in value]
    return value


def _is_secret(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, (str, dict, list)) and bool(value) and _SECRET.search(name) is not None


def _kept(value: Any) -> Any:
    value = masked(value)
    written = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    if len(written) <= SIZE_MAX:
        return value
    return {"cut": written[:SIZE_MAX].decode(errors="ignore"), "bytes": len(written)}
