"""The only reader of `os.environ`.

Every setting the outside can give is listed here with its default and meaning; everything else
in the code receives values. `VARIABLES` is also what `doctor` and the README's table print.
"""

from __future__ import annotations

import os
import secrets
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
    Variable(name="REDIS_URL", default="redis://127.0.0.1:6379/0", meaning="order, leases, caches; may be emptied at any time"),
    Variable(name="REDIS_PREFIX", default="jp", meaning="prefix of every Redis key, so platforms can share a server"),
    Variable(name="NATS_URL", default="nats://127.0.0.1:4222", meaning="the wire to agents (JetStream on)"),
    Variable(name="NATS_SYNC_INTERVAL", default="", meaning="JetStream sync_interval of the embedded server; empty: its default"),
    Variable(name="DATABASE_URL", default="sqlite:///var/platform.sqlite3", meaning="Django's own tables, orgs, roles, scripts"),
    Variable(name="TASKS_DATABASE_URL", default="", meaning="tasks and their history; empty: the same database; mongodb://…: MongoDB"),
    Variable(name="CELERY_BROKER_URL", default="(REDIS_URL)", meaning="Celery's broker; amqp://… for RabbitMQ"),
    Variable(name="LOG_LEVEL", default="INFO", meaning="level of the structured log"),
    Variable(name="LOG_FORMAT", default="text", meaning="`text` for people, `json` for machines"),
    Variable(name="WEB_MAX_WAITING", default="48", meaning="waiting or streaming requests per web process; more are told to come back"),
)


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


def flag(name: str) -> bool:
    return text(name, "0").lower() in {"1", "true", "yes", "on"}


def number(name: str, default: int) -> int:
    raw = text(name)
    try:
        return int(raw) if raw else default
    except ValueError:
        raise SystemExit(f"{name} must be a whole number, not {raw!r}") from None


def csv(name: str, default: str) -> list[str]:
    return [part.strip() for part in text(name, default).split(",") if part.strip()]


def data_dir() -> Path:
    """Where the embedded platform keeps its data. Relative paths are below the project's root."""
    path = Path(text("JOBPLATFORM_DATA", "var"))
    return path if path.is_absolute() else BASE_DIR / path


def secret_key() -> str:
    """`SECRET_KEY`, or one made once and kept readable by its owner only."""
    given = text("SECRET_KEY")
    if given:
        return given
    path = data_dir() / "secret.key"
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
