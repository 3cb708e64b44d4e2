"""Calls to users' addresses, over real sockets: what is never connected to, and what a lying server can do."""

from __future__ import annotations

import os
import socket
import ssl
import threading

import pytest
import trustme

from apps.core import outbound, outbound_calls
from apps.core.outbound import OutboundFailed, send
from tests.lying_server import OK, dripping, hanging_up, saying

LOOPBACK = ["127.0.0.1", "localhost"]


def call(url, *, allow=LOOPBACK, timeout_s=10.0, max_bytes=10_000, **how):
    return send(how.pop("method", "POST"), url, timeout_s=timeout_s, max_bytes=max_bytes, allow=allow, **how)


def failure(url, **how) -> str:
    with pytest.raises(OutboundFailed) as caught:
        call(url, **how)
    assert caught.value.sentence and caught.value.status == 503
    return caught.value.code


@pytest.fixture
def connected(monkeypatch) -> list:
    """Where sockets were connected to."""
    seen: list = []
    real = socket.socket.connect

    def connect(self, address):
        seen.append(address)
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return seen


@pytest.fixture
def names(monkeypatch):
    """`names[host] = [address, …]`: what the name server says, and each time it is asked; a list of lists answers in turn."""
    table: dict[str, list] = {}
    asked: list[str] = []

    def getaddrinfo(host, port, *_, **__):
        asked.append(host)
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        addresses = table[host]
        if addresses and isinstance(addresses[0], list):
            addresses = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(kinds[":" in a], socket.SOCK_STREAM, 6, "", (a, port, 0, 0) if ":" in a else (a, port)) for a in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    table["asked"] = asked
    return table


def test_a_request_arrives_as_it_was_sent(serve):
    server = serve(saying(OK))
    reply = call(f"{server.url}?a=b", body=b'{"x":1}', headers={"Content-Type": "application/json", "X-Signature": "abc"})
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"{}", "application/json")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /policy?a=b http/1.1" and body == b'{"x":1}'
    assert {b"host: " + server.host.encode(), b"content-length: 7", b"x-signature: abc", b"accept-encoding: identity"} <= set(lines)


def test_any_status_but_a_redirect_is_an_answer(serve):
    for status in (204, 400, 404, 500, 503):
        server = serve(saying(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status))
        assert call(server.url, method="GET").status == status


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f000001", "169.254.169.254", "10.0.0.1", "[::ffff:127.0.0.1]"])
def test_no_connection_is_opened_to_what_is_not_allowed(connected, host, settings):
    settings.OUTBOUND_ALLOW = []
    assert failure(f"http://{host}:8080/", allow=[]) == "unsafe"
    assert connected == []


@pytest.mark.parametrize(
    "leads_to",
    [
        ["127.0.0.1"],
        ["10.0.0.7"],
        ["169.254.169.254"],
        ["::1"],
        ["fe80::1"],
        ["100.64.0.1"],
        ["::ffff:127.0.0.1"],
        ["93.184.216.34", "127.0.0.1"],
    ],  # fmt: skip
)
def test_a_public_name_that_leads_inside_is_refused_before_connecting(connected, names, leads_to):
    names["rebind.example.com"] = leads_to
    assert failure("http://rebind.example.com/", allow=[]) == "unsafe"
    assert connected == []


def test_a_name_is_looked_up_once_and_the_judged_address_is_the_one_connected_to(connected, names, serve, monkeypatch):
    server = serve(saying(OK, keep=True))
    # The name server tells the truth to whoever asks first, and lies ever after.
    names["rebind.example.com"] = [["93.184.216.34"], ["127.0.0.1"]]
    recorded = socket.socket.connect

    def led_back(self, address):
        assert address == ("93.184.216.34", server.port)
        return recorded(self, ("127.0.0.1", server.port))

    monkeypatch.setattr(socket.socket, "connect", led_back)
    for _ in range(3):
        assert call(f"http://rebind.example.com:{server.port}/", allow=[]).status == 200
    assert names["asked"] == ["rebind.example.com"]
    assert len(connected) == 1
    outbound.reset()  # the connection is gone: the name is looked up and judged again
    assert failure(f"http://rebind.example.com:{server.port}/", allow=[]) == "unsafe"
    assert len(connected) == 1


def test_a_connection_made_under_an_allow_list_is_not_lent_to_a_call_without_it(serve, names, settings):
    names["policies.example.com"] = ["127.0.0.1"]
    server = serve(saying(OK, keep=True))
    url = f"http://policies.example.com:{server.port}/"
    settings.OUTBOUND_ALLOW = ["policies.example.com"]
    assert call(url, allow=["policies.example.com"]).status == 200
    assert failure(url, allow=[]) == "unsafe"
    assert server.connections == 1 and len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["http://127.0.0.1:{}/in", "http://169.254.169.254/", "file:///etc/passwd", "//localhost/", "/x"])
def test_no_redirect_is_followed(serve, connected, status, place):
    inside = serve(saying(OK))
    location = place.format(inside.port).encode()
    server = serve(saying(b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, location)))
    assert failure(server.url) == "redirect"
    assert inside.requests == [] and connected == [("127.0.0.1", server.port)]


def test_proxies_of_the_environment_are_not_used(serve, monkeypatch):
    proxy, server = serve(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nproxy")), serve(saying(OK))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setitem(os.environ, name, f"http://{proxy.host}")
    assert call(server.url).body == b"{}" and proxy.connections == 0


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
                                  b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"])  # fmt: skip
def test_an_endless_answer_is_cut_at_the_limit(serve, head):
    drop = b"x" * 4096
    if b"chunked" in head:
        drop = b"1000\r\n" + drop + b"\r\n"
    server = serve(dripping(lambda: server, head, drop, pause_s=0))
    assert failure(server.url, max_bytes=50_000, timeout_s=5) == "too_large"


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b"H"),  # a status line that never ends
        (b"HTTP/1.1 200 OK\r\n", b"X-More: y\r\n"),  # headers that never end
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),  # a body, byte by byte
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\n\r\n"),  # never the answer itself
    ],
)
def test_a_slow_answer_ends_at_the_deadline_of_the_whole_call(serve, first, drop):
    server = serve(dripping(lambda: server, first, drop))
    assert failure(server.url, timeout_s=0.3) == "timeout"  # the server would never end


def test_silence_and_a_server_that_never_reads_end_at_the_deadline(serve):
    silent = serve(lambda *_: silent.gone.wait(10))
    assert failure(silent.url, timeout_s=0.2) == "timeout"
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # the kernel accepts; nobody reads
        assert failure(f"http://127.0.0.1:{deaf.getsockname()[1]}/", body=b"x" * 30_000_000, timeout_s=0.3) == "timeout"


def test_a_slow_name_server_ends_at_the_deadline(monkeypatch):
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: done.wait(10) and [])
    assert failure("http://slow.example.com/", timeout_s=0.2) == "timeout"
    done.set()


@pytest.mark.parametrize("text", [b"", b"SSH-2.0-OpenSSH_9\r\n", b"+PONG\r\n",
                                  b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
                                  b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                                  b"\x00" * 200_000])  # fmt: skip
def test_what_is_not_a_whole_http_answer_is_refused(serve, text):
    assert failure(serve(saying(text)).url) == "refused"


def test_nobody_there(settings):
    settings.OUTBOUND_ALLOW = LOOPBACK
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert failure(f"http://127.0.0.1:{port}/") == "refused"


def test_an_unknown_host(names):
    assert failure("http://nowhere.example.com/") == "refused"


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"X\r\nY": "a"}, {"X": "ü€"}, {"ü": "x"}, {"": "x"}])
def test_headers_that_would_smuggle_are_not_sent(serve, headers):
    server = serve(saying(OK))
    assert failure(server.url, headers=headers) == "unsafe"
    assert server.requests == []


def test_connections_are_kept_and_reused_and_a_closed_one_is_replaced(serve):
    server = serve(saying(OK, keep=True))
    for _ in range(5):
        call(server.url)
    assert server.connections == 1
    closing = serve(saying(OK))
    for _ in range(5):
        call(closing.url)  # it closed before, or between our look and our sending: nobody notices
    assert closing.connections == len(closing.requests) == 5


def test_a_request_on_a_kept_connection_that_breaks_before_an_answer_is_sent_once_more_on_a_new_one(serve):
    server = serve(hanging_up(OK))
    assert call(server.url, body=b"first").status == 200
    assert call(server.url, body=b"second").status == 200
    assert server.connections == 2
    assert [request.partition(b"\r\n\r\n")[2] for request in server.requests] == [b"first", b"second", b"second"]


def test_many_stale_connections_cost_one_more_sending_and_not_one_each(serve):
    together = threading.Barrier(4)
    used: set[socket.socket] = set()

    def speak(connection, _request):
        if connection in used:
            return False
        used.add(connection)
        if len(used) <= 4:
            together.wait(5)
        connection.sendall(OK)
        return True

    server = serve(speak)
    threads = [threading.Thread(target=call, args=(server.url,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.connections == 4
    assert call(server.url).status == 200
    assert (server.connections, len(server.requests)) == (5, 6)


@pytest.mark.parametrize(
    ("last_words", "code"),
    [(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "refused"), (b"H", "refused")],
)
def test_once_a_byte_of_the_answer_came_nothing_is_sent_again(serve, last_words, code):
    server = serve(hanging_up(OK, last_words=last_words))
    call(server.url)
    assert failure(server.url) == code
    assert (server.connections, len(server.requests)) == (1, 2)


def test_what_breaks_on_a_new_connection_or_answers_late_is_not_sent_again(serve):
    fresh = serve(saying(b""))
    assert failure(fresh.url) == "refused" and len(fresh.requests) == 1
    silent = serve(lambda connection, request: b"wait" not in request and (connection.sendall(OK) or True) or silent.gone.wait(10))
    call(silent.url)
    assert failure(silent.url, body=b"wait", timeout_s=0.2) == "timeout"
    assert (silent.connections, len(silent.requests)) == (1, 2)


def test_one_hanging_host_does_not_hold_up_another(serve):
    enough = threading.Event()
    hanging = serve(lambda *_: enough.wait(30) and None)
    fine = serve(saying(OK, keep=True))
    outcomes: list[str] = []
    threads = [threading.Thread(target=lambda: outcomes.append(failure(hanging.url, timeout_s=30.0))) for _ in range(40)]
    for thread in threads:
        thread.start()
    assert call(fine.url).status == 200
    assert outcomes == []
    enough.set()
    for thread in threads:
        thread.join()
    assert outcomes == ["refused"] * 40


# ---- TLS --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls_server(serve, authority, names, settings, tmp_path):
    """`tls_server("name in its certificate")`; with the authority trusted."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    settings.OUTBOUND_CA_FILE = str(file)
    outbound_calls.tls.cache_clear()
    settings.OUTBOUND_ALLOW = ["127.0.0.1", "policies.corp"]
    names["policies.corp"] = ["127.0.0.1"]

    def start(name: str, speak=None, *, by=authority):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        by.issue_cert(name).configure_cert(context)
        return serve(speak or saying(OK), tls=context)

    yield start
    outbound_calls.tls.cache_clear()


def test_tls_is_verified_against_the_name_in_the_url_although_the_address_is_pinned(tls_server):
    server = tls_server("policies.corp")
    assert call(f"https://policies.corp:{server.port}/", allow=["policies.corp"]).status == 200
    assert b"host: policies.corp:" in server.requests[0].lower()
    assert failure(server.url) == "tls"  # its certificate does not name 127.0.0.1
    assert len(server.requests) == 1


def test_an_authority_that_nobody_knows_is_not_believed(tls_server):
    server = tls_server("policies.corp", by=trustme.CA())
    assert failure(f"https://policies.corp:{server.port}/", allow=["policies.corp"]) == "tls"
    assert server.requests == []


def test_a_certificate_for_another_name_is_not_believed(tls_server):
    server = tls_server("other.corp")
    assert failure(f"https://policies.corp:{server.port}/", allow=["policies.corp"]) == "tls"


def test_a_tls_handshake_that_hangs_ends_at_the_deadline(settings):
    settings.OUTBOUND_ALLOW = LOOPBACK
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert failure(f"https://127.0.0.1:{mute.getsockname()[1]}/", timeout_s=0.3) == "timeout"


def test_a_kept_tls_connection_that_breaks_is_made_anew(tls_server):
    server = tls_server("policies.corp", hanging_up(OK))
    for _ in range(3):
        assert call(f"https://policies.corp:{server.port}/", allow=["policies.corp"]).status == 200
    assert server.connections == 3
