"""The only reader of `os.environ`.

Every setting the outside can give is listed here with its default and meaning; everything else
in the code receives values. `VARIABLES` is also what `doctor` and the README's table print.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Variable:
    name: str
    default: str
    meaning: str


VARIABLES = (
    Variable(name="JOBPLATFORM_DATA", default="var", meaning="data directory of the embedded platform"),
    Variable(name="SECRET_KEY", default="(made and kept in the data directory)", meaning="signs sessions; the NATS keys derive from it"),
    Variable(name="DEBUG", default="0", meaning="1 shows error pages; never in production"),
    Variable(name="ALLOWED_HOSTS", default="127.0.0.1,localhost", meaning="host names the web server answers to"),
    Variable(name="PUBLIC_URL", default="", meaning="how people reach us, such as https://jobs.example.com, behind a proxy that ends TLS"),
    Variable(name="TRUSTED_PROXIES", default="0; 1 with PUBLIC_URL", meaning="proxies in front of web that add to X-Forwarded-For"),
    Variable(name="LOGIN_FAILURES", default="5", meaning="wrong passwords for one account from one address before it must wait; 0: any"),
    Variable(name="LOGIN_WINDOW_S", default="300", meaning="seconds within which those count, and after which the first is forgotten"),
    Variable(name="REDIS_URL", default="(that of a running `up`)", meaning="order, leases, caches; may be emptied at any time"),
    Variable(name="REDIS_PREFIX", default="jp", meaning="prefix of every Redis key, so platforms can share a server"),
    Variable(name="NATS_URL", default="(that of a running `up`)", meaning="the wire to agents (JetStream on)"),
    Variable(name="NATS_PUBLIC_URL", default="", meaning="where agents are told to connect when they enrol; empty: NATS_URL"),
    Variable(name="NATS_SYNC_INTERVAL", default="", meaning="JetStream sync_interval of the embedded server; empty: its default"),
    Variable(name="NATS_REPLICAS", default="1", meaning="copies of each stream in a NATS cluster: 3 survive the loss of a server"),
    Variable(name="DATABASE_URL", default="sqlite:///var/platform.sqlite3", meaning="Django's own tables, orgs, roles, scripts"),
    Variable(name="TASKS_DATABASE_URL", default="", meaning="tasks and their history; empty: the same database; mongodb://…: MongoDB"),
    Variable(name="CELERY_BROKER_URL", default="(REDIS_URL)", meaning="Celery's broker; amqp://… for RabbitMQ"),
    Variable(name="LOG_LEVEL", default="INFO", meaning="level of the structured log"),
    Variable(name="LOG_FORMAT", default="text", meaning="`text` for people, `json` for machines"),
    Variable(name="OTEL_EXPORTER_OTLP_ENDPOINT", default="", meaning="OpenTelemetry collector (OTLP/HTTP) that gets traces; empty: none"),
    Variable(name="METRICS_TOKEN", default="", meaning="bearer token that opens all of /metrics; empty: only an org's own gauges"),
    Variable(name="JOBPLATFORM_READY_FILE", default="", meaning="a file that a worker, beat or listener writes once it does its work"),
    Variable(name="POLICY_PROCESSES", default="2", meaning="policy sandboxes per server process, at most; each is started when needed"),
    Variable(name="WEB_MAX_WAITING", default="48", meaning="waiting or streaming requests per web process; more are told to come back"),
    Variable(name="OUTBOUND_ALLOW", default="", meaning="hosts off the public internet that orgs may call: host or host:port, with commas"),
    Variable(name="VECTOR_STORE", default="", meaning="vector search: empty: embedded; postgresql://… pgvector; mongodb://… $vectorSearch"),
    Variable(name="TEXT_EMBEDDER", default="apps.workflows.context.embedding_hashing.HashingEmbedder", meaning="class that embeds texts"),
    Variable(name="TASK_PROCESSORS", default="", meaning="modules with the TaskProcessors that workers may run, with commas"),
    Variable(name="JOBS_BACKEND", default="celery", meaning="what carries jobs to their workers: celery, rq, dramatiq, or memory (tests)"),
    Variable(name="RQ_KEY_PREFIX", default="(REDIS_PREFIX):rq", meaning="prefix of the Redis keys of jobs on RQ"),
    Variable(name="JOBS_QUEUES", default="", meaning="further queues of jobs: name, name:seconds or name:seconds:megabytes, with commas"),
    Variable(name="JOBS_LEASE_S", default="30", meaning="seconds after which a silent worker of a job is held to be dead"),
    Variable(name="JOBS_GRACE_S", default="5", meaning="seconds a job has to end after its time limit or a cancel, before it is killed"),
    Variable(name="JOBS_STOP_S", default="5", meaning="seconds that a worker which is told to stop waits before it hands back what runs"),
    Variable(name="JOBS_CONCURRENCY", default="2", meaning="jobs that a worker of jobs runs at once, each in a process of its own"),
    Variable(name="JOBS_KEEP_DAYS", default="7", meaning="days that an expired job is still known (410) before it is deleted"),
    Variable(name="JOBS_FILES", default="(job-files in the data directory)", meaning="where uploads of jobs lie; web and workers share it"),
    Variable(name="JOBS_MAX_REQUEST_BYTES", default="1048576", meaning="bytes of JSON in the request of a job, at most"),
    Variable(name="JOBS_MAX_UPLOAD_BYTES", default="104857600", meaning="bytes of files in the request of a job, at most"),
    Variable(name="EVENT_TRANSPORTS", default="", meaning="where sessions are taken as events and results told: redis, nats, kafka"),
    Variable(name="EVENT_ORGS", default="", meaning="orgs whose sessions events may start and whose results are told; * for all"),
    Variable(name="KAFKA_BOOTSTRAP_SERVERS", default="127.0.0.1:9092", meaning="Kafka's brokers, host:port with commas"),
    Variable(name="KAFKA_GROUP", default="jobplatform", meaning="Kafka consumer group of the listeners"),
    Variable(name="KAFKA_TOPIC_PREFIX", default="", meaning="in front of the names of Kafka topics"),
    Variable(name="KAFKA_OPTIONS", default="{}", meaning="further settings of librdkafka, as JSON: security.protocol and the like"),
    Variable(name="EXTRA_URLS", default="", meaning="modules whose urlpatterns are served too, with commas: views of your own"),
    Variable(name="EXAMPLES", default="0", meaning="1 serves the views of examples/jobs below /examples/"),
    Variable(name="FAILPOINTS", default="", meaning="for tests of faults: where a process kills itself, as name:kill@n; never set it"),
    Variable(name="FAILPOINTS_ONCE", default="", meaning="a directory by which each failpoint fires in one process only"),
    Variable(name="OUTBOUND_CA_FILE", default="", meaning="PEM file of further authorities to trust in calls to users' addresses"),
)


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


def inherited() -> dict[str, str]:
    """A copy of the whole environment, for child processes."""
    return dict(os.environ)


def add(values: Mapping[str, str]) -> None:
    """What this process is told beyond what it was started with."""
    os.environ.update(values)


def set_default(name: str, value: str) -> None:
    """For a library that reads the environment itself; what the outside gives wins."""
    os.environ.setdefault(name, value)


def flag(name: str) -> bool:
    return text(name, "0").lower() in {"1", "true", "yes", "on"}


def number(name: str, default: int) -> int:
    raw = text(name)
    try:
        return int(raw) if raw else default
    except ValueError:
        raise SystemExit(f"{name} must be a whole number, not {raw!r}") from None


def strings(name: str) -> dict[str, str]:
    """A JSON object of strings."""
    try:
        found = json.loads(text(name) or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise SystemExit(f"{name} must be a JSON object of strings") from None
    return found


def csv(name: str, default: str) -> list[str]:
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def data_dir() -> Path:
    """Where the embedded platform keeps its data. Relative paths are below the project's root."""
    path = Path(text("JOBPLATFORM_DATA", "var"))
    return path if path.is_absolute() else BASE_DIR / path


def choose_data_dir(argv: Sequence[str]) -> None:
    """`manage.py up|doctor --data DIR`: settings depend on it, so it is looked at before they load."""
    if argv[1:2] and argv[1] in {"up", "doctor"}:
        for option, value in zip(argv[2:], [*argv[3:], ""], strict=False):
            name, _, joined = option.partition("=")
            if name == "--data" and (chosen := joined or value):
                os.environ["JOBPLATFORM_DATA"] = str(Path(chosen).expanduser().resolve())


def running_stack() -> dict:
    """What a `manage.py up` in this data directory wrote about itself; `{}` when none is running."""
    try:
        stack = json.loads((data_dir() / "run" / "stack.json").read_text())
        os.kill(stack["pid"], 0)
    except (OSError, ValueError, KeyError):  # not there, not ours, or no longer alive
        return {}
    return stack


def server_url(name: str, service: str, default: str) -> str:
    """The address given by the environment, else that of the running embedded server, else the default."""
    return text(name) or running_stack().get("urls", {}).get(service) or default


def secret_key() -> str:
    """`SECRET_KEY`, or one made once and kept readable by its owner only."""
    if given := text("SECRET_KEY"):
        return given
    try:
        return _kept_key(data_dir() / "secret.key")
    except OSError as error:  # the first that everything does there
        names = "JOBPLATFORM_DATA (of `up` and `doctor`: --data) names another"
        raise SystemExit(f"The data directory {data_dir()} cannot be used: {error.strerror}. {names}.") from None


def _kept_key(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    # Another process may be making it at the same moment: the exclusive link decides who wins.
    fresh = path.with_name(f"secret.key.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(secrets.token_urlsafe(48))
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text().strip()
