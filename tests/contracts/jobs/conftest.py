"""`carrier`: each backend in turn, with workers that live as long as its tests. Nothing is emptied between them: every job is new."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from django.db import connections

from apps.core import redis as door
from apps.jobs import backends
from apps.jobs.backends.memory import MemoryBackend
from apps.jobs.manager import JobManager
from apps.jobs.models import Job, JobDependency, JobEvent
from tests import services
from tests.contracts.jobs import carriers

BACKENDS = ["celery", "rq", "dramatiq", "memory"]


@pytest.fixture(scope="session")
def jobs_redis(tmp_path_factory) -> Iterator[str]:
    """A server of their own: others empty theirs."""
    server = services.valkey_server(tmp_path_factory.mktemp("jobs-valkey"))
    server.start()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.kill()


@pytest.fixture(scope="module", params=BACKENDS)
def carrier(request, jobs_redis, django_db_setup, django_db_blocker, tmp_path_factory) -> Iterator[carriers.Carrier]:
    name = request.param
    place = tmp_path_factory.mktemp(name)
    with django_db_blocker.unblock(), ExitStack() as ending, pytest.MonkeyPatch.context() as patch:
        from django.conf import settings

        for setting, value in {"REDIS_URL": jobs_redis, "JOBS_LEASE_S": carriers.LEASE_S, "JOBS_GRACE_S": carriers.GRACE_S}.items():
            patch.setattr(settings, setting, value)
        door.reset()
        ending.callback(door.reset)
        ending.callback(_forget)
        if name == "memory":
            backend = MemoryBackend(threads=3)
            ending.callback(backend.close)
            yield carriers.Carrier(name, JobManager(backend))
            return
        backends.named.cache_clear()
        ending.callback(backends.named.cache_clear)
        found = carriers.Carrier(name, JobManager(name), carriers.workers(name, jobs_redis, connections["default"].settings_dict["NAME"], place))
        for worker in found.workers.values():
            ending.callback(worker.server.stop)
            worker.begin()
        for worker in found.workers.values():
            worker.wait_ready()
        yield found


def _forget() -> None:
    for model in (JobDependency, JobEvent, Job):
        model.objects.all().delete()
