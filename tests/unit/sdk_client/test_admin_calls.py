"""Webhooks and the audit trail from both clients and jobctl; webhooks checked by their receivers."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest
import standardwebhooks

from jobplatform_sdk import AsyncClient, BadWebhook, Client, verify_webhook
from tests.unit.sdk_client.cli_kit import FINE, USAGE
from tests.unit.sdk_client.conftest import KEY
from tests.unit.sdk_client.wire_server import Reply

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
BODY = b'{"type":"task.completed","data":{"task_id":"t1"}}'
AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ENDPOINT = {
    "endpoint_id": "wh_1", "url": "https://x.example.com/\x1b[2J", "events": ["*"], "description": "", "enabled": True,
    "failing_since": None,
}  # fmt: skip


def headers(secret: str = SECRET, body: bytes = BODY, at: datetime = AT) -> dict[str, str]:
    """As an implementation that is not ours signs."""
    signature = standardwebhooks.Webhook(secret).sign("msg_1", at, body.decode())
    return {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(at.timestamp())), "Webhook-Signature": signature}


def test_a_webhook_of_the_platform_is_believed():
    now = AT.timestamp()
    assert verify_webhook(BODY, headers(), SECRET, now=now)["data"] == {"task_id": "t1"}
    other = "whsec_" + "A" * 43 + "="
    assert verify_webhook(BODY.decode(), headers(), [other, SECRET], now=now + 299)
    both = {**headers(), "Webhook-Signature": "v1a,xyz v1,AAAA " + headers()["Webhook-Signature"]}
    assert verify_webhook(BODY, both, SECRET, now=now)


@pytest.mark.parametrize(
    "wrong",
    [
        {"body": BODY + b" "}, {"now": AT.timestamp() + 301}, {"now": AT.timestamp() - 301}, {"secret": "whsec_" + "A" * 43 + "="},
        {"Webhook-Id": "msg_2"}, {"Webhook-Timestamp": str(int(AT.timestamp()) + 1)}, {"Webhook-Timestamp": "soon"},
        {"Webhook-Signature": "v1,"}, {"Webhook-Signature": ""},
        {"Webhook-Signature": headers()["Webhook-Signature"].replace("v1,", "v2,")},
    ],
    ids=str,
)  # fmt: skip
def test_anything_else_is_not(wrong):
    said = {**headers(), **{name: value for name, value in wrong.items() if name.startswith("Webhook")}}
    with pytest.raises(BadWebhook):
        verify_webhook(wrong.get("body", BODY), said, wrong.get("secret", SECRET), now=wrong.get("now", AT.timestamp()))
    for name in headers():
        with pytest.raises(BadWebhook, match="missing"):
            verify_webhook(BODY, {key: value for key, value in headers().items() if key != name}, SECRET)


def test_both_clients_say_the_same(server):
    def replies():
        return [Reply(201, {**ENDPOINT, "secret": SECRET}), Reply(200, {"items": [], "next_cursor": None}), Reply(200, {"replayed": 3})]

    async def in_async():
        async with AsyncClient(server.url, KEY) as client:
            made = await client.create_webhook("https://x.example.com/", events=["task.failed"])
            page = await client.audit(kind=["config", "role"], since=AT)
            return made["secret"], page["items"], await client.replay_webhook("wh_1", AT, missed=True)

    server.will(*replies())
    with Client(server.url, KEY) as client:
        made = client.create_webhook("https://x.example.com/", events=["task.failed"])
        page = client.audit(kind=["config", "role"], since=AT)
        sync = made["secret"], page["items"], client.replay_webhook("wh_1", AT, missed=True)
    server.will(*replies())
    assert asyncio.run(in_async()) == sync == (SECRET, [], {"replayed": 3})
    first, second = server.seen[:3], server.seen[3:]
    assert [(one.method, one.path, one.query, one.body) for one in first] == [(one.method, one.path, one.query, one.body) for one in second]
    assert first[1].query == [("kind", "config"), ("kind", "role"), ("since", "2026-11-22T12:00:00+00:00"), ("limit", "50")]
    assert first[2].path == "/api/v1/webhooks/wh_1/replay" and first[2].json == {"since": "2026-11-22T12:00:00+00:00", "missed": True}


def test_jobctl_shows_endpoints_and_no_terminal_codes(jobctl, server):
    server.will(Reply(200, {"items": [ENDPOINT]}), Reply(201, {**ENDPOINT, "secret": SECRET}), Reply(200, {"items": [ENDPOINT]}))
    status, out, _ = jobctl("webhooks")
    assert status == FINE and "wh_1" in out and "\x1b" not in out
    status, out, err = jobctl("webhooks", "add", "https://x.example.com/", "--event", "task.failed")
    assert status == FINE and SECRET in out and "this once" in err
    status, out, _ = jobctl("webhooks", "--json")
    assert json.loads(out)["endpoint_id"] == "wh_1"
    for wrong in (["show"], ["add"], ["replay", "wh_1"], ["delivery", "wh_1"]):
        assert jobctl("webhooks", *wrong)[0] == USAGE


def test_jobctl_shows_and_exports_the_audit_trail(jobctl, server):
    line = {"at": "2026-11-22T12:00:00.000Z", "kind": "config", "key": "max_attempts", "by": "admin eve", "old": None, "new": 3}
    server.will(Reply(200, {"items": [line], "next_cursor": None}), Reply(200, b"id,at\r\n1,x\r\n", {"Content-Type": "text/csv"}))
    status, out, _ = jobctl("audit", "--kind", "config")
    assert status == FINE and "max_attempts" in out and "null → 3" in out
    assert "1,x" in jobctl("audit", "--export", "csv")[1]
