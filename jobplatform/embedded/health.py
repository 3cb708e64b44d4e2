"""How to see that a child does its work: a question with a yes or no, quick on loopback.

Every probe is called again and again while a child starts, from the supervisor's only thread.
"""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 0.3


class Probe(Protocol):
    def healthy(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class HttpAnswers:
    """The server answers, and not with a fault of its own (5xx)."""

    url: str

    def healthy(self) -> bool:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", parts.path or "/", headers={"Connection": "close"})
            return connection.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@dataclass(frozen=True, kw_only=True)
class RedisAnswers:
    """PING is answered with PONG: not while it still loads its file."""

    port: int
    password: str

    def healthy(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECONDS) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2 and (part := connection.recv(256)):
                    answer += part
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"


@dataclass(frozen=True, kw_only=True)
class SaysReady:
    """The process wrote its ready file (`apps.core.readiness`)."""

    path: Path

    def healthy(self) -> bool:
        return self.path.exists()
