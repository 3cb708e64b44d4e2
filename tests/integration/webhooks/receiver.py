"""A real HTTP server that gets webhooks: keeps what came, answers what it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Got:
    headers: dict[str, str]
    body: bytes


class Receiver:
    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answer: Callable[[Got], tuple[int, dict[str, str], bytes]] = lambda _got: (204, {}, b"")
        self.came = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                got = Got(
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(int(self.headers["Content-Length"])),
                )
                with receiver.came:
                    receiver.got.append(got)
                    receiver.came.notify_all()
                status, headers, body = receiver.answer(got)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/hook"

    def wait_for(self, count: int, seconds: float = 30.0) -> list[Got]:
        with self.came:
            assert self.came.wait_for(lambda: len(self.got) >= count, seconds), f"{len(self.got)} of {count} came"
        return list(self.got)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
