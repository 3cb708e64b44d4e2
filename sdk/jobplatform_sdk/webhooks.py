"""For whoever receives webhooks: is this one really from the platform?

    from jobplatform_sdk import verify_webhook

    event = verify_webhook(request.body, request.headers, secret)   # {"type": "task.completed", "timestamp": …, "data": {…}}

Signatures are those of Standard Webhooks, so any of its libraries will do as well. A webhook may come twice: remember the
`webhook-id` header of those you have handled.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

TOLERANCE_SECONDS = 300.0
PREFIX = "whsec_"


class BadWebhook(ValueError):  # noqa: N818
    """Not from the platform, not for you, or too old. Answer 400 and do nothing."""


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str | Iterable[str],
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> dict[str, Any]:
    """The event, once its signature is found right. `body`: the bytes as they came, before any parsing. `secret`: as it was
    shown, or several during a rotation. Raises BadWebhook."""
    raw = body.encode() if isinstance(body, str) else bytes(body)
    found = {str(name).lower(): str(value) for name, value in headers.items()}
    try:
        message_id, stamp, said = (found[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise BadWebhook(f"The header {error.args[0]} is missing.") from None
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise BadWebhook("The header webhook-timestamp is not a time.")
    if abs((time.time() if now is None else now) - int(stamp)) > tolerance_seconds:
        raise BadWebhook("The webhook is too old, or from the future.")
    signed = b".".join((message_id.encode(), stamp.encode(), raw))
    given = [part.partition(",")[2] for part in said.split(" ") if part.startswith("v1,")]
    matches = False
    for one in [secret] if isinstance(secret, str) else secret:
        right = base64.b64encode(hmac.new(_key(one), signed, hashlib.sha256).digest())
        for signature in given:
            matches |= hmac.compare_digest(right, signature.encode())
    if not matches:
        raise BadWebhook("No signature is right.")
    try:
        event = json.loads(raw)
    except ValueError:
        raise BadWebhook("The body is not JSON.") from None
    if not isinstance(event, dict):
        raise BadWebhook("The body is not an object.")
    return event


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("That is not a webhook secret; it looks like whsec_…") from None
