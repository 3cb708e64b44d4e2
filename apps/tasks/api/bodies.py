"""Bodies that several paths take."""

from __future__ import annotations

from typing import Any

from apps.core.http import optional_object
from apps.tasks.bodies import Body


def reason_of(request: Any) -> str:
    """`{"reason": "…"}`, or no body at all."""
    body = Body(optional_object(request))
    reason = body.text("reason")
    body.done()
    return reason
