"""What `manage.py up` says once all are healthy: what is where, and how to get in."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from jobplatform.embedded.servers import Plan
from jobplatform.env import BASE_DIR

DEFAULT_DATA = BASE_DIR / "var"


def lines(plan: Plan) -> list[str]:
    """For people. Servers of their own are left out, as are parts that do not run: an outside URL may hold a password."""
    urls = plan.urls()
    shown = [
        ("web", urls.get("web"), ""),
        ("admin", urls.get("admin"), f"an account for it: {_manage(plan.place.data)} createsuperuser"),
        ("API", urls.get("docs"), f"a key for it: {_manage(plan.place.data)} create_api_key --org acme --create-org --role org_admin"),
        ("Flower", urls.get("flower"), "Celery's workers"),
        ("agents", urls.get("nats") if plan.has("nats") else None, "where they connect (NATS)"),
        ("data", str(plan.place.data), "its log/ has a file for each process; Ctrl-C stops them all"),
    ]
    shown = [(name, where, more) for name, where, more in shown if where]
    width = max(len(where) for _, where, _ in shown)
    return ["", *(f"  {name:<6}  {where:<{width}}  {more}".rstrip() for name, where, more in shown), ""]


def _manage(data: Path) -> str:
    """Commands as they have to be typed beside this `up`: with its Python, in its data directory."""
    python = Path(sys.executable)
    typed = python.relative_to(BASE_DIR) if python.is_relative_to(BASE_DIR) else python
    where = "" if data == DEFAULT_DATA else f"JOBPLATFORM_DATA={shlex.quote(str(data))} "
    return f"{where}{shlex.quote(str(typed))} manage.py"
