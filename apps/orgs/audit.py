"""One line into the audit trail. Called inside the transaction of the change it tells about."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apps.orgs.models import Change


def record(*, org_id: str, kind: str, key: str, old: Any, new: Any, by: str, at: datetime) -> None:
    Change(org_id=org_id, kind=kind, key=key, old=old, new=new, by=by, at=at).save()
