"""Backends with real workers: processes of `manage.py worker jobs` and of the libraries' own command lines, on one real Redis."""

from __future__ import annotations

import base64
import json
import os
import sys
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings

from apps.core import clock, redis
from apps.jobs import upkeep
from apps.jobs.backends.lanes import lanes
from apps.jobs.calls import ANYBODY, JobCall, JobView, Owner
from apps.jobs.manager import JobManager
from apps.jobs.models import JobEvent
from apps.jobs.options import JobOptions
from jobplatform.env import BASE_DIR
from jobplatform.queues import Work
from tests import hostile_messages
from tests.contracts.jobs import targets
from tests.processes import wait_until
from tests.services import Server

TARGETS = "tests.contracts.jobs.targets"
OURS, THEIRS = "default", "fast"
"""Queues: one of a worker of `manage.py worker`, one of a worker that the library's own command line started; nobody takes UNSERVED."""
UNSERVED = "gpu"
LEASE_S = 20
"""Longer than any test: leases lapse when a test moves the time."""
GRACE_S = 1
STOP_S = 0
"""What is told to stop does not wait: tests that stop a worker while jobs run have seen that they do."""


@dataclass
class Carrier:
    """A backend, as a user of the platform has it."""

    name: str
    manager: JobManager
    workers: dict[str, Worker] = field(default_factory=dict)

    @property
    def has_processes(self) -> bool:
        return bool(self.workers)

    def start(self, function: str, *args: Any, owner: Owner = ANYBODY, unique_key: str = "", kwargs: dict[str, Any] | None = None,
              **options: Any) -> str:  # fmt: skip
        call = JobCall(target=f"{TARGETS}:{function}", args=args, kwargs=kwargs or {}, unique_key=unique_key)
        return self.manager.enqueue(call, JobOptions(**options), owner, now=clock.now()).job.id

    def held(self) -> Any:
        """What somebody who uses this queue has in their hands."""
        if self.name == "celery":
            return self.manager.backend.app
        if self.name == "rq":
            from rq import Queue

            return Queue(connection=redis.raw())
        if self.name == "dramatiq":
            from dramatiq.brokers.redis import RedisBroker

            return RedisBroker(client=redis.raw(), namespace=f"{settings.REDIS_PREFIX}:dramatiq")
        return self.name

    def look(self, job_id: str) -> JobView:
        return self.manager.status(job_id, ANYBODY)

    def ended(self, job_id: str, *, tend: bool = False) -> JobView:
        """The job, once it has ended. `tend`: upkeep runs meanwhile."""

        def look() -> JobView | None:
            if tend:
                upkeep.tend_jobs(now=clock.now())
            view = self.manager.wait(job_id, 0.1 if tend else 1)
            return view if view.has_ended else None

        return wait_until(look, what=f"{job_id} has ended", every=0.001, seconds=targets.PATIENCE)

    def all_ended(self, job_ids: Sequence[str], **how: Any) -> list[JobView]:
        return [self.ended(job_id, **how) for job_id in job_ids]

    def moves(self, job_id: str) -> list[str]:
        return list(JobEvent.objects.filter(job_id=job_id).order_by("id").values_list("new", flat=True))

    def started_at(self, job_id: str) -> datetime:
        return JobEvent.objects.filter(job_id=job_id, new="started").order_by("id").values_list("at", flat=True)[0]


@dataclass
class Worker:
    """A worker process with all that it has started."""

    server: Server
    ready: Path

    def begin(self) -> None:
        self.ready.unlink(missing_ok=True)
        self.server.begin()

    def wait_ready(self) -> None:
        def look() -> bool:
            assert self.server.alive, f"{self.server.name} has ended:\n{self.server.output()}"
            return self.ready.exists()

        wait_until(look, what=f"{self.server.name} is ready", seconds=180)

    def kill(self) -> None:
        """SIGKILL for all of it at once."""
        if not self.server.alive:
            return
        family = [psutil.Process(self.server.process.pid)]
        family += family[0].children(recursive=True)
        for process in family:
            process.suspend()
        for process in family:
            process.kill()
        self.server.process.wait()
        psutil.wait_procs(family, timeout=10)


def manage(*arguments: str) -> list[str]:
    return [sys.executable, str(BASE_DIR / "manage.py"), *arguments]


def commands(name: str, redis_url: str) -> dict[str, list[str]]:
    """By queue: what takes jobs off it."""
    scripts = Path(sys.executable).parent
    theirs = {
        "celery": [f"{scripts}/celery", "-A", "jobplatform", "worker", "-Q", THEIRS, "-c", "1"],
        "rq": [f"{scripts}/rq", "worker", "--url", redis_url, "--worker-class", "apps.jobs.backends.rq_worker.JobsWorker", THEIRS],
        "dramatiq": [f"{scripts}/dramatiq", "apps.jobs.backends.dramatiq_worker", "-p", "1", "-t", "1", "-Q", *lanes([THEIRS])],
    }
    return {OURS: manage("worker", OURS, "--backend", name, "--concurrency", "2"), THEIRS: theirs[name]}


def workers(name: str, redis_url: str, database: str, place: Path) -> dict[str, Worker]:
    environment = {
        "DJANGO_SETTINGS_MODULE": "jobplatform.settings",
        "PYTHONPATH": os.pathsep.join((str(BASE_DIR), str(BASE_DIR / "sdk"))),
        "REDIS_URL": redis_url,
        "CELERY_BROKER_URL": redis_url,
        "DATABASE_URL": f"sqlite:///{database}",
        "JOBS_BACKEND": name,
        "JOBS_LEASE_S": str(LEASE_S),
        "JOBS_GRACE_S": str(GRACE_S),
        "JOBS_STOP_S": str(STOP_S),
        "RQ_KEY_PREFIX": settings.RQ_KEY_PREFIX,
        "dramatiq_worker_timeout": "50",
    }
    made = {}
    for queue, command in commands(name, redis_url).items():
        ready = place / queue
        own = {**environment, "JOBPLATFORM_READY_FILE": str(ready)}
        made[queue] = Worker(Server(f"{name}-{queue}", command, ready="(no line says so)", port=0, env=own), ready)
    return made


def everything(client: Any) -> list[bytes]:
    """All that a Redis holds, a text for each key: what is packed is unpacked."""
    reading = {
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": lambda key: list(client.hgetall(key).values()),
        b"string": lambda key: [client.get(key)],
    }
    return [b" ".join(map(_unpacked, reading[kind](key))) for key in client.scan_iter() if (kind := client.type(key)) in reading]


def _unpacked(value: bytes) -> bytes:
    with suppress(zlib.error):  # RQ
        return zlib.decompress(value)
    with suppress(ValueError, KeyError, TypeError):  # Celery
        return value + base64.b64decode(json.loads(value)["body"])
    return value


def forge(carrier: Carrier) -> None:
    """Whoever can write into the queue's Redis tries to have something called that is no job."""
    target, never = f"{TARGETS}.not_a_job", f"{TARGETS}:not_a_job"
    if carrier.name == "rq":
        from rq import Callback, Queue
        from rq.serializers import DefaultSerializer, JSONSerializer

        for serializer in (JSONSerializer, DefaultSerializer):
            queue = Queue(OURS, connection=redis.raw(), serializer=serializer)
            queue.enqueue(target, on_success=Callback(target), on_failure=Callback(target))
            queue.enqueue(target, "job_x", 1)
    elif carrier.name == "dramatiq":
        from dramatiq import Message

        broker = carrier.manager.backend.broker
        for actor, args in ((target, ()), ("jobs.run", ()), ("jobs.run", (never, 1, 2)), ("jobs.run", ({"a": 1}, "x"))):
            broker.enqueue(Message(OURS, actor, args, {}, {}))
    elif carrier.name == "celery":
        app = carrier.held()
        for name, arguments in ((target, {}), (Work.RUN_JOB, {}), (Work.RUN_JOB, {"job_id": {"a": 1}, "attempt": "x"})):
            app.send_task(name, kwargs=arguments, queue=OURS)
        for queue in (OURS, THEIRS):
            hostile_messages.put(redis.raw(), queue)
