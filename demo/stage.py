"""The processes of a demo or a bench: the platform (`manage.py up`) and agents. All of them end with us, however we end."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 90.0
STOP_SECONDS = 25.0
AGENT_STOP_SECONDS = 5.0
_OF_ANOTHER_PLATFORM = ("REDIS_URL", "NATS_URL", "DATABASE_URL", "TASKS_DATABASE_URL", "CELERY_BROKER_URL", "SECRET_KEY", "REDIS_PREFIX")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Broken(Exception):
    """A process did not do its part; the message holds its last words."""


class Process:
    """A child whose output we keep. It leads its own group, so a Ctrl-C on the terminal reaches it through us only."""

    def __init__(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._said: deque[str] = deque(maxlen=60)
        self._ready = threading.Event()
        self.ready_line = ""
        self._child = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_end_with_parent if _libc else None,  # noqa: PLW1509
        )
        self._reader = threading.Thread(target=self._read, daemon=True, name=f"output of {name}")
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Until it prints a line that starts with READY. Raises Broken when it ends, or does not in time."""
        if not self._ready.wait(seconds) or not self.ready_line:
            how = "did not get ready" if self.alive else "ended before it was ready"
            raise Broken(f"{self.name} {how}. Its last words:\n{self.last_words()}")

    def check(self) -> None:
        if not self.alive:
            raise Broken(f"{self.name} ended (status {self._child.returncode}). Its last words:\n{self.last_words()}")

    def last_words(self) -> str:
        return "\n".join(f"    {line}" for line in self._said) or "    (none)"

    def ask_to_stop(self) -> None:
        if self.alive:
            self._child.send_signal(signal.SIGTERM)

    def wait_stopped(self, seconds: float) -> None:
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._child.wait()
        self._reader.join(timeout=1)

    def _read(self) -> None:
        for line in self._child.stdout:
            self._said.append(line.rstrip("\n"))
            if line.startswith("READY"):
                self.ready_line = line.strip()
                self._ready.set()
        self._ready.set()


class Stage:
    """A platform of our own in a data directory of its own, which is emptied first; and the agents beside it."""

    def __init__(self, data: Path, *, variables: Mapping[str, str] | None = None) -> None:
        self.data = data
        kept = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_PLATFORM}
        path = os.pathsep.join([str(ROOT / "sdk"), str(ROOT), *filter(None, [kept.get("PYTHONPATH")])])
        self.environment = {**kept, **(variables or {}), "JOBPLATFORM_DATA": str(data), "PYTHONPATH": path}
        self.platform: Process | None = None
        self._asker: subprocess.Popen[str] | None = None
        self.agents: list[Process] = []
        self.stack: dict[str, Any] = {}

    def raise_platform(self, *options: str) -> None:
        """Raises Broken with the platform's own words when it does not come up, or when the directory is in use."""
        self._empty()
        argv = [sys.executable, "manage.py", "up", "--data", str(self.data), "--port", "0", *options]
        self.platform = Process("the platform", argv, self.environment)
        self.platform.wait_ready()
        self.stack = json.loads((self.data / "run" / "stack.json").read_text())

    def url(self, name: str) -> str:
        return self.stack["urls"][name]

    def ask(self, module: str, wishes: Any, **variables: str) -> Any:
        """Run a module beside the platform: JSON in, JSON out. Raises Broken with what it printed."""
        question = json.dumps({"module": module, "wishes": wishes}) + "\n"
        if variables:
            asker = self._new_asker(**variables)
            answer, _ = asker.communicate(question)
        else:
            if self._asker is None:
                self._asker = self._new_asker()
            self._asker.stdin.write(question)
            self._asker.stdin.flush()
            answer = self._asker.stdout.readline()
        done = json.loads(answer) if answer else {"status": -1, "error": "it ended before it answered"}
        if done["status"]:
            raise Broken(f"{module} failed:\n{done['error'].strip()}")
        return json.loads(done["said"].splitlines()[-1])

    def _new_asker(self, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "demo.asker"], cwd=ROOT, env={**self.environment, **variables}, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=_end_with_parent if _libc else None,  # noqa: PLW1509
        )  # fmt: skip

    def start_agent(self, module: str, **variables: str) -> Process:
        agent = Process(f"the agent {module.rpartition('.')[2]}", [sys.executable, "-m", module], {**self.environment, **variables})
        self.agents.append(agent)
        return agent

    def check(self) -> None:
        """Raises Broken when somebody is gone."""
        for process in [*self.agents, *filter(None, [self.platform])]:
            process.check()

    def clear(self) -> None:
        """Agents first, so that they say goodbye; then the platform. May be called twice, and at any moment."""
        if self._asker:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._asker.pid, signal.SIGKILL)
            self._asker.communicate()
            self._asker = None
        for agent in self.agents:
            agent.ask_to_stop()
        for agent in self.agents:
            agent.wait_stopped(AGENT_STOP_SECONDS)
        if self.platform:
            self.platform.ask_to_stop()
            self.platform.wait_stopped(STOP_SECONDS)

    def _empty(self) -> None:
        """What an earlier run left. The lock of a living `up` is respected: it holds run/up.lock."""
        import fcntl

        lock_file = self.data / "run" / "up.lock"
        if lock_file.exists():
            with lock_file.open("a") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise Broken(f"another run is using {_from_here(self.data)}; stop it first") from None
        for name in ("nats", "valkey", "run", "log"):
            shutil.rmtree(self.data / name, ignore_errors=True)
        for file in self.data.glob("platform.sqlite3*"):
            file.unlink()


def _from_here(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _end_with_parent() -> None:
    """In a child before exec: the kernel tells it to stop when we are gone, even by SIGKILL."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
