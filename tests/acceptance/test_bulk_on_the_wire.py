"""Bulk submission through the real web server: bodies of both kinds, and clients that read late."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlparse

import pytest

pytestmark = pytest.mark.acceptance
PATH = "/api/v1/tasks/bulk"


def connection(org) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlparse(org.api.url).netloc, timeout=60)


def headers(org, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {org.api.key}", "Content-Type": "application/x-ndjson", **more}


def lines_of(response: http.client.HTTPResponse) -> list[dict]:
    assert response.status == 200
    return [json.loads(line) for line in response.read().splitlines()]


def test_a_body_in_chunks_is_read_as_it_comes(org):
    entries = [org.entry() for _ in range(30)]
    parts = [json.dumps(entry).encode() + b"\n" for entry in entries]
    client = connection(org)
    client.request("POST", PATH, body=iter(parts), headers=headers(org), encode_chunked=True)
    *verdicts, last = lines_of(client.getresponse())
    assert [(verdict["line"], verdict["task_id"]) for verdict in verdicts] == list(enumerate((entry["task_id"] for entry in entries), 1))
    assert last["summary"]["accepted"] == 30


def test_verdicts_come_before_the_body_has_ended(org):
    client = connection(org)
    client.putrequest("POST", PATH)
    for name, value in headers(org, **{"Transfer-Encoding": "chunked"}).items():
        client.putheader(name, value)
    client.endheaders()
    half = b"{}\n" * 100_000
    client.send(b"%x\r\n%s\r\n" % (len(half), half))
    early = client.sock.recv(64)
    assert early.startswith(b"HTTP/1.1 200")
    client.close()


def test_a_client_that_sends_all_before_it_reads_gets_all(org):
    """More verdicts than sockets can hold: were they pushed at him, he could not finish sending, and we would wait for each other."""
    count = 20_000
    body = b'{"task_id":"t","padding":"%s"}\n' % (b"x" * 1000) * count
    client = connection(org)
    client.request("POST", PATH, body=body, headers=headers(org))
    *verdicts, last = lines_of(client.getresponse())
    assert len(verdicts) == last["summary"]["invalid"] == count
    assert [verdict["line"] for verdict in verdicts] == list(range(1, count + 1))
    assert sum(len(json.dumps(verdict)) for verdict in verdicts) > 6_000_000
