"""Signatures of HTTP messages, as Standard Webhooks writes them (www.standardwebhooks.com): HMAC-SHA256 over
`<id>.<timestamp>.<body>`, in base64 after `v1,`. Any of its libraries can check ours.

A secret is text; one that begins with `whsec_` is base64 behind it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
WINDOW_SECONDS = 300
"""How far the clocks of the two sides may differ; an older message is a replay."""


class BadSignature(Exception):
    """Says in half a sentence what is wrong."""


def headers(secret: str, *, message_id: str, body: bytes, now: datetime) -> dict[str, str]:
    at = str(int(now.timestamp()))
    return {ID: message_id, TIMESTAMP: at, SIGNATURE: f"v1,{_digest(secret, message_id, at, body)}"}


def verify(secret: str, given: Mapping[str, str], *, message_id: str, body: bytes, now: datetime) -> None:
    """`given`: headers with names in lower case. Raises BadSignature."""
    at, signatures = given.get(TIMESTAMP, ""), given.get(SIGNATURE, "")
    if not at or not signatures or given.get(ID) is None:
        raise BadSignature("it is not signed")
    if given[ID] != message_id:
        raise BadSignature("it is signed for another message")
    if not (at.isascii() and at.isdigit() and len(at) <= 12) or abs(int(at) - now.timestamp()) > WINDOW_SECONDS:
        raise BadSignature("its timestamp is outside the window")
    right = f"v1,{_digest(secret, message_id, at, body)}"
    # Several may be given, with blanks between them, while a secret is being replaced.
    matches = [hmac.compare_digest(each.encode(), right.encode()) for each in signatures.split(" ")[:8]]
    if not any(matches):
        raise BadSignature("its signature is wrong")


def _digest(secret: str, message_id: str, at: str, body: bytes) -> str:
    return base64.b64encode(hmac.digest(_key(secret), f"{message_id}.{at}.".encode() + body, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            pass
    return secret.encode()
