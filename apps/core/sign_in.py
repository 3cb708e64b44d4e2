"""Signing in with a password, and how often that may go wrong.

After LOGIN_FAILURES wrong tries for one account from one address within LOGIN_WINDOW_S seconds the next ones are answered 429
with `Retry-After`, and no password is looked at until the window is over, the right one included; one address may go wrong
ADDRESS_TIMES as often over all accounts. Whether an account exists makes no difference. A sign-in forgets the account's count.

While Redis is away nothing is counted: hashing still makes each try slow, and nobody is locked out. It is logged.

| Redis key | value | owner |
|---|---|---|
| `login:<digest of account and address>`, `login:<digest of address>` | hash: count, upto (ms) | expires with its window |
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse

from apps.core import clock, redis

log = logging.getLogger(__name__)

ADDRESS_TIMES = 20
_SCRIPT = Path(__file__).with_name("tries.lua")


class Tries:
    """Of one account from one address."""

    def __init__(self, account: str, address: str) -> None:
        self._keys = [_key(account.strip().casefold(), address), _key(address)]

    def take(self, *, now: datetime) -> int:
        """0: go on, and say `fine` if it was right. Else the seconds until the next try is taken."""
        most = settings.LOGIN_FAILURES
        if most <= 0:
            return 0
        return math.ceil(self._run("take", clock.to_ms(now), int(settings.LOGIN_WINDOW_S * 1000), most, most * ADDRESS_TIMES) / 1000)

    def fine(self) -> None:
        self._run("fine", 0, 0)

    def _run(self, *args: Any) -> int:
        try:
            return int(redis.script(_SCRIPT)(keys=self._keys, args=list(args)))
        except redis.RedisDown as error:
            redis.log_away(error)
            return 0


class Limited:
    """Before Django's AuthenticationForm: tries are counted before the password is looked at."""

    request: HttpRequest
    data: Any

    def clean(self) -> dict[str, Any]:
        address = address_of(self.request)
        tries = Tries(str(self.data.get("username", "")), address)
        if wait := tries.take(now=clock.now()):
            log.warning("sign_in.limited", extra={"address": address, "wait_s": wait})
            self.request.sign_in_wait = wait  # type: ignore[attr-defined]
            raise ValidationError(f"Too many failed attempts. Try again in {_words(wait)}.", code="too_many")
        found: dict[str, Any] = super().clean()  # type: ignore[misc]
        tries.fine()
        return found


def limited(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Around a view with such a form: the page of a try that was not taken is a 429 and says when to come back."""

    @wraps(view)
    def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        if wait := getattr(request, "sign_in_wait", 0):
            response.status_code = 429
            response["Retry-After"] = str(wait)
        return response

    return answered


def address_of(request: HttpRequest) -> str:
    """Who is calling: what the outermost of our TRUSTED_PROXIES saw, else who is connected. Of IPv6 the network, as one caller has
    a whole one."""
    seen = request.META.get("REMOTE_ADDR", "")
    hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
    if 0 < settings.TRUSTED_PROXIES <= len(hops):
        seen = hops[-settings.TRUSTED_PROXIES] or seen
    try:
        found = ipaddress.ip_address(seen)
    except ValueError:
        return seen[:64]
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found.packed[:8] + bytes(8), 64)))
    return str(found)


def _key(*parts: str) -> str:
    return redis.key("login", hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32])


def _words(seconds: int) -> str:
    count, unit = (seconds, "second") if seconds < 90 else (math.ceil(seconds / 60), "minute")
    return f"{count} {unit}{'' if count == 1 else 's'}"
