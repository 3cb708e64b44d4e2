"""The one door for HTTP to addresses that users gave: webhooks, remote policies, role and auction services.

`check_url` says no before a URL is stored (`addresses.py` has the rules). `send` makes the call: the name is looked up
once, every address it leads to is judged, and the connection goes to one of those judged, so a name that leads elsewhere
a moment later changes nothing. TLS is verified against the name in the URL. No redirect is followed, no proxy of the
environment is used, and one deadline covers the whole call: looking up, connecting, TLS, and the last byte.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from apps.core import addresses
from apps.core.addresses import UnsafeUrl, check_url
from apps.core.breaker import CircuitBreaker
from apps.core.errors import Unavailable

__all__ = ["CircuitBreaker", "OutboundFailed", "Reply", "UnsafeUrl", "check_url", "send"]


class OutboundFailed(Unavailable):
    """No usable answer. `code`: refused (also: hung up, or does not speak HTTP), timeout, too_large, redirect, unsafe, tls."""

    sentence = "The other side gave no usable answer."

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Names in lower case; what came twice is joined by ", "."""
    body: bytes


def send(
    method: str,
    url: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    timeout_s: float,
    max_bytes: int,
    allow: Iterable[str] = (),
) -> Reply:
    """Any status but a redirect is a Reply; everything else raises OutboundFailed within `timeout_s`.

    `allow`: the org's `outbound_allow`, hosts that may be called although they are not on the public internet.
    """
    try:
        target = addresses.read(url, allow=allow)
    except UnsafeUrl as unsafe:
        raise OutboundFailed("unsafe", unsafe.sentence) from unsafe
    # Not at the top: an HTTP client is much to load, and most processes never call anybody.
    from apps.core import outbound_calls

    return outbound_calls.call(target, method, body=body, headers=headers, timeout_s=timeout_s, max_bytes=max_bytes)


def reset() -> None:
    """Close every connection (tests start afresh)."""
    if calls := sys.modules.get("apps.core.outbound_calls"):
        calls.reset()
