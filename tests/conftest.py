"""Fixtures shared by every floor. Servers are real, started once per xdist worker, the first time a test asks.

`redis`, `nats`     a real Valkey, a real NATS server with JetStream; emptied before each test
`db`, `transactional_db` and `@pytest.mark.django_db`   pytest-django's, on every alias. The test database is a file, so
                    threads and processes can share it; those need `transactional_db` (plain `db` holds one open transaction)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples

from tests import early, services, stacks
from tests.lying_server import LyingServer

# Two cores and many processes: how long an example takes says nothing about the code.
examples.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
examples.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def cheap_where_nothing_is_tested() -> None:
    """Every client of Django's would look for static files anew, and every password be hashed for half a second."""
    from django.conf import settings
    from whitenoise.middleware import WhiteNoiseMiddleware

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher", *settings.PASSWORD_HASHERS]
    found: dict[str, Any] = {}
    look = WhiteNoiseMiddleware.add_files_from_finders

    def look_once(middleware: WhiteNoiseMiddleware) -> None:
        if not found:
            look(middleware)
            found.update(middleware.files)
        middleware.files = dict(found)

    WhiteNoiseMiddleware.add_files_from_finders = look_once


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("django_db")
        if marker or {"db", "transactional_db"} & set(getattr(item, "fixturenames", ())):
            given = marker.kwargs if marker else {}
            # The task store may be an alias of its own: a test that uses the database may use all of it.
            item.add_marker(pytest.mark.django_db(**{**given, "databases": "__all__"}), append=False)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if early.SHARED.match(item.nodeid) and (nextitem is None or early.share(nextitem.nodeid) != early.share(item.nodeid)):
        stacks.end_shared()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file per xdist worker instead of memory, and a database per worker on a shared MongoDB."""
    from django.apps import apps
    from django.db import connections
    from django.db.models.signals import post_migrate
    from django.test import TransactionTestCase

    from tests.emptying import empty
    from tests.processes import worker_id

    TransactionTestCase._fixture_teardown = empty

    # Tests empty tables between them, which the guard of the audit trail would refuse; its own test puts it back.
    post_migrate.disconnect(sender=apps.get_app_config("orgs"), dispatch_uid="audit-guard")
    for alias in connections:
        config = connections[alias].settings_dict
        if config["ENGINE"].endswith("sqlite3"):
            config["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / f"{alias}.sqlite3")
        else:
            config["TEST"]["NAME"] = f"test_{config['NAME']}_{worker_id()}"


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Server]:
    server = services.valkey_server(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def nats_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Server]:
    server = services.nats_server(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis(valkey: services.Server, settings):
    """The platform's own client of a real, empty server."""
    from apps.core import redis as door

    settings.REDIS_URL = f"redis://127.0.0.1:{valkey.port}/0"
    door.reset()
    client = door.client()
    client.flushall()
    yield client
    client.connection_pool.disconnect()
    door.reset()


@pytest.fixture
def nats(nats_process: services.Server, settings) -> Iterator[str]:
    """Points the platform at a real NATS server without streams; gives its address. The wire is made when first used."""
    from apps.messaging import connection

    settings.NATS_URL = f"nats://127.0.0.1:{nats_process.port}"
    connection.reset()
    services.empty_jetstream(settings.NATS_URL, nats_process.directory)
    yield settings.NATS_URL
    connection.reset()


@pytest.fixture
def admin_user(db, django_user_model):
    """For `admin_client`, which logs in without a password; hashing one takes a second."""
    return django_user_model.objects.create_superuser(username="admin", password=None)


@pytest.fixture
def serve(settings) -> Iterator[Callable[..., LyingServer]]:
    """`serve(speak)` starts an HTTP server that says what a test wants, on loopback, which is open to orgs then."""
    from apps.core import outbound

    settings.OUTBOUND_ALLOW = ["127.0.0.1", "localhost"]
    started: list[LyingServer] = []

    def start(speak: Callable[..., bool | None], **how: Any) -> LyingServer:
        started.append(LyingServer(speak, **how))
        return started[-1]

    outbound.reset()
    yield start
    outbound.reset()
    for server in started:
        server.close()
