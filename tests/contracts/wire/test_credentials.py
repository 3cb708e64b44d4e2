"""What an agent's key opens on a real server, and what it does not."""

import asyncio
import base64
import inspect
import json
from datetime import UTC, datetime, timedelta

import nats as nats_py
import pytest
from nats.errors import Error as NatsError

from apps.messaging import credentials, subjects
from apps.messaging.connection import Delivery
from jobplatform_sdk.credentials import BadKey, split_key
from jobplatform_sdk.link import round_trip
from tests.processes import wait_until

NOW = datetime.now(UTC)
ADA, BO = subjects.agent_token("acme", "ada"), subjects.agent_token("acme", "bo")
NEXT = "$JS.API.CONSUMER.MSG.NEXT.DELIVERIES."


def key_of(subject_id, org_id="acme", *, secret="s3cret", expires_at=None):
    return f"jp_k1_{secret}." + credentials.agent_credentials(org_id, subject_id, secret, expires_at).jwt


class Visitor:
    """A bare NATS client with an agent's key, that remembers what the server forbade."""

    def __init__(self, client, errors):
        self.client, self.errors = client, errors

    @classmethod
    async def enter(cls, url, api_key):
        key, errors = split_key(api_key), []

        async def note(error):
            errors.append(str(error))

        client = await nats_py.connect(
            url,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            error_cb=note,
            user_jwt_cb=key.jwt.encode,
            signature_cb=key.signer(),
            inbox_prefix=subjects.inbox_prefix(key.token),
        )
        return cls(client, errors)

    async def may_publish(self, subject, payload=b"", reply=""):
        before = len(self.errors)
        await self.client.publish(subject, payload, reply=reply)
        await round_trip(self.client)
        return len(self.errors) == before

    async def may_subscribe(self, subject, queue=""):
        before = len(self.errors)
        await self.client.subscribe(subject, queue)
        await round_trip(self.client)
        return len(self.errors) == before


def visiting(visit):
    """Run an asynchronous test; `ada` is a visitor with ada's key."""

    def test(nats, wire, **arguments):
        async def run():
            ada = await Visitor.enter(nats, key_of("ada"))
            try:
                await visit(ada=ada, wire=wire, **arguments)
            finally:
                await ada.client.close()

        asyncio.run(run())

    test.__name__, test.__doc__ = visit.__name__, visit.__doc__
    wanted = [name for name in inspect.signature(visit).parameters if name not in ("ada", "wire")]
    test.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("nats", "wire", *wanted)])
    return test


async def aside(work, *arguments):
    return await asyncio.to_thread(work, *arguments)


@pytest.mark.parametrize(
    "subject",
    [
        subjects.report("acme", "t1", ADA),
        subjects.heartbeat(ADA),
        NEXT + ADA,
        f"$JS.ACK.DELIVERIES.{ADA}.1.1.1.1.0",
    ],
)
@visiting
async def test_an_agent_may_publish_where_it_works(ada, wire, subject):
    assert await ada.may_publish(subject)


@pytest.mark.parametrize(
    "subject",
    [
        subjects.report("acme", "t1", BO),
        subjects.report("acme", "t1", subjects.agent_token("other", "ada")),
        "tasks.acme.t1.events",
        f"tasks.acme.t1.events.{ADA}.x",
        subjects.heartbeat(BO),
        subjects.control(ADA),
        subjects.control(BO),
        subjects.bids(BO),
        subjects.deliveries(ADA),
        subjects.deliveries(BO),
        subjects.news("acme", "t1"),
        "sessions.acme.agency_action",
        f"{subjects.inbox_prefix(BO)}.x",
        "_INBOX.x",
        "_R_.x",
        NEXT + BO,
        "$JS.API.CONSUMER.MSG.NEXT.REPORTS.listener",
        f"$JS.ACK.DELIVERIES.{BO}.1.1.1.1.0",
        "$JS.ACK.REPORTS.listener.1.1.1.1.0",
        "$JS.API.INFO",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.UPDATE.DELIVERIES",
        "$JS.API.STREAM.PURGE.DELIVERIES",
        "$JS.API.STREAM.DELETE.DELIVERIES",
        "$JS.API.STREAM.MSG.GET.DELIVERIES",
        "$JS.API.STREAM.MSG.DELETE.DELIVERIES",
        "$JS.API.STREAM.SNAPSHOT.DELIVERIES",
        "$JS.API.STREAM.RESTORE.DELIVERIES",
        "$JS.API.DIRECT.GET.DELIVERIES",
        f"$JS.API.CONSUMER.CREATE.DELIVERIES.mine.{subjects.deliveries(BO)}",
        f"$JS.API.CONSUMER.DURABLE.CREATE.DELIVERIES.{ADA}",
        f"$JS.API.CONSUMER.DELETE.DELIVERIES.{ADA}",
        f"$JS.API.CONSUMER.DELETE.DELIVERIES.{BO}",
        f"$JS.API.CONSUMER.PAUSE.DELIVERIES.{BO}",
        f"$JS.API.CONSUMER.RESET.DELIVERIES.{ADA}",
        "$SYS.REQ.CLAIMS.UPDATE",
        "$SYS.REQ.SERVER.PING",
        "anything",
    ],
)
@visiting
async def test_an_agent_may_publish_nowhere_else(ada, wire, subject):
    assert not await ada.may_publish(subject)


@pytest.mark.parametrize("subject", [f"{subjects.inbox_prefix(ADA)}.>", subjects.control(ADA), subjects.bids(ADA)])
@visiting
async def test_an_agent_may_listen_to_what_is_said_to_it(ada, wire, subject):
    assert await ada.may_subscribe(subject)


@pytest.mark.parametrize(
    "subject",
    [
        ">",
        "*",
        "*.*",
        "agents.>",
        "agents.*.control",
        subjects.control(BO),
        subjects.bids(BO),
        subjects.deliveries(ADA),
        subjects.deliveries(BO),
        subjects.heartbeat(BO),
        "tasks.>",
        "events.>",
        "sessions.>",
        "_INBOX.>",
        f"{subjects.inbox_prefix(BO)}.>",
        f"{subjects.inbox_prefix(ADA)}x.>",
        "_R_.>",
        "$JS.>",
        "$JS.EVENT.>",
        "$SYS.>",
    ],
)
@pytest.mark.parametrize("queue", ["", "listener"])
@visiting
async def test_an_agent_hears_nothing_else(ada, wire, subject, queue):
    assert not await ada.may_subscribe(subject, queue)


@pytest.mark.parametrize(
    "target", ["$JS.API.STREAM.DELETE.DELIVERIES", "$JS.API.STREAM.PURGE.DELIVERIES", f"$JS.API.CONSUMER.DELETE.DELIVERIES.{BO}"]
)
@visiting
async def test_an_answer_sent_to_a_forged_reply_subject_reaches_no_management(ada, wire, target):
    """A pull request names where its answers go, and the server does not ask whether the agent may publish there."""
    await aside(wire.ensure_agents, [ADA, BO])
    await aside(wire.deliver, [Delivery(subject=subjects.deliveries(BO), payload=b"{}", msg_id="bo")])
    for payload in (b'{"batch":1,"no_wait":true}', b'{"batch":-1}', b"nonsense"):
        await ada.may_publish(NEXT + ADA, payload, reply=target)
    await ada.may_publish(subjects.report("acme", "t1", ADA), b"{}", reply=target)
    await ada.may_publish(f"$JS.ACK.DELIVERIES.{ADA}.1.1.1.1.0", b"+NXT", reply=target)
    assert (await aside(wire.deliveries_of, BO)).unfetched == 1
    await aside(wire.ensure_agents, [ADA, BO])


@visiting
async def test_an_answer_sent_to_a_forged_reply_subject_makes_no_report_and_acknowledges_nothing(ada, wire):
    await aside(wire.ensure_agents, [ADA, BO])
    await aside(wire.deliver, [Delivery(subject=subjects.deliveries(BO), payload=b"{}", msg_id="bo")])
    for target in (subjects.report("acme", "t1", BO), f"$JS.ACK.DELIVERIES.{BO}.1.1.1.1.0", subjects.deliveries(BO)):
        await ada.may_publish(NEXT + ADA, b'{"batch":1,"no_wait":true}', reply=target)
    assert (await aside(wire.reports)).unfetched == 0
    assert (await aside(wire.deliveries_of, BO)).unfetched == 1


@visiting
async def test_an_agent_answers_a_call_for_bids(ada, wire):
    async def bid(call):
        await call.respond(b"7")

    await ada.client.subscribe(subjects.bids(ADA), cb=bid)
    await round_trip(ada.client)
    assert await aside(wire.call, wire.link.request(subjects.bids(ADA), b"how much?"), 10) == b"7"


def entering(url, api_key):
    async def enter():
        visitor = await Visitor.enter(url, api_key)
        await visitor.client.close()

    asyncio.run(enter())


def refused(url, api_key):
    try:
        entering(url, api_key)
    except NatsError as error:
        return "Authorization" in str(error)
    return False


def swapped(api_key, **claims):
    """The key with other claims and the old signature."""
    head, header, payload, signature = api_key.split(".")
    decoded = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    decoded |= claims
    return ".".join((head, header, base64.urlsafe_b64encode(json.dumps(decoded).encode()).decode().rstrip("="), signature))


def test_a_key_opens_the_door(nats, wire):
    entering(nats, key_of("ada"))


def test_an_expired_key_does_not(nats, wire):
    with pytest.raises(NatsError, match="Authorization"):
        entering(nats, key_of("ada", expires_at=NOW - timedelta(seconds=1)))


def test_a_key_with_another_secret_does_not(nats, wire):
    with pytest.raises(NatsError, match="Authorization"):
        entering(nats, key_of("ada").replace("s3cret", "guess", 1))


def test_claims_changed_after_signing_do_not(nats, wire):
    with pytest.raises(NatsError, match="Authorization"):
        entering(nats, swapped(key_of("ada"), name=BO))


def test_a_key_signed_by_another_platform_does_not(nats, wire, settings):
    theirs = settings.SECRET_KEY
    settings.SECRET_KEY = "another"
    credentials.reset()
    stranger = key_of("ada")
    settings.SECRET_KEY = theirs
    credentials.reset()
    with pytest.raises(NatsError, match="Authorization"):
        entering(nats, stranger)


def test_no_key_at_all_does_not(nats, wire):
    async def enter():
        await nats_py.connect(nats, allow_reconnect=False, max_reconnect_attempts=1, error_cb=credentials._quiet)

    with pytest.raises(NatsError, match="Authorization"):
        asyncio.run(enter())


def test_a_revoked_key_is_thrown_out_and_stays_out_while_others_go_on(own_wire, broker):
    own_wire.ensure_agents([ADA, BO])

    async def story():
        ada = await Visitor.enter(broker.url, key_of("ada"))
        bo = await Visitor.enter(broker.url, key_of("bo", secret="other"))
        gone = asyncio.Event()
        ada.client._closed_cb = _setting(gone)
        await aside(lambda: credentials.revoke([split_public(key_of("ada"))], now=datetime.now(UTC)))
        await asyncio.wait_for(gone.wait(), 10)
        assert await bo.may_publish(subjects.heartbeat(BO))
        await bo.client.close()

    asyncio.run(story())
    with pytest.raises(NatsError, match="Authorization"):
        entering(broker.url, key_of("ada"))

    broker.kill()
    broker.up()
    with pytest.raises(NatsError, match="Authorization"):
        entering(broker.url, key_of("ada"))
    credentials.revoke([split_public(key_of("bo", secret="other"))], now=datetime.now(UTC))
    for key in (key_of("ada"), key_of("bo", secret="other")):
        with pytest.raises(NatsError, match="Authorization"):
            entering(broker.url, key)

    broker.wipe()
    broker.up()
    both = [split_public(key_of("ada")), split_public(key_of("bo", secret="other"))]
    credentials.revoke(both, now=datetime.now(UTC))  # upkeep, after the server forgot
    # The server answers before all of it looks at the new claims.
    wait_until(lambda: refused(broker.url, key_of("ada")), what="the forgotten key opens nothing")


def _setting(event):
    async def set_it():
        event.set()

    return set_it


def split_public(api_key):
    """The public key inside a key's JWT: what the platform stores."""
    payload = api_key.split(".")[2]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]


def test_revoking_says_when_nats_is_away(settings):
    settings.NATS_URL = "nats://127.0.0.1:1"
    credentials.revoke([], now=NOW)
    with pytest.raises(credentials.NotPushed):
        credentials.revoke([split_public(key_of("ada"))], now=NOW)


def test_every_process_derives_the_same_keys_and_configuration():
    first = (credentials.platform_credentials(), credentials.server_config(1, 2, "/x"), key_of("ada"))
    credentials.reset()
    assert (credentials.platform_credentials(), credentials.server_config(1, 2, "/x"), key_of("ada")) == first


def test_seeds_do_not_show_when_printed():
    assert "seed" not in repr(credentials.platform_credentials())
    assert "seed" not in repr(split_key(key_of("ada")))


@pytest.mark.parametrize(
    "text", ["", "jp_", "jp_k1", "jp_k1_s", "jp_k1_s.a.b", "jp_k1_s.a.b.c", "xx_k1_s.a.b.c", "jp_k1_s.a.e30.c", "jp__s.a.e30.c"]
)
def test_a_string_that_is_no_agents_key_is_refused_before_anything_is_asked(text):
    with pytest.raises(BadKey):
        split_key(text)
