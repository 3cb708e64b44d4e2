"""A server that says, over real sockets, whatever a test tells it to, in any rhythm."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class LyingServer:
    """`speak(connection, request)` is called for each request head and body that came in; True keeps the connection."""

    def __init__(self, speak: Callable[[socket.socket, bytes], bool | None], *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.gone = threading.Event()
        self._speak, self._tls = speak, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}/policy"

    def close(self) -> None:
        self.gone.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self.gone.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                if self._tls:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                connection.settimeout(10)
                while (request := _request(connection)) is not None:
                    self.requests.append(request)
                    if not self._speak(connection, request):
                        return
        except OSError:
            pass
        finally:
            connection.close()  # the TLS one


def _request(connection: socket.socket) -> bytes | None:
    seen = b""
    while b"\r\n\r\n" not in seen:
        part = connection.recv(65536)
        if not part:
            return None
        seen += part
    head, _, body = seen.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def saying(text: bytes, *, keep: bool = False) -> Callable[[socket.socket, bytes], bool]:
    def speak(connection: socket.socket, _request: bytes) -> bool:
        connection.sendall(text)
        return keep

    return speak


def hanging_up(answer: bytes, *, last_words: bytes = b"") -> Callable[[socket.socket, bytes], bool]:
    """Answers once per connection and keeps it; the second request on it gets the last words, and the line is dead."""
    used: set[socket.socket] = set()

    def speak(connection: socket.socket, _request: bytes) -> bool:
        if connection in used:
            connection.sendall(last_words)
            return False
        used.add(connection)
        connection.sendall(answer)
        return True

    return speak


def dripping(server: Callable[[], LyingServer], first: bytes, drop: bytes, pause_s: float = 0.02) -> Callable[[socket.socket, bytes], bool]:
    """`first`, and then one `drop` after the other, until the server is closed or the caller hangs up."""

    def speak(connection: socket.socket, _request: bytes) -> bool:
        connection.sendall(first)
        while not server().gone.wait(pause_s):
            connection.sendall(drop)
        return False

    return speak
