import pytest
from django.db import OperationalError

from apps.tasks.models import Task


@pytest.mark.django_db
def test_health_says_ok_and_nothing_about_us(client):
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db
def test_health_is_503_while_a_store_is_away(client, monkeypatch):
    def away(**_filter):
        raise OperationalError("password of db.internal")

    monkeypatch.setattr(Task.objects, "filter", away)
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})


def test_health_is_read_only(client):
    assert client.post("/health").status_code == 405
