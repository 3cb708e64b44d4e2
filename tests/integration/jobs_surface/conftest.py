from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.jobs import backends
from tests.integration.jobs_surface.kit import IDLE


@pytest.fixture(autouse=True)
def idle(redis) -> Iterator[None]:
    """Jobs wait until a test moves them, also those made by the code under test."""
    backends.adopt(IDLE)
    yield
    backends.adopt(None, IDLE.name)
