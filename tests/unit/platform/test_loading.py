"""What a process loads is what it uses; what all of them load is loaded once, by a process that opens nothing."""

import subprocess
import sys

import pytest
from django.core.management import call_command

from jobplatform.embedded.adoption import POSSIBLE
from jobplatform.env import BASE_DIR

WEB = {"rest_framework.serializers", "drf_spectacular.openapi", "apps.tasks.admin", "apps.core.http", "jobplatform.urls"}
SERVERS_NOT_USED = {"pymongo", "django_mongodb_backend", "psycopg"}
CLIENTS_NOT_USED = {"httpcore", "opentelemetry.sdk.trace", "requests"}

WORKER = """
import jobplatform.celery, jobplatform.management.commands.worker
jobplatform.celery.app.loader.import_default_modules()
import workers.listener
assert "workers.dispatch" in sys.modules
"""
FLOWER = "import jobplatform.flower; jobplatform.flower.viewer()"
UP = "import jobplatform.management.commands.up"
ON_LINUX = pytest.mark.skipif(not POSSIBLE, reason="elsewhere nothing is forked")
NURSERY = """
import os
before = set(os.listdir("/proc/self/fd"))
from jobplatform.embedded import nursery
import django
django.setup()
nursery.load([*nursery.FIRST, *nursery.THEN])
nursery.load_the_rest()
from django.db import connections
assert not [one for one in connections.all(initialized_only=True) if one.connection is not None]
assert set(os.listdir("/proc/self/fd")) == before, os.listdir("/proc/self/fd")
assert os.listdir("/proc/self/task") == [str(os.getpid())]
assert "jobplatform.wsgi" not in sys.modules
"""


@pytest.mark.parametrize(
    ("source", "forbidden"),
    [
        pytest.param(WORKER, WEB | SERVERS_NOT_USED | CLIENTS_NOT_USED | {"celery.bin.celery"}, id="workers and listener"),
        pytest.param(FLOWER, {"apps.tasks", "workers.dispatch", "celery.bin.celery", "django.contrib.admin"}, id="flower"),
        pytest.param(NURSERY, {"pymongo", "httpcore", "opentelemetry.sdk.trace"}, id="nursery", marks=ON_LINUX),
        pytest.param(UP, {"apps.tasks", "django.contrib.admin", "rest_framework"}, id="up"),
    ],
)
def test_a_process_does_not_load_what_it_never_uses(source, forbidden, tmp_path):
    loads = subprocess.run(
        [sys.executable, "-c", f"import sys\n{source}\nprint(*sys.modules)"],
        cwd=BASE_DIR,
        env={
            "PYTHONPATH": f"{BASE_DIR}/sdk:{BASE_DIR}",
            "DJANGO_SETTINGS_MODULE": "jobplatform.settings",
            "JOBPLATFORM_DATA": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert loads.returncode == 0, loads.stderr
    assert forbidden & set(loads.stdout.split()) == set()


def test_djangos_checks_find_nothing():
    # No worker runs them at its start.
    call_command("check", fail_level="WARNING")
