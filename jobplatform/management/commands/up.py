"""The whole platform in one command: servers, web, workers, beat, listener and Flower under one supervisor."""

from __future__ import annotations

import os
import resource
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.messaging.credentials import server_config
from jobplatform import env
from jobplatform.embedded import servers, welcome
from jobplatform.embedded.console import Console
from jobplatform.embedded.place import Place, Taken, write_json, write_private
from jobplatform.embedded.supervisor import Supervisor
from jobplatform.queues import QUEUES, QueueName

REPLACING = ("REDIS_URL", "NATS_URL", "DATABASE_URL", "TASKS_DATABASE_URL", "CELERY_BROKER_URL")
LEFTOVER_SECONDS = 5.0
NATS_PORT = 4222
"""NATS's own."""


class Command(BaseCommand):
    help = (
        "Start the whole platform: a Redis-compatible server, NATS with JetStream, web, workers, beat, listener and Flower. "
        f"Any of {', '.join(REPLACING)} in the environment names a server to use instead. Ctrl-C stops everything."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        default = {queue.name: queue.workers for queue in QUEUES}
        parser.add_argument("--host", default="127.0.0.1", help="the web server's address (default %(default)s)")
        parser.add_argument("--port", type=whole(0, 65535), default=8000, help="its port; 0: any free one (default %(default)s)")
        parser.add_argument("--data", metavar="DIR", help="data directory (default: $JOBPLATFORM_DATA, else var)")
        for option, queue in (("--dispatchers", QueueName.DISPATCH), ("--upkeep", QueueName.UPKEEP), ("--workflows", QueueName.WORKFLOWS)):
            parser.add_argument(option, type=whole(0, 64), default=default[queue], help=f"{queue} workers (default %(default)s)")
        parser.add_argument("--web-workers", type=whole(1, 64), default=1, help="web processes (default %(default)s)")
        parser.add_argument(
            "--web-threads",
            type=whole(1, 4096),
            default=settings.WEB_MAX_WAITING + servers.SPARE_WEB_THREADS,
            help="threads per web process; more than may wait or stream (WEB_MAX_WAITING), so the others find one (default %(default)s)",
        )
        for name in ("redis", "flower"):
            parser.add_argument(f"--{name}-port", type=whole(0, 65535), default=0, help="0: the one it had last time, else any free one")
        usual = f"default: the one it had last time, else {NATS_PORT} unless that is taken or --port is 0, else any free one"
        parser.add_argument("--nats-port", type=whole(0, 65535), help=usual)
        parser.add_argument("--without", type=parts, default=frozenset(), metavar="PART,…", help=f"some of: {', '.join(servers.PARTS)}")

    def handle(self, **options) -> None:
        os.umask(0o077)  # what the platform keeps is for its owner
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a process that crashes leaves no copy of its memory, keys and all
        place = Place(Path(settings.DATA_DIR))
        try:
            with place.held():
                self._end_leftovers(place)
                status = self._run(place, options)
        except Taken as problem:
            raise CommandError(str(problem)) from None
        sys.exit(status)

    def _run(self, place: Place, options: dict) -> int:
        plan = servers.Plan(
            host=options["host"],
            place=place,
            redis_password=place.secret("valkey/password"),
            workers={
                QueueName.DISPATCH: options["dispatchers"],
                QueueName.UPKEEP: options["upkeep"],
                QueueName.WORKFLOWS: options["workflows"],
            },
            web_workers=options["web_workers"],
            web_threads=options["web_threads"],
            without=options["without"],
            outside={name: env.text(name) for name in REPLACING if env.text(name)},
            jobs_stop_seconds=servers.jobs_stop_seconds(settings.JOBS_STOP_S, settings.JOBS_GRACE_S),
        )
        asked = {"web": options["port"], **{part: options[f"{part}_port"] or 0 for part in ("redis", "nats", "flower")}}
        wanted = {part: number for part, number in asked.items() if plan.has(part)} | ({"nats-monitor": 0} if plan.has("nats") else {})
        # Where agents look for it. Whoever takes any web port may be starting several at once, which would all reach for it.
        liked = {"nats": NATS_PORT} if options["nats_port"] is None and options["port"] else {}
        plan = replace(plan, ports=place.ports(wanted, host=plan.host, liked=liked))
        write_configs(plan)
        children = servers.children(plan)
        console = Console(place.logs, ["up", *(child.name for child in children)])
        started_at = time.time()

        def write_stack(pids: dict[str, int]) -> None:
            about = {"pid": os.getpid(), "started_at": started_at, "data": str(place.data)}
            write_json(place.stack_file, {**about, "urls": plan.urls(), "ports": plan.ports, "pids": pids})

        supervisor = Supervisor(
            children,
            environment={**env.inherited(), **plan.environment},
            cwd=str(settings.BASE_DIR),
            console=console,
            stop_order=servers.STOP_ORDER,
            ready_line=f"READY {plan.web_url}" if plan.has("web") else "READY",
            on_change=write_stack,
            welcome=welcome.lines(plan),
        )
        try:
            return supervisor.run()
        finally:
            console.close()

    def _end_leftovers(self, place: Place) -> None:
        left = place.leftovers()
        for process in left:
            self.stderr.write(f"ending {process.name()} (pid {process.pid}), left by an earlier run here")
            process.terminate()
        for process in psutil.wait_procs(left, timeout=LEFTOVER_SECONDS)[1]:
            process.kill()


def write_configs(plan: servers.Plan) -> None:
    data = plan.place.data
    if plan.has("redis"):
        config = servers.valkey_config(port=plan.ports["redis"], directory=data / "valkey", password=plan.redis_password)
        write_private(data / "valkey" / "valkey.conf", config)
    if plan.has("nats"):
        config = server_config(plan.ports["nats"], plan.ports["nats-monitor"], data / "nats", sync_interval=env.text("NATS_SYNC_INTERVAL"))
        write_private(data / "nats" / "nats.conf", config)


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ArgumentTypeError(f"a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return parse


def parts(text: str) -> frozenset[str]:
    named = frozenset(filter(None, text.split(",")))
    if unknown := named - set(servers.PARTS):
        raise ArgumentTypeError(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(servers.PARTS)}")
    return named
