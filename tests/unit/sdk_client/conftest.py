"""The same suite on both clients: `client` is the synchronous one, then the asynchronous one made to look like it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobplatform_sdk import client_bulk
from jobplatform_sdk.cli import main
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_async import AsyncClient
from jobplatform_sdk.client_calls import Patience
from tests.unit.sdk_client.wire_server import WireServer

KEY = "jp_0a1b2c3d4e5f_a-secret-of-no-importance"
QUICK = Patience(retries=4, first_seconds=0.001, ceiling_seconds=0.004)


class Awaited:
    """An AsyncClient whose every call runs to its end, and whose iterators are plain ones."""

    def __init__(self, make: Callable[[], AsyncClient]) -> None:
        self._runner = asyncio.Runner()
        self._client = self._runner.run(self._made(make))

    async def _made(self, make: Callable[[], AsyncClient]) -> AsyncClient:
        return make()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **options: Any) -> Any:
            found = method(*args, **options)
            if inspect.isawaitable(found):
                return self._runner.run(self._finished(found))
            return self._stepped(found)

        return call

    async def _finished(self, found: Any) -> Any:
        return await found

    def _stepped(self, source: Any) -> Iterator[Any]:
        async def one() -> Any:
            return await anext(source, self)

        try:
            while (item := self._runner.run(one())) is not self:
                yield item
        finally:
            self._runner.run(self._finished(source.aclose()))

    @property
    def naps(self) -> list[float]:
        return self._client.naps

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@pytest.fixture(autouse=True)
def no_source_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine any source may take a while, and what a script expects in one request would come in two."""
    monkeypatch.setattr(client_bulk, "SLOW_SECONDS", float("inf"))


@pytest.fixture
def server() -> Iterator[WireServer]:
    server = WireServer()
    yield server
    server.stop()


def make_client(server: WireServer) -> Client:
    """Its pauses between tries are written down instead of slept."""
    client = Client(server.url, KEY, patience=QUICK)
    client.naps = []
    client._sleep = client.naps.append
    return client


def make_async_client(server: WireServer) -> AsyncClient:
    client = AsyncClient(server.url, KEY, patience=QUICK)
    client.naps = []

    async def nap(seconds: float) -> None:
        client.naps.append(seconds)

    client._sleep = nap
    return client


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, server: WireServer) -> Iterator[Any]:
    made = make_client(server) if request.param == "sync" else Awaited(lambda: make_async_client(server))
    yield made
    made.close()


@pytest.fixture
def jobctl(server, monkeypatch, capsys):
    """Runs it in this process with its output behind a pipe; gives (exit status, standard output, standard error)."""

    monkeypatch.setenv("JOBPLATFORM_URL", server.url)
    monkeypatch.setenv("JOBPLATFORM_API_KEY", KEY)
    server.is_knocked_at = True

    def run(*arguments):
        try:
            status = main(arguments)
        except SystemExit as left:
            status = left.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run
