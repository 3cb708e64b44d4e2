"""An agent's API key as NATS sees it.

`jp_<key_id>_<secret>.<user JWT>`: HTTP looks at the part before the first dot; NATS at the JWT, and at a
signature by the user's nkey, whose seed derives from the secret. Nothing but the key itself is needed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import nkeys


class BadKey(ValueError):
    """The string is not an agent's API key."""


@dataclass(frozen=True, kw_only=True)
class AgentKey:
    """`token` names the agent on the wire; `org_id` and `subject_id` are decoded from it by the caller."""

    token: str
    jwt: str
    seed: bytes = field(repr=False)

    def signer(self) -> Callable[[str], bytes]:
        """Signs the server's nonce, as nats-py's `signature_cb` wants it."""
        pair = nkeys.from_seed(self.seed)
        return lambda nonce: base64.b64encode(pair.sign(nonce.encode()))


def user_seed(secret: str) -> bytes:
    """The nkey seed of the NATS user behind an API key's secret."""
    raw = hashlib.sha256(b"jobplatform-nats:" + secret.encode()).digest()
    return nkeys.encode_seed(raw, nkeys.PREFIX_BYTE_USER)


def split_key(api_key: str) -> AgentKey:
    """BadKey when the string has no JWT part or is cut; whether NATS accepts it is NATS's to say."""
    http_part, _, jwt = api_key.strip().partition(".")
    prefix, _, secret = http_part.removeprefix("jp_").partition("_")
    if not http_part.startswith("jp_") or not prefix or not secret:
        raise BadKey("An API key looks like jp_<id>_<secret>; this one does not.")
    if jwt.count(".") != 2:
        raise BadKey("This API key does not belong to an agent: it has no NATS part.")
    try:
        payload = jwt.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        token = claims["name"]
    except (ValueError, KeyError, TypeError):
        raise BadKey("The NATS part of this API key is damaged.") from None
    if not isinstance(token, str) or not token:
        raise BadKey("The NATS part of this API key names no agent.")
    return AgentKey(token=token, jwt=jwt, seed=user_seed(secret))
