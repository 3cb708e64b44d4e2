"""A revoked agent's key is worth nothing to NATS, also when NATS was away while it was revoked."""

from __future__ import annotations

import asyncio

import nats as nats_py
import pytest
from nats.errors import Error as NatsError

from apps.orgs import keys
from jobplatform_sdk.credentials import split_key
from tests.factories import NOON, make_key
from workers import upkeep

pytestmark = pytest.mark.django_db(databases="__all__")


def enter(url, api_key):
    """Connect as the agent would. Raises NatsError when NATS does not let it in."""

    async def visit():
        key = split_key(api_key)
        options = {"user_jwt_cb": key.jwt.encode, "signature_cb": key.signer(), "error_cb": _quiet}
        client = await nats_py.connect(url, allow_reconnect=False, max_reconnect_attempts=1, **options)
        await client.close()

    asyncio.run(visit())


async def _quiet(_error):
    pass


def test_upkeep_tells_nats_what_it_missed(nats, settings):
    api_key = make_key("acme", "agent", "ada")
    enter(nats, api_key)
    settings.NATS_URL = "nats://127.0.0.1:1"
    assert not keys.revoke(api_key.split("_")[1], by="tests", now=NOON).told_nats
    upkeep.tell_revoked()  # still away: no trouble
    enter(nats, api_key)
    settings.NATS_URL = nats
    upkeep.tell_revoked()
    upkeep.tell_revoked()
    with pytest.raises(NatsError, match="Authorization"):
        enter(nats, api_key)
