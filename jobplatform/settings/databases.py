"""Two homes for data: `default`, and `tasks` when it has a server of its own.

With no `TASKS_DATABASE_URL` everything lives in `default`. With one (`mongodb://…` is the
production target) the models that say `store = "tasks"` live there. The router is the only
place that knows; code never names an alias.
"""

from __future__ import annotations

from typing import Any

import dj_database_url
from django.apps import apps
from django.conf import settings

from jobplatform import env

TASKS = "tasks"

# Several processes share one file: WAL lets readers go on beside the one writer, IMMEDIATE takes the
# write lock at the start of a transaction so that waiting for it works, NORMAL syncs at checkpoints.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000; PRAGMA temp_store=MEMORY; "
    "PRAGMA wal_autocheckpoint=8000;",
}


def database(url: str) -> dict[str, Any]:
    if url.startswith(("mongodb://", "mongodb+srv://")):
        return mongodb(url)
    config = dict(dj_database_url.parse(url, conn_max_age=None))
    if config["ENGINE"].endswith("sqlite3"):
        config["ENGINE"] = "jobplatform.sqlite3"
        config["OPTIONS"] = {**config.get("OPTIONS", {}), **SQLITE_OPTIONS}
    else:
        config["CONN_HEALTH_CHECKS"] = True
    return config


def mongodb(url: str) -> dict[str, Any]:
    """`mongodb://host/name?…`; the path names the database, `jobplatform` when it is empty."""
    path = url.split("://", 1)[1].partition("/")[2].partition("?")[0]
    return {"ENGINE": "django_mongodb_backend", "HOST": url, "NAME": path or "jobplatform", "CONN_MAX_AGE": None}


def databases() -> dict[str, dict[str, Any]]:
    default = env.text("DATABASE_URL") or f"sqlite:///{env.data_dir() / 'platform.sqlite3'}"
    tasks = env.text("TASKS_DATABASE_URL")
    found = {"default": database(default)}
    if tasks and tasks != default:
        found[TASKS] = database(tasks)
    return found


class TasksRouter:
    """Sends the models of the task store to `tasks` when that database exists."""

    def db_for_read(self, model: Any, **_hints: Any) -> str:
        return self._home(model)

    db_for_write = db_for_read

    def allow_relation(self, left: Any, right: Any, **_hints: Any) -> bool:
        return self._home(type(left)) == self._home(type(right))

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **_hints: Any) -> bool | None:
        if TASKS not in settings.DATABASES:
            return None
        if model_name is None:
            return db == "default"
        try:
            model = apps.get_model(app_label, model_name)
        except LookupError:
            return db == "default"
        return db == self._home(model)

    def _home(self, model: Any) -> str:
        return TASKS if getattr(model, "store", "default") == TASKS and TASKS in settings.DATABASES else "default"
