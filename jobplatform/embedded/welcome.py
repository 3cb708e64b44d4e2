"""What `manage.py up` says once all are healthy: what is where, and how to get in."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from jobplatform.embedded.servers import Plan
from jobplatform.env import BASE_DIR

DEFAULT_DATA = BASE_DIR / "var"


def lines(plan: Plan) -> list[str]:
    """For people. What does not run is left out, and so are servers of their own: such a URL may hold a password."""
    urls = plan.urls()
    places = {
        "web": urls.get("web"),
        "admin": urls.get("admin"),
        "API": urls.get("docs"),
        "Flower": urls.get("flower"),
        "agents": urls.get("nats") if plan.has("nats") else None,
        "data": f"{plan.place.data} (log/ has a file for each process)",
    }
    found = ["", *(f"  {name:<6}  {where}" for name, where in places.items() if where), ""]
    return [*found, *_to_get_in(plan.place.data), ""] if plan.has("web") else found


def _to_get_in(data: Path) -> list[str]:
    """Commands as they have to be typed beside this `up`: with its Python, in its data directory."""
    python = Path(sys.executable)
    typed = shlex.quote(str(python.relative_to(BASE_DIR) if python.is_relative_to(BASE_DIR) else python))
    commands = [
        f'eval "$({typed} manage.py new_org acme --agent ada)"',
        f"{typed} manage.py createsuperuser",
    ]
    if data != DEFAULT_DATA:
        commands.insert(0, f"export JOBPLATFORM_DATA={shlex.quote(str(data))}")
    return [
        "  An org with keys for the API and an agent, and an account for the admin, are made in a second terminal:",
        *(f"    {one}" for one in commands),
    ]
