"""What `manage.py up` says once it is ready."""

import sys
from dataclasses import replace

from jobplatform.embedded import welcome
from jobplatform.env import BASE_DIR
from tests.unit.platform.test_plan import plan  # noqa: F401  the plan of a whole platform


def said(of) -> dict[str, str]:
    return {line.split()[0]: line for line in welcome.lines(of) if line}


def test_it_says_what_is_where_and_how_to_get_in(plan):  # noqa: F811
    found = said(plan)
    assert list(found) == ["web", "admin", "API", "Flower", "agents", "data"]
    assert "http://127.0.0.1:8000/admin/" in found["admin"] and found["admin"].endswith(" manage.py createsuperuser")
    assert "http://127.0.0.1:8000/api/docs" in found["API"] and " manage.py create_api_key --org " in found["API"]
    assert "nats://127.0.0.1:1002" in found["agents"]
    assert str(plan.place.data) in found["data"]


def test_commands_are_told_as_they_have_to_be_typed(plan, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sys, "executable", str(BASE_DIR / ".venv/bin/python"))
    assert f"JOBPLATFORM_DATA={plan.place.data} .venv/bin/python manage.py createsuperuser" in said(plan)["admin"]
    monkeypatch.setattr(welcome, "DEFAULT_DATA", plan.place.data)
    assert ": .venv/bin/python manage.py createsuperuser" in said(plan)["admin"]


def test_what_does_not_run_and_what_is_elsewhere_is_not_told(plan):  # noqa: F811
    outside = {"NATS_URL": "nats://user:secret@nats:4222", "REDIS_URL": "redis://:secret@redis"}
    found = said(replace(plan, without=frozenset({"flower", "web"}), outside=outside))
    assert list(found) == ["data"]
    assert "secret" not in str(found)
