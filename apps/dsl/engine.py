"""The host of the sandbox: hands scripts to it, takes answers, and replaces it when a script brings it down.

Scripts never run in a web or worker process. Each server process has up to `POLICY_PROCESSES` sandboxes
(`sandbox.py`), started when first needed and kept; the second is born only when the first stays busy. Many threads
may call `Engine.evaluate` at once. Nothing a script does raises here: every evaluation has an `Answer`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

log = logging.getLogger(__name__)

MEMORY_BYTES = 256 * 1024 * 1024
GRACE_SECONDS = 0.2
"""How long after its own deadline a sandbox may stay silent before it is killed."""
LOAD_SECONDS = 0.25
"""What compiling a script may add, the first time a sandbox sees it (`sandbox.COMPILE_SECONDS`)."""
START_SECONDS = 10.0
PATIENCE_SECONDS = 0.02
FRAME_BYTES = 1024 * 1024
STRIKES = 5
REST_SECONDS = 10.0
REMEMBERED_STRIKES = 1000
LIMITS = frozenset({"timeout", "crash"})
"""Kinds of error that cost the platform something: the ones a script is rested for."""


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
class _Job:
    """An evaluation on its way: its place in the batch, and its arguments as JSON."""

    index: int
    evaluation: Evaluation
    arguments: orjson.Fragment


class SandboxLost(Exception):
    """The process ended or fell silent in the middle of its work. `kind` is timeout or crash."""

    def __init__(self, kind: str, sentence: str) -> None:
        self.kind, self.sentence = kind, sentence
        super().__init__(sentence)


class SandboxNotStarted(Exception):
    """No sandbox process could be brought up at all."""


def sha256(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


@lru_cache(maxsize=1)
def _command() -> list[str]:
    library = importlib.util.find_spec("starlark").origin
    guest = Path(__file__).with_name("sandbox.py")
    return [sys.executable, "-I", "-S", "-E", "-B", str(guest), str(MEMORY_BYTES), str(Path(library).parents[1])]


class Sandbox:
    """A place for one sandbox process, used by one thread at a time. Brings the process up when it is not there."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._greeted = False
        self._known: set[tuple[str, str]] = set()
        self._received = bytearray()
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
        self._process, self._greeted, self.tired = None, False, False
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

    def run(self, jobs: list[_Job]) -> Iterator[Answer]:
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
            requests.append(_frame({**request, "arguments": job.arguments}))
        for job, answer in zip(jobs, self._frames(memoryview(b"".join(requests)), allowances), strict=True):
            self.tired = self.tired or "tired" in answer
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
                    self.stop()
                    raise SandboxLost("timeout", "took too long and had to be killed")
                for descriptor, _ in ready:
                    if descriptor == writing:
                        outgoing = self._write(outgoing)
                        if not outgoing:
                            poll.unregister(writing)
                    else:
                        self._read(reading)
            yield frame

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
            raise SandboxLost("crash", f"nested too deeply or used too much memory ({_ending(status)})")

    def _take_frame(self) -> dict[str, Any] | None:
        size = int.from_bytes(self._received[:4], "big")
        if size > FRAME_BYTES:
            self.stop()
            raise SandboxLost("crash", "answered too much")
        if len(self._received) < 4 + size or not size:
            return None
        frame = bytes(self._received[4 : 4 + size])
        del self._received[: 4 + size]
        try:
            return orjson.loads(frame)
        except orjson.JSONDecodeError:
            self.stop()
            raise SandboxLost("crash", "answered something unreadable") from None


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


class Engine:
    """The pool. A script that breaks its limits `STRIKES` times in a row is left alone for `REST_SECONDS`, so that
    one org's bad script cannot take the time of the others'."""

    def __init__(self, *, processes: int) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._idle: queue.LifoQueue[Sandbox] = queue.LifoQueue()
        self._sandboxes: list[Sandbox] = []
        self._strikes: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def evaluate(self, evaluations: list[Evaluation]) -> list[Answer]:
        """One answer each, in order. Blocks for the sum of their times at most, plus the wait for a free sandbox."""
        answers: dict[int, Answer] = {}
        waiting: deque[_Job] = deque()
        for index, evaluation in enumerate(evaluations):
            try:
                arguments = orjson.Fragment(orjson.dumps(evaluation.arguments))
            except TypeError:
                answers[index] = Answer(kind="input", error="the input is not plain JSON")
            else:
                waiting.append(_Job(index=index, evaluation=evaluation, arguments=arguments))
        self._set_resting_aside(waiting, answers)
        if waiting:
            sandbox = self._borrow()
            try:
                self._run(sandbox, waiting, answers)
            finally:
                self._give_back(sandbox)
        return [answers[index] for index in range(len(evaluations))]

    def check(self, source: str, function: str) -> Answer:
        """Does it compile, and does it have the function?"""
        return self.evaluate([Evaluation(source=source, sha256=sha256(source), function=function, arguments=None, timeout_ms=1000)])[0]

    def confined(self) -> tuple[str, ...]:
        """What a sandbox gives up on this machine (SandboxNotStarted when there can be none)."""
        sandbox = self._borrow()
        try:
            sandbox.ready()
            return sandbox.confined
        finally:
            self._give_back(sandbox)

    def pids(self) -> list[int]:
        return [sandbox.pid for sandbox in self._sandboxes if sandbox.pid]

    def close(self) -> None:
        """End every sandbox; for when no thread uses the engine any more."""
        for sandbox in self._sandboxes:
            sandbox.stop()

    def forget(self) -> None:
        for sandbox in self._sandboxes:
            sandbox.forget()

    def _run(self, sandbox: Sandbox, waiting: deque[_Job], answers: dict[int, Answer]) -> None:
        crashed: set[int] = set()
        while waiting:
            try:
                for answer in sandbox.run(list(waiting)):
                    job = waiting.popleft()
                    answers[job.index] = answer
                    if self._strike(job.evaluation, answer) and self._set_resting_aside(waiting, answers):
                        sandbox.stop()  # their requests are in the pipe already
                        break
            except SandboxLost as lost:
                job = waiting[0]
                log.warning("sandbox.lost", extra={"kind": lost.kind, "because": lost.sentence, "script": job.evaluation.sha256})
                # A crash counts when it happens again in a fresh process: it may have been the rubbish left by
                # others, or somebody's kill.
                if lost.kind == "crash" and job.index not in crashed:
                    crashed.add(job.index)
                    continue
                waiting.popleft()
                answers[job.index] = Answer(kind=lost.kind, error=lost.sentence)
                self._strike(job.evaluation, answers[job.index])
                self._set_resting_aside(waiting, answers)
            except SandboxNotStarted as error:
                log.error("sandbox.not_started", extra={"because": str(error)})
                while waiting:
                    answers[waiting.popleft().index] = Answer(kind="unavailable", error="no sandbox could be started to run it")

    def _borrow(self) -> Sandbox:
        """The most recently used idle sandbox; a new one when none comes free soon and there may be more."""
        try:
            return self._idle.get(timeout=PATIENCE_SECONDS if self._sandboxes else 0.001)
        except queue.Empty:
            pass
        with self._lock:
            if len(self._sandboxes) < self._processes:
                self._sandboxes.append(Sandbox())
                return self._sandboxes[-1]
        return self._idle.get()

    def _give_back(self, sandbox: Sandbox) -> None:
        try:
            if sandbox.tired or sandbox.pid is None:
                sandbox.start()  # not waited for: the next caller finds it warm
        except SandboxNotStarted as error:
            log.error("sandbox.not_started", extra={"because": str(error)})
        finally:
            self._idle.put(sandbox)

    def _strike(self, evaluation: Evaluation, answer: Answer) -> bool:
        """Count consecutive breaches of limits by one script; True when it must rest from now on."""
        script = evaluation.sha256
        with self._lock:
            if answer.kind not in LIMITS:
                self._strikes.pop(script, None)
                return False
            count = min(self._strikes.pop(script, (0, 0.0))[0] + 1, STRIKES)
            rests = count >= STRIKES
            # After the rest one more breach is enough to rest again.
            self._strikes[script] = (count, time.monotonic() + REST_SECONDS if rests else 0.0)
            if len(self._strikes) > REMEMBERED_STRIKES:
                self._strikes.popitem(last=False)
            return rests

    def _set_resting_aside(self, waiting: deque[_Job], answers: dict[int, Answer]) -> int:
        """Answer the jobs of resting scripts; how many they were."""
        if not self._strikes:
            return 0
        now, before = time.monotonic(), len(waiting)
        for _ in range(before):
            job = waiting.popleft()
            if self._strikes.get(job.evaluation.sha256, (0, 0.0))[1] > now:
                sentence = f"not run: it broke its limits {STRIKES} times in a row and rests for {REST_SECONDS:.0f} s"
                answers[job.index] = Answer(kind="resting", error=sentence)
            else:
                waiting.append(job)
        return before - len(waiting)


_engine: Engine | None = None
_engine_lock = threading.Lock()


def engine() -> Engine:
    """This process's engine."""
    global _engine
    with _engine_lock:
        if _engine is None:
            _engine = Engine(processes=settings.POLICY_PROCESSES)
        return _engine


def _after_fork() -> None:
    """A forked child must not speak into its parent's pipes, nor hold them open."""
    global _engine, _engine_lock
    _engine_lock = threading.Lock()
    if _engine is not None:
        _engine.forget()
        _engine = None


os.register_at_fork(after_in_child=_after_fork)
