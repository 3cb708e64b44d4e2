"""Standard Webhooks signatures, and the secrets they are made with.

A secret is not stored: it derives from the platform's SECRET_KEY, the endpoint and a random salt, so a copy of the database
signs nothing. A rotation makes a new salt; until the old one's time is over both sign.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import datetime

from django.conf import settings

from apps.webhooks.models import Endpoint

PREFIX = "whsec_"


def new_salt() -> str:
    return secrets.token_hex(16)


def secret(endpoint: Endpoint, salt: str) -> str:
    """As it is shown, once: `whsec_` and base64 of 32 bytes."""
    return PREFIX + base64.b64encode(_key(endpoint, salt)).decode()


def headers(endpoint: Endpoint, *, message_id: str, body: bytes, now: datetime) -> dict[str, str]:
    at = str(int(now.timestamp()))
    salts = [endpoint.secret_salt]
    if endpoint.previous_salt and endpoint.previous_until and now < endpoint.previous_until:
        salts.append(endpoint.previous_salt)
    signed = b".".join((message_id.encode(), at.encode(), body))
    signatures = (base64.b64encode(hmac.new(_key(endpoint, salt), signed, hashlib.sha256).digest()).decode() for salt in salts)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": at,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _key(endpoint: Endpoint, salt: str) -> bytes:
    return hmac.new(settings.SECRET_KEY.encode(), f"webhook:{endpoint.pk}:{salt}".encode(), hashlib.sha256).digest()
