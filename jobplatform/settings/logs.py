"""One log line is one fact: `task.finished org=acme task=t1`. Text for people, JSON for machines.

Every line carries the ids bound where its entry began (`apps.core.logs`). What users wrote can neither forge a line nor move
the terminal's cursor, and whatever looks like a key, a secret or a password in an address is blotted out, whoever logged it.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_SECRETS = re.compile(
    r"(?P<key>jp_[A-Za-z0-9]{4,24}_)[A-Za-z0-9_-]{20,128}(\.[A-Za-z0-9_.-]+)?"  # an API key, and an agent's JWT behind it
    r"|(?P<hook>whsec_)[A-Za-z0-9+/=]{16,}"
    r"|(?P<bearer>(?i:bearer )\s*)[A-Za-z0-9._~+/=-]{8,}"
    r"|(?P<user>://[^/\s:@]*:)[^/\s@]+(?=@)"
)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    # Not at the top: logging is configured before the apps are there, and this module knows no Django.
    from apps.core import logs

    said = {name: value for name, value in vars(record).items() if name not in _RECORD_FIELDS}
    return {**{name: value for name, value in logs.bound().items() if name not in said}, **said}


def _one_line(value: Any) -> str:
    """User text cannot forge a log line or move the terminal's cursor."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in str(value))


def _blotted(line: str) -> str:
    return _SECRETS.sub(lambda found: f"{found['key'] or found['hook'] or found['bearer'] or found['user']}…", line)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        facts = "".join(f" {name}={_one_line(value)}" for name, value in _facts(record).items())
        line = f"{at} {record.levelname.lower():7} {record.name}: {_one_line(record.getMessage())}{facts}"
        if record.exc_info:
            # A bar before each line: no text in a message of an exception passes for a line of its own.
            line += "".join(f"\n  | {_one_line(part)}" for part in self.formatException(record.exc_info).split("\n"))
        return _blotted(line)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {f"{name}_" if name in line else name: value for name, value in _facts(record).items()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _blotted(json.dumps(line, default=str))


def logging_config(*, level: str, form: str) -> dict[str, Any]:
    formatter = JsonFormatter if form == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django.server": {"level": "WARNING"},
            "django.request": {"level": "ERROR"},
            "celery": {"level": "WARNING"},
            "kombu": {"level": "WARNING"},
            "multiprocessing": {"level": "CRITICAL"},  # what becomes of each child of Celery's is said by `workers.jobs`
            "django_celery_beat": {"level": "WARNING"},
            "flower": {"level": "WARNING"},
            "rq": {"level": "WARNING"},
            "dramatiq": {"level": "WARNING"},
            "flower.inspector": {"level": "ERROR"},  # asks before the workers are up
            "nats": {"level": "WARNING"},
            "httpcore": {"level": "WARNING"},
            "opentelemetry": {"level": "WARNING"},
        },
    }
