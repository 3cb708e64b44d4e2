"""Who is told of a job's end because the job named its URL.

The org's own endpoint with that very URL, else one that stands for all such URLs of a server (`for_jobs`, its URL is the
origin): one secret, one lane and one circuit breaker for a server, however many URLs of it jobs name.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from apps.core.addresses import HTTP_PORTS
from apps.webhooks.models import Endpoint


def origin(url: str) -> str:
    """`https://app.example.com:8443/done?order=7` → `https://app.example.com:8443`. The URL has been checked."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, HTTP_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def answering(endpoints: Iterable[Endpoint], url: str) -> Endpoint | None:
    """Which of these is told when a job names that URL."""
    found = {(row.url, row.for_jobs): row for row in endpoints}
    return found.get((url, False)) or found.get((origin(url), True))
