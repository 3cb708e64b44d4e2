from __future__ import annotations

from collections.abc import Iterator

import pytest

from apps.dsl.engine import Engine, Evaluation, sha256


@pytest.fixture
def sandbox() -> Iterator[Engine]:
    """An engine of one sandbox process, its own for this test."""
    engine = Engine(processes=1)
    yield engine
    engine.close()


@pytest.fixture
def sandboxes() -> Iterator[Engine]:
    engine = Engine(processes=2)
    yield engine
    engine.close()


def call(source: str, *arguments, function: str = "approve", timeout_ms: int = 200) -> Evaluation:
    return Evaluation(source=source, sha256=sha256(source), function=function, arguments=arguments or ({},), timeout_ms=timeout_ms)
