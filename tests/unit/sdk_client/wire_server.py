"""A real HTTP server in this process that answers by script: what the platform might do, well or badly."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: Any = None
    """bytes as they are, anything else as JSON"""
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, handler: Handler, seen: Seen) -> None:
        raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        handler.send_response(self.status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **self.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(raw)


def problem(status: int, code: str, detail: str = "No.", *, headers: dict[str, str] | None = None, **facts: Any) -> Reply:
    body = {"title": "A problem", "status": status, "detail": detail, "code": code, "request_id": "r-1", **facts}
    return Reply(status, body, {"Content-Type": "application/problem+json", **(headers or {})})


@dataclass(frozen=True)
class Stream:
    """Chunks, one write each. Then the end as it should be, or (`breaks`) the connection just closes, or (`until`) the
    server holds its breath until the event is set."""

    pieces: Iterable[bytes]
    breaks: bool = False
    until: threading.Event | None = None
    content_type: str = "text/event-stream"

    def __call__(self, handler: Handler, seen: Seen) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", self.content_type)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in self.pieces:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.flush()
        if self.until is not None:
            self.until.wait(20)
        if self.breaks:
            handler.close_connection = True
        else:
            handler.wfile.write(b"0\r\n\r\n")


def hang_up(handler: Handler, seen: Seen) -> None:
    """Close the connection without a word."""
    handler.close_connection = True


def ndjson(*lines: Any, breaks: bool = False) -> Stream:
    return Stream([json.dumps(line).encode() + b"\n" for line in lines], breaks=breaks, content_type="application/x-ndjson")


def event(kind: str, data: Any, event_id: str = "") -> bytes:
    return (f"id: {event_id}\n" if event_id else "").encode() + f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


Step = Callable[["Handler", Seen], None]


class WireServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[Seen] = []
        self.script: list[Step] = []
        self.connections = 0
        self.is_knocked_at = False
        """jobctl asks whether anybody is there before it begins something long: answer, outside the script."""
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def will(self, *steps: Step) -> None:
        self.script.extend(steps)

    def next_step(self, seen: Seen) -> Step:
        if self.is_knocked_at and (seen.method, seen.path, seen.query) == ("GET", "/api/v1/tasks", [("limit", "1")]):
            return Reply(200, {"items": []})
        with self._lock:
            self.seen.append(seen)
            return self.script.pop(0) if self.script else Reply(500, {"detail": "The script has ended.", "code": "script_ended"})

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that closes its connection in the middle is no error of ours."""

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: WireServer

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def _any(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, parse_qsl(parts.query), headers, body)
        try:
            self.server.next_step(seen)(self, seen)
        except OSError:  # the client has gone; that is its right
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = _any

    def log_message(self, *_: Any) -> None:
        pass
