"""Jobs on a queue in this process, and on a real Celery worker with real children."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.db import connections

from apps.core import clock
from apps.jobs import backends
from apps.jobs.backends.celery import CeleryBackend
from apps.jobs.backends.memory import MemoryBackend
from apps.jobs.calls import ANYBODY, JobCall, JobView, Owner
from apps.jobs.manager import JobManager
from apps.jobs.options import JobOptions
from jobplatform.env import BASE_DIR
from tests.integration.jobs import samples
from tests.services import Server


class Desk:
    """Submits the sample functions as one owner would."""

    def __init__(self, manager: JobManager, owner: Owner = ANYBODY) -> None:
        self.manager, self.owner = manager, owner

    def submit(self, function: Callable[..., Any], *args: Any, key: str = "", **options: Any) -> JobView:
        call = JobCall(target=f"{samples.ME}:{function.__name__}", args=args, unique_key=key)
        return self.manager.enqueue(call, JobOptions(**options), self.owner, now=clock.now()).job

    def look(self, job: JobView) -> JobView:
        return self.manager.status(job.id, self.owner)

    def ended(self, job: JobView, *, seconds: float = 60) -> JobView:
        view = self.manager.wait(job.id, seconds, self.owner)
        assert view.has_ended, view
        return view


@pytest.fixture
def queue(transactional_db, redis) -> Iterator[MemoryBackend]:
    """Nothing runs until `run_all`."""
    backend = MemoryBackend(threads=0)
    backends.adopt(backend)
    yield backend
    backends.adopt(None, backend.name)


@pytest.fixture
def desk(queue) -> Desk:
    return Desk(JobManager(queue))


@pytest.fixture(scope="module")
def worker(django_db_setup, valkey, tmp_path_factory) -> Iterator[Server]:
    """`manage.py worker` with two children, on the database and the Redis of the tests. A job that does not stop has a second."""
    place = tmp_path_factory.mktemp("jobs-worker")
    url = f"redis://127.0.0.1:{valkey.port}/0"
    environment = {
        "DATABASE_URL": f"sqlite:///{connections['default'].settings_dict['NAME']}",
        "REDIS_URL": url,
        "CELERY_BROKER_URL": url,
        "JOBPLATFORM_DATA": str(place),
        "JOBS_GRACE_S": "1",
        "LOG_LEVEL": "INFO",
        "PYTHONPATH": os.pathsep.join((str(BASE_DIR), str(BASE_DIR / "sdk"))),
    }
    command = [sys.executable, str(BASE_DIR / "manage.py"), "worker", "jobs", "--concurrency=2"]
    server = Server("jobs-worker", command, ready="nobody says so", port=0, env=environment)
    server.begin()
    yield server
    server.kill()


@pytest.fixture
def celery_desk(worker, transactional_db, redis, settings, monkeypatch) -> Iterator[Desk]:
    settings.JOBS_GRACE_S = 1
    monkeypatch.setenv("CELERY_BROKER_URL", settings.REDIS_URL)  # it would win over what an app is given
    app = Celery("probe", broker=settings.REDIS_URL, set_as_current=False)
    app.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
    backend = CeleryBackend(app)
    backends.adopt(backend)
    yield Desk(JobManager(backend))
    backends.adopt(None, backend.name)
    app.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "started"
