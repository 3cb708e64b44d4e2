"""One sandbox process as its host sees it: start it, send questions, take answers, notice when it is lost.

The other side of the pipes is `guest.py`, which says what travels on them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import psutil

log = logging.getLogger(__name__)

MEMORY_BYTES = 256 * 1024 * 1024
GRACE_SECONDS = 0.2
"""How long after its own deadline a sandbox may stay silent before it is killed."""
LOAD_SECONDS = 0.25
"""What compiling a script may add, the first time a sandbox sees it (`guest.COMPILE_SECONDS`)."""
START_SECONDS = 10.0
FRAME_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One call of `function` in a script. `arguments` None only compiles it and looks for the function."""

    source: str
    sha256: str
    function: str
    arguments: tuple[Any, ...] | None
    timeout_ms: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of an evaluation: `value` is plain JSON when `kind` is "", else `error` is one sentence.

    Kinds: timeout, crash, script (with `line`), entry, answer, input, resting, unavailable.
    """

    value: Any = None
    kind: str = ""
    error: str = ""
    line: int | None = None
    duration_us: int = 0


@dataclass(frozen=True, kw_only=True)
class Job:
    """An evaluation on its way: its place in the batch, and its arguments as JSON."""

    index: int
    evaluation: Evaluation
    arguments: str | None


class SandboxLost(Exception):
    """The process ended or fell silent in the middle of its work. `kind` is timeout or crash; `again` when it need not
    have been the script's fault."""

    def __init__(self, kind: str, sentence: str, *, again: bool) -> None:
        self.kind, self.sentence, self.again = kind, sentence, again
        super().__init__(sentence)


class SandboxNotStarted(Exception):
    """No sandbox process could be brought up at all."""


@lru_cache(maxsize=1)
def _command() -> list[str]:
    library = importlib.util.find_spec("starlark").origin
    program = Path(__file__).with_name("guest.py")
    return [sys.executable, "-I", "-S", "-E", "-B", str(program), str(MEMORY_BYTES), str(Path(library).parents[1])]


class Sandbox:
    """A place for one sandbox process, used by one thread at a time. Brings the process up when it is not there."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._greeted = False
        self._known: set[tuple[str, str]] = set()
        self._received = bytearray()
        self._cpu_seconds = 0.0
        self.tired = False
        self.confined: tuple[str, ...] = ()
        """What the process gave up at its start, for `doctor`: network, privileges, user, nofile, …"""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Spawn without waiting; the first use reads the greeting."""
        self.stop()
        # An empty environment and no descriptors but the two pipes; its own session, so that no terminal signal
        # and no group kill meant for the server reaches it.
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and file)
                _command(), stdin=pipe, stdout=pipe, stderr=nowhere, env={}, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise SandboxNotStarted(str(error)) from error
        os.set_blocking(self._process.stdin.fileno(), False)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
        self._process, self._greeted, self.tired, self._cpu_seconds = None, False, False, 0.0
        self._known.clear()
        self._received.clear()

    def forget(self) -> None:
        """In a forked child: let go of the parent's process without touching it."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.returncode = 0
        self.__init__()

    def ready(self) -> None:
        """A greeted, living process, or SandboxNotStarted."""
        if self._process is not None and self._process.poll() is not None:
            log.warning("sandbox.found_dead", extra={"pid": self._process.pid, "status": self._process.returncode})
            self.stop()
        if self._process is None:
            self.start()
        if self._greeted:
            return
        try:
            greeting = next(self._frames(memoryview(b""), [START_SECONDS]))
        except SandboxLost as lost:
            self.stop()
            raise SandboxNotStarted(lost.sentence) from lost
        self.confined, self._greeted = tuple(greeting["value"]), True

    def run(self, jobs: list[Job]) -> Iterator[Answer]:
        """One answer each, in order, as they come. SandboxLost when the process goes; the first without an answer did it."""
        self.ready()
        requests, allowances = [], []
        for job in jobs:
            evaluation = job.evaluation
            script = (evaluation.sha256, evaluation.function)
            request = {"sha": evaluation.sha256, "function": evaluation.function, "timeout_ms": evaluation.timeout_ms}
            allowances.append(evaluation.timeout_ms / 1000 + GRACE_SECONDS)
            if script not in self._known:
                self._known.add(script)
                request["source"] = evaluation.source
                allowances[-1] += LOAD_SECONDS
            request["arguments"] = job.arguments
            requests.append(_frame(request))
        for job, answer in zip(jobs, self._frames(memoryview(b"".join(requests)), allowances), strict=True):
            self.tired = self.tired or "tired" in answer
            self._cpu_seconds = answer["cpu"]
            yield _parse(answer, job.evaluation)

    def _frames(self, outgoing: memoryview, allowances: list[float]) -> Iterator[dict[str, Any]]:
        """Write while reading (both pipes are small), one frame per allowance in seconds."""
        reading, writing = self._process.stdout.fileno(), self._process.stdin.fileno()
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        if outgoing:
            poll.register(writing, select.POLLOUT)
        for allowance in allowances:
            deadline = time.monotonic() + allowance
            while (frame := self._take_frame()) is None:
                ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
                if not ready:
                    # Silent without working: stopped, or starved by a busy machine. Then it may try once more.
                    idle = self._cpu_since_last_answer() < allowance / 4
                    self.stop()
                    raise SandboxLost("timeout", "took too long and had to be killed", again=idle)
                for descriptor, _ in ready:
                    if descriptor == writing:
                        outgoing = self._write(outgoing)
                        if not outgoing:
                            poll.unregister(writing)
                    else:
                        self._read(reading)
            yield frame

    def _cpu_since_last_answer(self) -> float:
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return times.user + times.system - self._cpu_seconds

    def _write(self, outgoing: memoryview) -> memoryview:
        try:
            return outgoing[os.write(self._process.stdin.fileno(), outgoing) :]
        except BlockingIOError:
            return outgoing
        except BrokenPipeError:  # it is gone; what it still answered is read before that is said
            return outgoing[:0]

    def _read(self, descriptor: int) -> None:
        chunk = os.read(descriptor, 1 << 18)
        self._received += chunk
        if not chunk:
            status = self._process.wait()
            self.stop()
            raise SandboxLost("crash", f"nested too deeply or used too much memory ({_ending(status)})", again=True)

    def _take_frame(self) -> dict[str, Any] | None:
        size = int.from_bytes(self._received[:4], "big")
        if size > FRAME_BYTES:
            self.stop()
            raise SandboxLost("crash", "answered too much", again=False)
        if len(self._received) < 4 + size or not size:
            return None
        frame = bytes(self._received[4 : 4 + size])
        del self._received[: 4 + size]
        try:
            return orjson.loads(frame)
        except orjson.JSONDecodeError:
            self.stop()
            raise SandboxLost("crash", "answered something unreadable", again=False) from None


def _frame(request: dict[str, Any]) -> bytes:
    body = orjson.dumps(request)
    return len(body).to_bytes(4, "big") + body


def _ending(status: int) -> str:
    try:
        return signal.Signals(-status).name if status < 0 else f"status {status}"
    except ValueError:
        return f"signal {-status}"


def _parse(answer: dict[str, Any], evaluation: Evaluation) -> Answer:
    kind, line = answer.get("error", ""), answer.get("line")
    error = answer.get("message", "")
    if kind == "timeout":
        error = f"took longer than {evaluation.timeout_ms} ms"
    elif line is not None:
        error = f"line {line}: {error}"
    return Answer(value=answer.get("value"), kind=kind, error=error, line=line, duration_us=answer["us"])
