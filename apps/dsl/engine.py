"""The pool of sandboxes: hands scripts to them, takes answers, and replaces one that a script brings down.

Scripts never run in a web or worker process. Each server process has up to `POLICY_PROCESSES` sandboxes, started when
first needed and kept; the second is born only when the first stays busy. Many threads may call `Engine.evaluate` at
once. Nothing a script does raises here: every evaluation has an `Answer`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
from collections import OrderedDict, deque

import orjson
from django.conf import settings

from apps.core import observe
from apps.dsl.sandbox import Answer, Evaluation, Job, Sandbox, SandboxLost, SandboxNotStarted

__all__ = ["Answer", "Engine", "Evaluation", "SandboxNotStarted", "engine", "sha256"]

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.02
"""How long to wait for a busy sandbox before another is born."""
STRIKES = 5
REST_SECONDS = 10.0
REMEMBERED_STRIKES = 1000
LIMITS = frozenset({"timeout", "crash"})
"""Kinds of error that cost the platform something: the ones a script is rested for."""


def sha256(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


class Engine:
    """The pool. A script that breaks its limits `STRIKES` times in a row is left alone for `REST_SECONDS`, so that
    one org's bad script cannot take the time of the others'."""

    def __init__(self, *, processes: int, rests: bool = True) -> None:
        """Without `rests` every question is put, however often the script broke its limits: for whoever counts by himself."""
        self._processes = processes
        self._rests = rests
        self._lock = threading.Lock()
        self._idle: queue.LifoQueue[Sandbox] = queue.LifoQueue()
        self._sandboxes: list[Sandbox] = []
        self._strikes: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def evaluate(self, evaluations: list[Evaluation]) -> list[Answer]:
        """One answer each, in order. Blocks for the sum of their times at most, plus the wait for a free sandbox."""
        answers: dict[int, Answer] = {}
        waiting: deque[Job] = deque()
        for index, evaluation in enumerate(evaluations):
            try:
                arguments = None if evaluation.arguments is None else orjson.dumps(evaluation.arguments).decode()
            except TypeError:
                answers[index] = Answer(kind="input", error="the input is not plain JSON")
            else:
                waiting.append(Job(index=index, evaluation=evaluation, arguments=arguments))
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

    def _run(self, sandbox: Sandbox, waiting: deque[Job], answers: dict[int, Answer]) -> None:
        tried_again: set[int] = set()
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
                observe.SANDBOX_RESTARTS.inc()
                log.warning("sandbox.lost", extra={"kind": lost.kind, "because": lost.sentence, "script": job.evaluation.sha256})
                # A crash counts when it happens again in a fresh process: it may have been the rubbish left by
                # others, or somebody's kill. So does silence, unless the process was busy.
                if lost.again and job.index not in tried_again:
                    tried_again.add(job.index)
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
            rests = self._rests and count >= STRIKES
            # After the rest one more breach is enough to rest again.
            self._strikes[script] = (count, time.monotonic() + REST_SECONDS if rests else 0.0)
            if len(self._strikes) > REMEMBERED_STRIKES:
                self._strikes.popitem(last=False)
            return rests

    def _set_resting_aside(self, waiting: deque[Job], answers: dict[int, Answer]) -> int:
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
