from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from apps.core import outbound
from tests.integration.outbound.lying_server import LyingServer


@pytest.fixture
def serve(settings) -> Iterator[Callable[..., LyingServer]]:
    """`serve(speak)` starts a server on loopback and opens loopback to orgs."""
    settings.OUTBOUND_ALLOW = ["127.0.0.1", "localhost"]
    started: list[LyingServer] = []

    def start(speak, **how) -> LyingServer:
        started.append(LyingServer(speak, **how))
        return started[-1]

    outbound.reset()
    yield start
    outbound.reset()
    for server in started:
        server.close()
