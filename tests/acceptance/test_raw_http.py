"""Bytes on the web server's own socket: framing that two readers could take differently, floods, the idle, and the guessing."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urlsplit

import pytest

pytestmark = pytest.mark.acceptance


def say(stack, data: bytes, *, answers: int = 1, seconds: float = 30.0) -> bytes:
    """All that comes back until the server hangs up, or has said so much and is silent for a moment then."""
    at = urlsplit(stack.url)
    heard = b""
    with socket.create_connection((at.hostname, at.port), timeout=seconds) as connection:
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                heard += part
                if len(statuses(heard)) >= answers:
                    connection.settimeout(1.0)
        except (TimeoutError, ConnectionError):
            pass
    return heard


def statuses(heard: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3})", heard)]


HEAD = b"POST /internal/process-task HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
INSIDE = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HIDDEN = {
    "two lengths": HEAD + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(INSIDE) + INSIDE,
    "a list of lengths": HEAD + b"Content-Length: 0, %d\r\n\r\n" % len(INSIDE) + INSIDE,
    "a signed length": HEAD + b"Content-Length: +%d\r\n\r\n" % len(INSIDE) + INSIDE,
    "a length in hex": HEAD + b"Content-Length: 0x10\r\n\r\n" + INSIDE,
    "an unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + INSIDE,
    "a coding not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + INSIDE,
    "a space before the colon": HEAD + b"Content-Length : %d\r\n\r\n" % len(INSIDE) + INSIDE,
    "a folded line": HEAD + b"X: a\r\n Content-Length: 5\r\n\r\n" + INSIDE,
    "a chunk size that is none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n" + INSIDE,
    "a NUL in a name": HEAD + b"X\x00Y: a\r\nContent-Length: 0\r\n\r\n" + INSIDE,
    "no such version": b"GET /health HTTP/9.9\r\nHost: a\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_request_hidden_in_another_is_never_answered(stack, name):
    found = statuses(say(stack, HIDDEN[name]))
    assert 200 not in found and len(found) <= 1, found
    assert all(400 <= status < 500 for status in found)


@pytest.mark.parametrize("head", [b"X: " + b"a" * 1_000_000, b"\r\n".join(b"X-%d: a" % n for n in range(20_000))], ids=["long", "many"])
def test_a_flood_of_headers_is_refused(stack, head):
    found = statuses(say(stack, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n\r\n"))
    assert 200 not in found and all(400 <= status < 500 for status in found)


def test_requests_in_one_go_are_answered_one_each(stack):
    assert statuses(say(stack, INSIDE * 3, answers=3)) == [200, 200, 200]


def test_the_idle_and_the_slow_hold_up_nobody(stack):
    at = urlsplit(stack.url)
    crowd = [socket.create_connection((at.hostname, at.port), timeout=5) for _ in range(400)]
    try:
        for connection in crowd[::2]:
            connection.sendall(HEAD)  # and never the rest
        for _ in range(5):
            with urllib.request.urlopen(f"{stack.url}/health", timeout=20) as answer:
                assert answer.status == 200
    finally:
        for connection in crowd:
            connection.close()


def test_guessing_a_password_ends_in_waiting(stack):
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    seen = []
    for _ in range(6):
        page = browser.open(f"{stack.url}/admin/login/", timeout=30).read().decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]
        body = urlencode({"csrfmiddlewaretoken": token, "username": "somebody-who-is-not", "password": "x"}).encode()
        try:
            seen.append(browser.open(f"{stack.url}/admin/login/", body, timeout=30).status)
        except urllib.error.HTTPError as refused:
            seen.append(refused.code)
            assert 0 < int(refused.headers["Retry-After"]) <= 300 and "Too many failed attempts" in refused.read().decode()
    assert seen == [200] * 5 + [429]
