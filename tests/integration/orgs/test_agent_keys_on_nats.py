"""An agent's key on a real NATS server: it opens its own subjects until it is revoked, then nothing, at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import nats as nats_client
import pytest
from nats.errors import Error as NatsError

from apps.core import clock
from apps.messaging import credentials, subjects
from apps.orgs import keys
from jobplatform_sdk.credentials import split_key
from tests.factories import make_org

pytestmark = pytest.mark.django_db


def new_key(**fields):
    return keys.create(org=make_org("acme"), role="agent", subject_id="ada", by="tests", now=clock.now(), **fields)


async def connect(printed: str, url: str, **callbacks):
    key = split_key(printed)
    return await nats_client.connect(
        url, user_jwt_cb=key.jwt.encode, signature_cb=key.signer(), allow_reconnect=False, max_reconnect_attempts=1,
        reconnect_time_wait=0, inbox_prefix=subjects.inbox_prefix(key.token).encode(), **callbacks,
    )  # fmt: skip


def test_a_revoked_agent_is_thrown_out_and_does_not_come_back(nats):
    made = new_key()

    async def story():
        closed = asyncio.Event()

        async def noted():
            closed.set()

        connection = await connect(made.printed, nats, closed_cb=noted)
        await connection.flush()
        assert split_key(made.printed).token == subjects.agent_token("acme", "ada")
        await asyncio.to_thread(credentials.revoke, [made.row.nats_public_key], now=clock.now())
        await asyncio.wait_for(closed.wait(), 10)
        with pytest.raises(NatsError):
            await connect(made.printed, nats)

    asyncio.run(story())


def test_revoking_one_key_of_an_agent_leaves_its_other_key_alone(nats):
    old, new = new_key(), new_key()
    assert keys.revoke(old.row.key_id, by="tests", now=clock.now()).told_nats

    async def story():
        with pytest.raises(NatsError):
            await connect(old.printed, nats)
        connection = await connect(new.printed, nats)
        await connection.flush()
        await connection.close()

    asyncio.run(story())


def test_an_expired_key_opens_nothing(nats):
    made = keys.create(
        org=make_org("acme"), role="agent", subject_id="ada", by="tests",
        now=clock.now() - timedelta(days=2), expires_at=clock.now() - timedelta(days=1),
    )  # fmt: skip

    async def story():
        with pytest.raises(NatsError):
            await connect(made.printed, nats)

    asyncio.run(story())
