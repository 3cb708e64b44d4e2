from __future__ import annotations

from typing import Any

import orjson
import pytest
from django.test import Client

from apps.jobs import backends
from apps.jobs.models import Job
from tests.factories import bearer, make_key
from tests.integration.jobs_views import views


@pytest.fixture
def jobs(transactional_db, redis, settings, tmp_path):
    """The views of this package, on their memory backends; uploads in a folder of the test."""
    from django.core.files.storage import storages

    settings.ROOT_URLCONF = "tests.integration.jobs_views.urls"
    settings.STORAGES = {**settings.STORAGES, "jobs": {**settings.STORAGES["jobs"], "OPTIONS": {"location": str(tmp_path)}}}
    storages.__init__()
    settings.JOBS_BACKEND = "memory"
    backends.adopt(views.backend)
    views.backend._waiting.clear()
    yield views.backend
    backends.adopt(None, "memory")


class Caller:
    """Django's test client with the key of an org."""

    def __init__(self, role: str = "submitter", org: str = "acme") -> None:
        self.client, self.key = Client(), make_key(org, role=role)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"content_type": "application/json", "headers": {**bearer(self.key), **named}}
        return self.client.generic(method, path, raw, **given)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.ask("POST", path, {} if body is None else body, **headers)

    def get(self, path: str, **headers: str) -> Any:
        return self.ask("GET", path, **headers)


@pytest.fixture
def caller(jobs):
    return Caller


@pytest.fixture
def sam(caller) -> Caller:
    return caller()


def only_job() -> Job:
    return Job.objects.get()
