import pytest
from kombu.exceptions import OperationalError

from jobplatform.broker import Reconnecting
from jobplatform.celery import app


def test_a_worker_looks_for_a_lost_broker_within_seconds_not_half_minutes(monkeypatch):
    waits = []
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _seconds: None)
    with pytest.raises(OperationalError):
        Reconnecting("redis://127.0.0.1:1/0").ensure_connection(lambda _error, wait: waits.append(wait), max_retries=12)
    assert max(waits) == 2.0
    assert sum(waits[:3]) < 2.0


def test_the_app_connects_that_way_and_never_gives_up():
    assert isinstance(app.connection_for_read(), Reconnecting)
    assert isinstance(app.connection_for_write(), Reconnecting)
    assert app.conf.broker_connection_max_retries is None


def test_messages_are_json_only():
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
