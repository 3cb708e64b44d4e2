"""What `manage.py up` says once it is ready."""

import sys
from dataclasses import replace

from jobplatform.embedded import welcome
from jobplatform.env import BASE_DIR
from tests.unit.platform.test_plan import plan  # noqa: F401  the plan of a whole platform


def test_it_says_what_is_where_and_how_to_get_in(plan, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sys, "executable", str(BASE_DIR / ".venv/bin/python"))
    assert welcome.lines(plan) == [
        "",
        "  web     http://127.0.0.1:8000",
        "  admin   http://127.0.0.1:8000/admin/",
        "  API     http://127.0.0.1:8000/api/docs",
        "  Flower  http://127.0.0.1:1004",
        "  agents  nats://127.0.0.1:1002",
        f"  data    {plan.place.data} (log/ has a file for each process)",
        "",
        "  An org with keys for the API and an agent, and an account for the admin, are made in a second terminal:",
        f"    export JOBPLATFORM_DATA={plan.place.data}",
        '    eval "$(.venv/bin/python manage.py new_org acme --agent ada)"',
        "    .venv/bin/python manage.py createsuperuser",
        "",
    ]
    monkeypatch.setattr(welcome, "DEFAULT_DATA", plan.place.data)
    assert "export" not in "".join(welcome.lines(plan))


def test_what_does_not_run_and_what_is_elsewhere_is_not_told(plan):  # noqa: F811
    outside = {"NATS_URL": "nats://user:secret@nats:4222", "REDIS_URL": "redis://:secret@redis"}
    found = welcome.lines(replace(plan, without=frozenset({"flower", "web"}), outside=outside))
    assert found == ["", f"  data    {plan.place.data} (log/ has a file for each process)", ""]
