"""A policy service as docs/policies.md describes it, and ways for it to go wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from apps.core import signatures
from tests.factories import NOON

SECRET = "whsec_dGhlLW9yZy1hbmQtaXRzLXNlcnZpY2Uta25vdy1pdA=="


def answering(decide: Callable[[dict[str, Any]], Any], *, sign: bool = False) -> Callable[..., bool]:
    """Checks the signature, and answers what `decide` says about the question: {"output": …} or {"error": …}."""

    def speak(connection: socket.socket, request: bytes) -> bool:
        head, _, body = request.partition(b"\r\n\r\n")
        given = dict(_pair(line) for line in head.decode().split("\r\n")[1:])
        signatures.verify(SECRET, given, message_id=given["webhook-id"], body=body, now=NOON)
        answer = json.dumps(decide(json.loads(body))).encode()
        extra = signatures.headers(SECRET, message_id=given["webhook-id"], body=answer, now=NOON) if sign else {}
        connection.sendall(http(200, answer, extra))
        return True

    return speak


def http(status: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name.lower(), value
