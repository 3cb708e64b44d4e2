import logging

import pytest
from celery import Celery, current_app

from apps.core import background
from jobplatform.queues import Work


@pytest.fixture
def broker_away():
    """The process's Celery app, for one test, talks to a port where nobody listens."""
    usual = current_app._get_current_object()
    away = Celery("away", set_as_current=False)
    away.conf.broker_write_url = "redis://127.0.0.1:1/0"
    away.conf.broker_transport_options = usual.conf.broker_transport_options
    away.set_current()
    yield
    usual.set_current()


def test_a_hint_that_cannot_be_sent_is_logged_and_swallowed(broker_away, caplog):
    with caplog.at_level(logging.WARNING):
        assert background.send(Work.SWEEP) is False
    assert "background.not_sent" in [record.message for record in caplog.records]


def test_a_hint_is_a_json_message_on_the_queue_of_its_verb():
    with current_app.connection_for_read() as broker:
        broker.SimpleQueue("upkeep").clear()  # other tests of this process may have sent some
        assert background.send(Work.SWEEP, org_id="acme") is True
        message = broker.SimpleQueue("upkeep").get(block=False)
        message.ack()
    assert message.content_type == "application/json"
    assert message.headers["task"] == Work.SWEEP
    assert message.payload[1] == {"org_id": "acme"}


def test_a_hint_that_is_wanted_soon_or_not_at_all_says_until_when():
    with current_app.connection_for_read() as broker:
        broker.SimpleQueue("upkeep").clear()
        assert background.send(Work.SWEEP, expires_seconds=1.0) is True
        message = broker.SimpleQueue("upkeep").get(block=False)
        message.ack()
    assert message.headers["expires"] and message.payload[1] == {}
