"""The data directory of one platform: who holds it, its ports, its secrets, and `run/stack.json`."""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

# Below the range from which systems take the near end of outgoing connections: a port that is ours stays free
# while its server restarts.
PORTS = range(12_000, 32_000)


class Taken(Exception):
    """The directory or the port cannot be had: somebody else has it, or it is not ours to use."""


class Place:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.run = data / "run"
        self.logs = data / "log"
        self.stack_file = self.run / "stack.json"
        self._ports_file = self.run / "ports.json"

    @contextmanager
    def held(self) -> Iterator[None]:
        """One `up` per directory. The kernel lets go of the lock however this process ends. Raises Taken."""
        try:
            for directory in (self.data, self.run, self.logs):
                directory.mkdir(parents=True, exist_ok=True)
            self.run.chmod(0o700)
            lock_file = (self.run / "up.lock").open("a+")
        except OSError as error:
            raise Taken(f"{error.filename} cannot be used: {error.strerror}. Name another directory: --data DIR") from None
        with lock_file as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                pid = lock.read().strip()
                raise Taken(
                    f"another `up` (pid {pid}) is using {self.data}. Stop it (Ctrl-C there, or `kill {pid}`), "
                    "or give this one a directory of its own: --data DIR"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield
            finally:
                self.stack_file.unlink(missing_ok=True)

    def ready_file(self, name: str) -> Path:
        return self.run / f"{name}.ready"

    def leftovers(self) -> list[psutil.Process]:
        """Processes of an earlier `up` here that was killed outright. Call while holding the directory."""
        found = []
        for process in psutil.process_iter():
            try:
                marker = process.environ().get("JOBPLATFORM_READY_FILE", "")
            except (psutil.Error, OSError):
                continue
            if marker and Path(marker).parent == self.run and process.pid != os.getpid():
                found.append(process)
        return found

    def ports(self, wanted: Mapping[str, int], *, host: str = "127.0.0.1", liked: Mapping[str, int] | None = None) -> dict[str, int]:
        """A port per name: the one asked for, or with 0 the one it had last time, or the one it would like, or a free one. Raises Taken."""
        try:
            before = json.loads(self._ports_file.read_text())
        except (FileNotFoundError, ValueError):
            before = {}
        chosen: dict[str, int] = {}
        for name, port in wanted.items():
            at = host if name == "web" else "127.0.0.1"
            if port:
                if not _is_free(at, port):
                    another = f"Choose another with --{_option(name)} (0: any free one)"
                    raise Taken(f"port {port} for {name} is in use{owner_of_port(port)}. {another}")
                chosen[name] = port
            else:
                first = [port for port in (before.get(name), (liked or {}).get(name)) if port]
                chosen[name] = _free_port(at, first, exclude=chosen.values())
        write_json(self._ports_file, {**before, **chosen})
        return chosen

    def secret(self, name: str) -> str:
        """A password made once and readable by its owner only."""
        path = self.data / name
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text()


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    fresh.replace(path)


def write_json(path: Path, value: Any) -> None:
    write_private(path, json.dumps(value, indent=2) + "\n")


def _option(name: str) -> str:
    return "port" if name == "web" else f"{name}-port"


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # Connections of a stopped server that still linger are no obstacle; a listening server is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _free_port(host: str, first: Iterable[int], *, exclude: Iterable[int]) -> int:
    taken = set(exclude)
    for port in (*first, *random.sample(PORTS, 200)):
        if port not in taken and _is_free(host, port):
            return port
    raise Taken("no free port found")


def owner_of_port(port: int) -> str:
    """` by NAME (pid N)`, as far as we may see; empty when nobody listens."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # other people's processes are not ours to see
    return ""
