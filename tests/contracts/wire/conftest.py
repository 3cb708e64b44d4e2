"""A NATS server that tests may kill, and the platform's wire to it."""

from __future__ import annotations

import shutil

import pytest

from tests import services


class Broker:
    """A NATS server of one test's own. `url` stays the same whatever happens to the process."""

    def __init__(self, directory):
        self._directory = directory
        self.server = services.nats_server(directory)
        self.url = f"nats://127.0.0.1:{self.server.port}"

    def up(self):
        self.server.start()

    def kill(self):
        self.server.kill()

    def wipe(self):
        """Killed, and its disk lost: streams, consumers, pushed accounts."""
        self.kill()
        for name in ("jetstream", "accounts"):
            shutil.rmtree(self._directory / name, ignore_errors=True)


def broker_for(tmp_path, settings):
    from apps.messaging import connection

    broker = Broker(tmp_path / "nats")
    broker.up()
    settings.NATS_URL = broker.url
    connection.reset()
    yield broker
    connection.reset()
    broker.kill()


@pytest.fixture
def broker(tmp_path, settings):
    yield from broker_for(tmp_path, settings)


@pytest.fixture
def wire(nats):
    from apps.messaging import connection

    current = connection.wire()
    assert current.wait_up(10)
    current.ensure_streams()
    return current


@pytest.fixture
def own_wire(broker):
    """The wire to a server that the test kills."""
    from apps.messaging import connection

    current = connection.wire()
    assert current.wait_up(10)
    current.ensure_streams()
    return current
