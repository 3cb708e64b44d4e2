from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from apps.webhooks import derive
from apps.webhooks.book import WebhookBook
from apps.webhooks.models import Endpoint
from apps.webhooks.sender import Lane
from tests.factories import NOON, make_org
from tests.integration.webhooks.receiver import Receiver

EARLIER = NOON - timedelta(days=3000)
"""Ids of transitions carry the real time, tests' moments do not: endpoints made so early want all of them."""


@pytest.fixture(autouse=True)
def nobody_listens() -> Iterator[None]:
    derive.forget()
    yield
    derive.forget()


@pytest.fixture
def receiver(settings) -> Iterator[Receiver]:
    server = Receiver()
    settings.OUTBOUND_ALLOW = [server.host]
    yield server
    server.close()


@pytest.fixture
def endpoint(redis, receiver) -> Any:
    """`endpoint(events=["*"])` → (row, secret), of an org that may call the receiver."""

    def make(org_id: str = "acme", **wish: Any) -> tuple[Endpoint, str]:
        make_org(org_id, outbound_allow=[receiver.host])
        return WebhookBook(org_id=org_id, by="tests", now=EARLIER).create({"url": receiver.url, **wish})

    return make


def serve(row: Endpoint, *, now: Any = NOON, waves: int = 50) -> int:
    """Send what is due at that moment; how many requests that were."""
    left = iter(range(waves))
    return Lane(row.pk, now=lambda: now).run(going_on=lambda: next(left, None) is not None)
