"""What `manage.py doctor` looks at: every dependency, and how to mend what is wrong.

A check is a function that yields findings and never changes anything. One that breaks is itself a finding.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
from django.conf import settings
from django.db import Error, connections
from django.db.migrations.executor import MigrationExecutor

from apps.core import redis as redis_door
from apps.dsl.engine import SandboxNotStarted, engine
from apps.dsl.models import PolicyScript
from apps.workflows.context.embedding import embedder
from apps.workflows.context.vectors import VectorsAway, index
from apps.workflows.eventing.transports import KAFKA, configured
from jobplatform import env, gate, locks
from jobplatform.embedded import servers
from jobplatform.embedded.health import HttpAnswers
from jobplatform.embedded.place import owner_of_port
from jobplatform.findings import Finding, Level, fail, ok, warn

log = logging.getLogger(__name__)

PYTHON = (3, 11)
SQLITE = (3, 35, 0)
"""UPDATE … RETURNING."""
FREE_BYTES_WARN, FREE_BYTES_FAIL = 2 * 1024**3, 200 * 1024**2
SKEW_SECONDS_WARN, SKEW_SECONDS_FAIL = 1.0, 30.0
NOT_RUNNING = "not running; `manage.py up` starts it"


def examine() -> list[Finding]:
    found = []
    for check in CHECKS:
        name = check.__name__.strip("_")
        try:
            findings = list(check())
        except Exception as error:  # the boundary: a broken check is a finding, and the others still run
            log.debug("doctor.check_failed", exc_info=True)
            findings = [fail(f"could not be checked: {type(error).__name__}: {error}", "see the message")]
        found += [Finding(check=name, level=finding.level, fact=finding.fact, mend=finding.mend) for finding in findings]
    return found


def python() -> Iterator[Finding]:
    here = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= PYTHON:
        yield ok(f"Python {here}")
    else:
        yield fail(f"Python {here} is too old", "make clean venv PYTHON=python3.11 (or newer)")


def sqlite() -> Iterator[Finding]:
    if sqlite3.sqlite_version_info >= SQLITE:
        yield ok(f"SQLite {sqlite3.sqlite_version}")
    else:
        yield fail(f"SQLite {sqlite3.sqlite_version} is older than {'.'.join(map(str, SQLITE))}", "use a Python with a newer one")


def packages() -> Iterator[Finding]:
    """All that runs, what it only implies included."""
    wanted = [locked for locked in locks.read(locks.RUNTIME).values() if locked.here]
    wrong = [finding for locked in wanted if (finding := _package(locked.name, locked.version))]
    yield from wrong or [ok(f"all {len(wanted)} packages are installed as locked")]


def _package(name: str, pinned: str) -> Finding | None:
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return fail(f"{name} is not installed", "make venv")
    for finding in gate.too_old(name, installed):
        return finding
    if installed != pinned:
        return warn(f"{name} is {installed}, tested with {pinned}", "make venv")
    return None


def data() -> Iterator[Finding]:
    directory = Path(settings.DATA_DIR)
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield fail(f"{existing} is not writable", "give it to this user, or choose another: --data DIR")
        return
    free = shutil.disk_usage(existing).free
    fact = f"{directory} is writable, {free / 1024**3:.1f} GiB free"
    if free < FREE_BYTES_FAIL:
        yield fail(fact, "make room: databases and logs stop at a full disk")
    elif free < FREE_BYTES_WARN:
        yield warn(fact, "make room soon")
    else:
        yield ok(fact)


def platform() -> Iterator[Finding]:
    """A running `up` in this data directory."""
    stack = env.running_stack()
    if not stack:
        owner = owner_of_port(8000)
        if owner:
            yield warn(f"port 8000 is in use{owner}", "start with another: manage.py up --port 0")
        yield ok("no `up` is running here")
        return
    logs = Path(settings.DATA_DIR) / "log"
    dead = [name for name, pid in stack["pids"].items() if not psutil.pid_exists(pid)]
    if dead:
        yield warn(f"`up` (pid {stack['pid']}) has lost {', '.join(dead)}", f"look into {logs}")
    web = stack["urls"].get("web")
    if web and not HttpAnswers(url=f"{web}/health").healthy():
        yield fail(f"{web}/health does not answer", f"look into {logs / 'web.log'}")
    if not dead:
        yield ok(f"`up` (pid {stack['pid']}) runs {len(stack['pids'])} processes" + (f", web at {web}" if web else ""))


def redis() -> Iterator[Finding]:
    if _embedded_and_down("REDIS_URL"):
        yield ok(f"embedded {_version_of(servers.valkey_binary())}: {NOT_RUNNING}")
        return
    at = without_password(settings.REDIS_URL)
    try:
        client = redis_door.client()
        about: dict[str, Any] = client.info("server")
        policy, appends = (_redis_setting(client, name) for name in ("maxmemory-policy", "appendonly"))
    except redis_door.RedisDown as error:
        yield fail(f"{at} does not answer: {error}", "start it, or correct REDIS_URL")
        return
    yield ok(f"{about.get('server_name', 'redis')} {about.get('valkey_version', about['redis_version'])} at {at}")
    if policy not in ("noeviction", ""):
        yield fail(f"maxmemory-policy is {policy}: queues could vanish", "CONFIG SET maxmemory-policy noeviction, and in its file")
    if appends == "no":
        yield warn("appendonly is off: a restart empties it, and the loader rebuilds all", "CONFIG SET appendonly yes")
    yield from gate.redis(settings.REDIS_URL)


def _redis_setting(client: Any, name: str) -> str:
    """ "" where the server's owner does not let us ask, as hosted ones do."""
    try:
        return client.config_get(name).get(name, "")
    except redis_door.Refused:
        return ""


def clock() -> Iterator[Finding]:
    if _embedded_and_down("REDIS_URL"):
        return
    try:
        seconds, microseconds = redis_door.client().time()
    except redis_door.RedisDown:
        return  # said above
    skew = abs(time.time() - (seconds + microseconds / 1e6))
    fact = f"{skew:.3f} s from Redis's clock"
    if skew < SKEW_SECONDS_WARN:
        yield ok(fact)
    else:
        level = Level.WARN if skew < SKEW_SECONDS_FAIL else Level.FAIL
        yield Finding(level=level, fact=fact, mend="keep the clocks of all machines together (NTP): leases and deadlines compare them")


def nats() -> Iterator[Finding]:
    if _embedded_and_down("NATS_URL"):
        yield ok(f"embedded {_version_of(servers.nats_binary())}: {NOT_RUNNING}")
        return
    for url in settings.NATS_URL.split(","):
        at = without_password(url.strip())
        try:
            about = gate.nats_info(url.strip())
        except (OSError, ValueError) as error:
            yield fail(f"{at} does not answer: {error}", "start it, or correct NATS_URL")
            continue
        yield ok(f"nats-server {about['version']} at {at}")
        if not about.get("jetstream"):
            yield fail("JetStream is off: nothing can be delivered", "`jetstream {}` in its configuration; see manage.py nats_config")
        yield from gate.nats(about)


def databases() -> Iterator[Finding]:
    for alias in settings.DATABASES:
        connection = connections[alias]
        config = connection.settings_dict
        at = without_password(str(config.get("HOST") or config["NAME"]))
        if connection.vendor == "sqlite" and not Path(config["NAME"]).exists():
            yield ok(f"{alias}: {at} is made by the first `up`")
            continue
        try:
            executor = MigrationExecutor(connection)
            pending = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
        except Error as error:
            yield fail(f"{alias}: {at} does not answer: {error}", "start it, or correct DATABASE_URL / TASKS_DATABASE_URL")
            continue
        if pending:
            yield fail(f"{alias}: {at} lacks {pending} migrations", "manage.py setup")
        else:
            yield ok(f"{alias}: {connection.display_name} at {at}, all migrations applied")
        yield from gate.mongodb(str(config.get("HOST") or ""))


def broker() -> Iterator[Finding]:
    """Celery's broker, when it is not the Redis looked at above."""
    if settings.CELERY_BROKER_URL == settings.REDIS_URL:
        return
    from jobplatform.celery import app

    at = without_password(settings.CELERY_BROKER_URL)
    try:
        with app.connection_for_write(connect_timeout=gate.TIMEOUT_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=gate.TIMEOUT_SECONDS)
    except OSError as error:  # kombu's OperationalError is one
        yield fail(f"{at} does not answer: {error}", "start it, or correct CELERY_BROKER_URL")
    else:
        yield ok(f"Celery's broker at {at}")
        yield from gate.redis(settings.CELERY_BROKER_URL)


def policies() -> Iterator[Finding]:
    if settings.DATABASES["default"]["ENGINE"].endswith("sqlite3") and not Path(settings.DATABASES["default"]["NAME"]).exists():
        return
    try:
        count = PolicyScript.objects.filter(org_id="", status=PolicyScript.Status.ACTIVE).count()
    except Error:
        return  # said above
    if count:
        yield ok(f"{count} built-in policy scripts are loaded")
    else:
        yield fail("no built-in policy scripts: every task waits for a human", "manage.py load_policies")


def sandbox() -> Iterator[Finding]:
    try:
        given_up = engine().confined()
    except SandboxNotStarted as error:
        yield fail(f"policy scripts cannot run: {error}", "the message names the limit that was refused")
        return
    finally:
        engine().close()
    yield ok(f"policy sandbox starts; it gives up: {', '.join(given_up) or 'nothing on this system'}")


def events() -> Iterator[Finding]:
    """What sessions are asked for by, besides HTTP; Redis and NATS themselves are looked at above."""
    if not settings.EVENT_TRANSPORTS:
        return
    try:
        transports = configured()
    except (ValueError, ImportError) as error:
        yield fail(str(error), "correct EVENT_TRANSPORTS, or install what it names")
        return
    if not settings.EVENT_ORGS:
        yield warn("EVENT_ORGS is empty: no event is taken and no result told", "name the orgs, or *")
    for transport in transports:
        if transport.name == KAFKA and not transport.healthy():
            yield fail(f"Kafka at {settings.KAFKA_BOOTSTRAP_SERVERS} does not answer", "start it, or correct KAFKA_BOOTSTRAP_SERVERS")
        else:
            yield ok(f"events on {transport.name}")
        transport.close()


def vectors() -> Iterator[Finding]:
    try:
        dims = embedder().dims
        index().ensure(dims)
    except (ValueError, ImportError, AttributeError) as error:
        yield fail(f"vector search cannot be set up: {error}", "correct VECTOR_STORE and TEXT_EMBEDDER")
    except VectorsAway as error:
        yield fail(str(error), "start it, or correct VECTOR_STORE; PostgreSQL needs its extension pgvector")
    else:
        where = without_password(settings.VECTOR_STORE) or "embedded"
        yield ok(f"vector search: {where}, {dims} dimensions by {settings.TEXT_EMBEDDER}")


def without_password(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _embedded_and_down(variable: str) -> bool:
    return not env.text(variable) and not env.running_stack()


def _version_of(binary: str) -> str:
    run = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=gate.TIMEOUT_SECONDS, check=True)  # noqa: S603 -- our own binaries
    version = re.search(r"[0-9]+(\.[0-9]+)+", run.stdout)
    return f"{Path(binary).name} {version.group() if version else run.stdout.strip()}"


CHECKS: tuple[Callable[[], Iterable[Finding]], ...] = (
    python,
    sqlite,
    packages,
    data,
    platform,
    redis,
    clock,
    nats,
    databases,
    broker,
    policies,
    sandbox,
    events,
    vectors,
)
