"""How `outbound` makes its calls: connections that are kept, each made to an address that was judged (httpcore).

Connections are kept and reused, per address and port; a slow server holds up nobody but those who call it. Its owner may
close a kept one at the very moment we write on it: a request on a reused connection that broke before a byte of the answer
came is sent once more, on a new connection and within the same deadline. So a receiver may, rarely, see a request twice.
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import certifi
import httpcore
from django.conf import settings

from apps.core import addresses
from apps.core.addresses import Target, UnsafeUrl
from apps.core.outbound import OutboundFailed, Reply

CONNECTIONS = 16
"""To one host and port, per process."""
KEPT_SECONDS = 15.0
POOLS = 128
ADDRESSES_TRIED = 4
LOOKUPS = threading.BoundedSemaphore(32)
"""Name servers can be slow beyond every deadline; no more than this many threads wait for them."""
HEADERS = {"user-agent": "jobplatform", "accept-encoding": "identity"}


def call(target: Target, method: str, *, body: bytes, headers: Mapping[str, str] | None, timeout_s: float, max_bytes: int) -> Reply:
    """See `outbound.send`."""
    _call.deadline = time.monotonic() + timeout_s
    try:
        request = _request(target, method, body, {**HEADERS, **_lower(headers)})
        try:
            _call.connected = _call.answered = False
            return _exchange(_pool(target), request, max_bytes)
        except BROKEN as broken:
            if _call.connected or _call.answered or isinstance(broken, TimeoutError):
                raise
            with httpcore.HTTPConnection(request.url.origin, **_how(target)) as fresh:
                return _exchange(fresh, request, max_bytes)
    except OutboundFailed:
        raise
    except (httpcore.TimeoutException, TimeoutError) as late:
        raise OutboundFailed("timeout", f"No answer within {timeout_s:g} s.") from late
    except ssl.SSLError as untrusted:
        raise OutboundFailed("tls", f"TLS failed: {untrusted.reason or 'no common ground'}.") from untrusted
    except httpcore.LocalProtocolError as wrong:
        raise OutboundFailed("unsafe", "A header or the method is not valid HTTP.") from wrong
    except (httpcore.ProtocolError, httpcore.NetworkError, OSError) as broken:
        raise OutboundFailed("refused", f"The connection failed: {_why(broken)}.") from broken


def reset() -> None:
    """Close every connection (after a fork the child lets go of them; tests start afresh)."""
    with _pools_lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.close()


# ---- one exchange -----------------------------------------------------------------------------------------


def _request(target: Target, method: str, body: bytes, headers: dict[str, str]) -> httpcore.Request:
    fields = [("host", target.authority), *((name, value) for name, value in headers.items() if name not in ("host", "content-length"))]
    if body or method.upper() not in ("GET", "HEAD", "DELETE"):
        fields.append(("content-length", str(len(body))))
    where = httpcore.URL(scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode())
    try:
        encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]
        return httpcore.Request(method, where, headers=encoded, content=body, extensions={"timeout": {"pool": _left()}})
    except UnicodeEncodeError as wrong:
        raise OutboundFailed("unsafe", "A header or the method is not valid HTTP.") from wrong


def _exchange(through: httpcore.ConnectionPool | httpcore.HTTPConnection, request: httpcore.Request, max_bytes: int) -> Reply:
    response = through.handle_request(request)
    try:
        if response.status < 200:
            raise OutboundFailed("refused", "It wants to speak something else than HTTP.")
        if 300 <= response.status < 400:
            raise OutboundFailed("redirect", f"It answered with a redirect ({response.status}), which is not followed.")
        length, parts = 0, []
        for part in response.stream:  # type: ignore[union-attr]
            length += len(part)
            if length > max_bytes:
                raise OutboundFailed("too_large", f"The answer is larger than {max_bytes} bytes.")
            parts.append(part)
    finally:
        response.close()
    answered: dict[str, str] = {}
    for raw, value in response.headers:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        answered[name] = f"{answered[name]}, {text}" if name in answered else text
    return Reply(status=response.status, headers=answered, body=b"".join(parts))


_call = threading.local()
"""Of the call this thread is making: `deadline`, which everything below asks before it waits; whether it `connected` anew;
whether a byte of the answer came (`answered`)."""
BROKEN = (httpcore.RemoteProtocolError, httpcore.NetworkError, OSError)
"""What a connection says that the other side closed; TLS says it as an SSLError, which is an OSError."""


def _left() -> float:
    left = _call.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}


def _why(broken: BaseException) -> str:
    """In words that do not tell a user what our network looks like."""
    known = {ConnectionRefusedError: "refused", ConnectionResetError: "reset", BrokenPipeError: "closed", socket.gaierror: "no such host"}
    if isinstance(broken, httpcore.ProtocolError):
        return "the answer is not HTTP, or it was cut off"
    return next((words for kind, words in known.items() if isinstance(broken, kind)), "unreachable")


# ---- connections ------------------------------------------------------------------------------------------

_pools: OrderedDict[tuple[str, str, int, bool], httpcore.ConnectionPool] = OrderedDict()
_pools_lock = threading.Lock()


def _pool(target: Target) -> httpcore.ConnectionPool:
    # `allowed` is part of the key: a connection made under an allow-list is never lent to a call without it.
    key = (target.scheme, target.host, target.port, target.allowed)
    evicted = None
    with _pools_lock:
        pool = _pools.get(key)
        if pool is None:
            pool = _pools[key] = httpcore.ConnectionPool(max_connections=CONNECTIONS, keepalive_expiry=KEPT_SECONDS, **_how(target))
            if len(_pools) > POOLS:
                evicted = next((old for old, idle in _pools.items() if all(each.is_idle() for each in idle.connections)), None)
        _pools.move_to_end(key)
        unused = _pools.pop(evicted) if evicted not in (None, key) else None
    if unused is not None:
        unused.close()
    return pool


def _how(target: Target) -> dict[str, Any]:
    return {"ssl_context": tls() if target.scheme == "https" else None, "retries": 0, "network_backend": _Network(target)}


class _Network(httpcore.NetworkBackend):
    """Where httpcore would look the name up and connect, and so the one place where addresses are judged."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def connect_tcp(self, host: str, port: int, timeout: Any = None, local_address: Any = None, socket_options: Any = None) -> _Stream:
        _call.connected = True
        found = look_up(self._target)
        if not self._target.allowed:
            for _family, address in found:
                try:
                    addresses.judge(ipaddress.ip_address(address[0]))
                except (UnsafeUrl, ValueError) as unsafe:
                    raise OutboundFailed("unsafe", "The URL leads to an address that is not on the public internet.") from unsafe
        failure: OSError = ConnectionRefusedError()
        tried = found[:ADDRESSES_TRIED]
        for index, (family, address) in enumerate(tried):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                # The first of several must not eat the time of the others.
                connection.settimeout(_left() / (len(tried) - index))
                connection.connect(address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                connection.close()
                failure = error
            else:
                return _Stream(connection)
        raise failure


class _Stream(httpcore.NetworkStream):
    """A connected socket that never waits beyond the deadline of the call."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._socket.settimeout(_left())
        part = self._socket.recv(max_bytes)
        _call.answered = _call.answered or bool(part)
        return part

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        while rest:
            self._socket.settimeout(_left())
            try:
                rest = rest[self._socket.send(rest) :]
            except ConnectionError as closed:  # perhaps with an early answer, which httpcore then reads
                raise httpcore.WriteError(str(closed)) from closed

    def close(self) -> None:
        self._socket.close()

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        self._socket.settimeout(_left())
        try:
            return _Stream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname))
        except BaseException:
            self.close()
            raise

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # a kept connection that has something to say has been closed
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket):
            return self._socket
        return None


def look_up(target: Target) -> list[tuple[int, tuple[Any, ...]]]:
    """(family, socket address) of every address of the host, within the deadline. Raises OSError or TimeoutError."""
    if (literal := target.address) is not None:
        return [(socket.AF_INET6 if literal.version == 6 else socket.AF_INET, (target.host, target.port))]
    answer: list[Any] = []
    if not LOOKUPS.acquire(timeout=_left()):
        raise TimeoutError
    done = threading.Event()

    def ask() -> None:
        try:
            answer.append(socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP))
        except (OSError, UnicodeError) as error:
            answer.append(error if isinstance(error, OSError) else socket.gaierror(str(error)))
        finally:
            LOOKUPS.release()
            done.set()

    threading.Thread(target=ask, name="outbound-lookup", daemon=True).start()
    if not done.wait(_left()):
        raise TimeoutError
    if isinstance(answer[0], OSError):
        raise answer[0]
    return list(dict.fromkeys((family, address) for family, _, _, _, address in answer[0]))


@lru_cache(maxsize=1)
def tls() -> ssl.SSLContext:
    """The machine's authorities, the well-known ones, and those of OUTBOUND_CA_FILE."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if settings.OUTBOUND_CA_FILE:
        context.load_verify_locations(settings.OUTBOUND_CA_FILE)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _after_fork() -> None:
    """A forked child must not speak on its parent's connections, nor say goodbye on them: it only forgets them."""
    global _pools, _pools_lock, LOOKUPS
    _inherited.append(_pools)
    _pools, _pools_lock, LOOKUPS = OrderedDict(), threading.Lock(), threading.BoundedSemaphore(32)


_inherited: list[Any] = []
os.register_at_fork(after_in_child=_after_fork)
