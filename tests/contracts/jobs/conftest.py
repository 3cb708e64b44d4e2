"""`carrier`: each backend in turn, with workers that live as long as its tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from celery import Celery
from django.db import connections

from apps.core import redis as door
from apps.jobs import backends
from apps.jobs.backends.celery import CeleryBackend
from apps.jobs.backends.memory import MemoryBackend
from apps.jobs.manager import JobManager
from tests import services
from tests.contracts.jobs import carriers

BACKENDS = ["celery", "rq", "dramatiq", "memory"]


@pytest.fixture(scope="session")
def jobs_redis(tmp_path_factory) -> Iterator[str]:
    """A server of their own: other tests empty theirs."""
    server = services.valkey_server(tmp_path_factory.mktemp("jobs-valkey"))
    server.start()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.kill()


@pytest.fixture(scope="module", params=BACKENDS)
def carrier(request, jobs_redis, django_db_setup, tmp_path_factory) -> Iterator[carriers.Carrier]:
    name = request.param
    with ExitStack() as ending, pytest.MonkeyPatch.context() as patch:
        from django.conf import settings

        for setting, value in {"REDIS_URL": jobs_redis, "JOBS_LEASE_S": carriers.LEASE_S, "JOBS_GRACE_S": carriers.GRACE_S}.items():
            patch.setattr(settings, setting, value)
        for forget in (door.reset, lambda: backends.adopt(None, name)):
            forget()
            ending.callback(forget)
        if name == "memory":
            backend = MemoryBackend(threads=3)
            backends.adopt(backend)
            ending.callback(backend.close)
            yield carriers.Carrier(name, JobManager(name))
            return
        if name == "celery":
            patch.setenv("CELERY_BROKER_URL", jobs_redis)  # it would win over what an app is given
            app = Celery("conformance", broker=jobs_redis, set_as_current=False)
            app.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
            ending.callback(app.close)
            backends.adopt(CeleryBackend(app))
        database = connections["default"].settings_dict["NAME"]
        found = carriers.Carrier(name, JobManager(name), carriers.workers(name, jobs_redis, database, tmp_path_factory.mktemp(name)))
        for worker in found.workers.values():
            ending.callback(worker.kill)
            worker.begin()
        for worker in found.workers.values():
            worker.wait_ready()
        yield found
        for worker in found.workers.values():
            worker.server.process.terminate()
        # Told to stop with nothing to do, they do so at once.
        assert found.workers[carriers.OURS].server.process.wait(60) == 0, found.workers[carriers.OURS].server.output()
