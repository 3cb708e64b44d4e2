"""GET /ready tells which of the platform's needs are there."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.store


def test_all_there(db, redis, nats_wire, client):
    response = client.get("/ready")
    assert (response.status_code, response.json()) == (200, {"ready": True, "database": True, "redis": True, "nats": True})


def test_some_away(db, redis, nats_wire, valkey, client):
    valkey.kill()
    try:
        response = client.get("/ready")
    finally:
        valkey.start()
    assert (response.status_code, response.json()) == (503, {"ready": False, "database": True, "redis": False, "nats": True})
