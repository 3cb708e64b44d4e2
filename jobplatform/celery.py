"""The Celery app. Celery is the muscle: its messages are hints, never the truth."""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import beat_init, setup_logging, task_prerun, worker_ready, worker_shutdown
from kombu import Queue as KombuQueue

from jobplatform import env
from jobplatform.broker import Broker
from jobplatform.queues import (
    CATCH_UP_EVIDENCE_SECONDS,
    JOB_QUEUES,
    QUEUES,
    RECONCILE_SECONDS,
    REORDER_SECONDS,
    RESUME_BACKTESTS_SECONDS,
    RETENTION_SECONDS,
    SWEEP_JOB_FILES_SECONDS,
    SWEEP_SECONDS,
    TELL_REVOKED_SECONDS,
    TEND_AGENTS_SECONDS,
    TEND_JOBS_SECONDS,
    TEND_SESSIONS_SECONDS,
    WEBHOOKS_SECONDS,
    QueueName,
    Work,
)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
# Workers would load every page and answer of the web server to check them, and then not say what they found.
env.set_default("CELERY_SKIP_CHECKS", "1")

app = Celery("jobplatform", amqp=Broker)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_queues=[
        *(KombuQueue(name) for queue in QUEUES for name in queue.names),
        *(KombuQueue(queue.name, max_priority=9) for queue in JOB_QUEUES),
    ],
    task_default_queue=QueueName.UPKEEP,
    task_routes={f"{name}.*": {"queue": name} for queue in QUEUES for name in queue.names},
    imports=["workers.dispatch", "workers.upkeep", "workers.webhooks", "workers.backtests", "workers.workflows", "workers.jobs"],
    # JSON only: a message from a shared broker is data, never code.
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    # Results live in our own store; keeping them in Celery too costs a third of the throughput. What chords count is kept in
    # Redis for an hour: a chord only wakes, and who sleeps longer is woken by upkeep.
    task_ignore_result=True,
    result_expires=3600,
    redis_socket_timeout=5.0,
    redis_socket_connect_timeout=2.0,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_soft_shutdown_timeout=10.0,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_hijack_root_logger=False,
    timezone="UTC",
    beat_schedule={
        # Beat keeps them as rows (django-celery-beat), brought up to date from here whenever it starts.
        # A tick older than its period is stale: the next one does its work.
        "sweep": {"task": Work.SWEEP, "schedule": SWEEP_SECONDS, "options": {"expire_seconds": int(SWEEP_SECONDS * 3)}},
        "schedules": {"task": Work.SCHEDULES, "schedule": SWEEP_SECONDS, "options": {"expire_seconds": int(SWEEP_SECONDS * 3)}},
        "reconcile": {"task": Work.RECONCILE, "schedule": RECONCILE_SECONDS, "options": {"expire_seconds": int(RECONCILE_SECONDS)}},
        "revoked": {"task": Work.TELL_REVOKED, "schedule": TELL_REVOKED_SECONDS, "options": {"expire_seconds": int(TELL_REVOKED_SECONDS)}},
        "agents": {"task": Work.TEND_AGENTS, "schedule": TEND_AGENTS_SECONDS, "options": {"expire_seconds": int(TEND_AGENTS_SECONDS)}},
        "sessions": {
            "task": Work.TEND_SESSIONS,
            "schedule": TEND_SESSIONS_SECONDS,
            "options": {"expire_seconds": int(TEND_SESSIONS_SECONDS)},
        },
        "jobs": {"task": Work.TEND_JOBS, "schedule": TEND_JOBS_SECONDS, "options": {"expire_seconds": 3}},
        "job-files": {"task": Work.SWEEP_JOB_FILES, "schedule": SWEEP_JOB_FILES_SECONDS, "options": {"expire_seconds": 600}},
        "evidence": {
            "task": Work.CATCH_UP_EVIDENCE,
            "schedule": CATCH_UP_EVIDENCE_SECONDS,
            "options": {"expire_seconds": int(CATCH_UP_EVIDENCE_SECONDS)},
        },
        "reorder": {"task": Work.REORDER, "schedule": REORDER_SECONDS, "options": {"expire_seconds": int(REORDER_SECONDS)}},
        "webhooks": {"task": Work.WEBHOOKS, "schedule": WEBHOOKS_SECONDS, "options": {"expire_seconds": int(WEBHOOKS_SECONDS)}},
        "retention": {"task": Work.RETENTION, "schedule": RETENTION_SECONDS, "options": {"expire_seconds": 600}},
        "backtests": {
            "task": Work.RESUME_BACKTESTS,
            "schedule": RESUME_BACKTESTS_SECONDS,
            "options": {"expire_seconds": int(RESUME_BACKTESTS_SECONDS)},
        },
    },
)


@setup_logging.connect
def _logs_are_set_up(**_signal: object) -> None:
    """By Django. Celery would give the root logger its own level, and everybody's facts would be lost."""


@worker_ready.connect
@beat_init.connect
def _ready(sender: object = None, **_signal: object) -> None:
    from apps.core.readiness import mark_ready

    mark_ready(getattr(sender, "hostname", "") or "beat")


@worker_shutdown.connect
def _ended(sender: object = None, **_signal: object) -> None:
    from apps.core.readiness import say_stopped

    say_stopped(getattr(sender, "hostname", ""))


@task_prerun.connect
def _entered(task_id: str = "", task: object = None, **_signal: object) -> None:
    """Every log line of a message says which."""
    from apps.core import logs

    logs.start(work=getattr(task, "name", ""), message=task_id)
