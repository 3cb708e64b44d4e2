"""Real Celery workers, real chords, and SIGKILL: one session whose workers die at five named points, each once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery
from django.db import connections

from apps.core import background, clock
from apps.core.auth import Principal
from apps.workflows.engine import recovery
from apps.workflows.models import Chunk, Item, Session, Step
from apps.workflows.models_context import ContextWrite
from apps.workflows.service import Sessions
from jobplatform.celery import app
from jobplatform.env import BASE_DIR
from tests.integration.workflows.test_engine import bare, task
from tests.processes import wait_until
from tests.services import die_with_parent

POINTS = {"chunk.claimed": 3, "items.before_flush": 4, "start.items_written": 1, "finish.context_written": 2, "finish.moved": 1}
SAM = Principal(org_id="acme", role="submitter", subject_id="sam", key_id="k1", name="sam's key")


@pytest.fixture
def workers(transactional_db, redis, settings, monkeypatch, tmp_path: Path) -> Iterator[list[subprocess.Popen]]:
    """Two workers on the test's own database and broker; who dies is started again by `again`."""
    url = settings.REDIS_URL
    monkeypatch.setenv("CELERY_BROKER_URL", url)  # it would win over what an app is given
    probe = Celery("probe", broker=url, backend=url, set_as_current=False)
    probe.conf.update(
        task_routes=app.conf.task_routes,
        task_ignore_result=True,
        broker_transport_options=app.conf.broker_transport_options,
        result_backend_transport_options=app.conf.result_backend_transport_options,
    )
    monkeypatch.setattr(background, "current_app", probe)
    # Chords are for the workers; what upkeep starts here goes part by part.
    monkeypatch.setattr(background, "send_chord", lambda _group, name, each, **_then: background.send_many(name, each))
    from tests.integration.workflows import processors  # noqa: F401

    (tmp_path / "once").mkdir()
    environment = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{connections['default'].settings_dict['NAME']}",
        "TASKS_DATABASE_URL": "",
        "REDIS_URL": url,
        "CELERY_BROKER_URL": url,
        "JOBPLATFORM_DATA": str(tmp_path),
        "SECRET_KEY": "of a test",
        "TASK_PROCESSORS": "tests.integration.workflows.processors",
        "FAILPOINTS": ",".join(f"{point}:kill@{count}" for point, count in POINTS.items()),
        "FAILPOINTS_ONCE": str(tmp_path / "once"),
    }
    running: list[subprocess.Popen] = []

    def start(number: int) -> subprocess.Popen:
        argv = [sys.executable, "manage.py", "worker", "workflows", f"--number={number}"]
        return subprocess.Popen(argv, cwd=BASE_DIR, env=environment, preexec_fn=die_with_parent, stdout=subprocess.DEVNULL)

    running += [start(1), start(2)]
    running.append(start)  # type: ignore[arg-type]
    yield running
    for worker in running:
        if isinstance(worker, subprocess.Popen):
            worker.kill()
            worker.wait()
    probe.close()


@pytest.mark.skipif("tasks" in connections.databases, reason="the workers share one file with the test")
def test_workers_killed_at_named_points_change_nothing_in_the_result(workers, tmp_path):
    start = workers.pop()
    deaths = 0
    document = {
        "session_id": "real",
        "context": {"numbers": list(range(300))},
        "tasks": [
            task("fan", expansion_config=bare("n", "numbers")),
            {"key": "later", "agent_class": "Later", "dependencies": ["fan"], "expansion_config": bare("m", "fan")},
            task("end", input={"fan": "{fan}", "later": "{later}"}, dependencies=["later"], result_keys=["end"]),
        ],
    }
    Sessions().create(document, SAM, now=clock.now())
    looks = iter(range(1, 10_000))

    def ended() -> bool:
        nonlocal deaths
        for place, worker in enumerate(workers):
            if worker.poll() is not None:
                deaths += 1
                workers[place] = start(place + 1)
                # Its leases lapse, which takes ten seconds on other days.
                Chunk.objects.filter(status="running").update(lease_until=clock.from_ms(0))
                Step.objects.filter(status="expanding").update(busy_until=clock.from_ms(1))
                recovery.tend(now=clock.now() + timedelta(seconds=60))
        number = next(looks)
        if number % 20 == 0:
            Chunk.objects.filter(status="running").update(lease_until=clock.from_ms(0))
            Session.objects.update(updated_at=clock.from_ms(0))
            recovery.tend(now=clock.now() + timedelta(seconds=60))
        return Session.objects.filter(published=True).exists()

    wait_until(ended, seconds=300, what="the session has ended", every=0.1)
    assert deaths == len(list((tmp_path / "once").iterdir())) == len(POINTS)
    told = Sessions().results(SAM, "real")
    assert told["status"] == "completed" and not told["partial"]
    assert told["results"]["end"] == {"fan": [{"n": n} for n in range(300)], "later": list(range(300))}
    assert Item.objects.count() == 601 and not Item.objects.exclude(status="completed").exists()
    assert ContextWrite.objects.count() == 4
