"""Starts the children in order, watches them, brings back those that die, and stops them all.

One thread, one loop: wait for output, a signal or the next due moment; then look at everybody.
"""

from __future__ import annotations

import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from jobplatform.embedded.adoption import Nursery, bury_strangers
from jobplatform.embedded.child import Death, Patience, Running, how_it_ended
from jobplatform.embedded.console import Console
from jobplatform.embedded.servers import NURSERY, Child

START_SECONDS = 120.0
"""A child that is not healthy by then is taken for dead. Generous: a busy machine starts slowly, and a dead child is noticed anyway."""
STOP_SECONDS = 18.0
"""All stages of stopping together, unless one child alone needs more."""
SERVERS_SECONDS = 4.5
"""Of these for the servers, which stop last."""
_PROBE_SECONDS = 0.05
_IDLE_SECONDS = 1.0

Pids = Mapping[str, int]


class Supervisor:
    """`run()` returns the exit status: 0 after a signal, 1 when a child was given up.

    `on_change(pids)` is called when all are healthy for the first time, and after each restart from then on.
    `welcome`, lines for people, comes before `ready_line`, which programs wait for.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        environment: Mapping[str, str],
        cwd: str,
        console: Console,
        stop_order: Sequence[Sequence[str]],
        ready_line: str,
        on_change: Callable[[Pids], None],
        welcome: Sequence[str] = (),
        patience: Patience | None = None,
    ) -> None:
        parents = [child for child in children if child.kind == NURSERY]
        nursery = Nursery(parents[0].ready_file) if parents else None
        self._children = [Running(child, nursery) for child in children]
        self._environment = environment
        self._cwd = cwd
        self._console = console
        self._stop_order = stop_order
        self._said_when_ready = (*welcome, ready_line)
        self._on_change = on_change
        self._patience = patience or Patience()
        self._selector = selectors.DefaultSelector()
        self._ready = False
        self._stop_signals = 0
        self._given_up = ""
        self._probed_at = 0.0
        self._began_at = time.monotonic()

    def run(self) -> int:
        self._say(f"starting {len(self._children)} processes")
        with self._signals():
            try:
                while not self._stop_signals and not self._given_up:
                    self._start_due()
                    self._wait(self._pause())
                    self._bury_the_dead()
                    self._ask_for_health()
                    self._announce()
            finally:
                self._stop_all()
        if self._given_up:
            self._say(f"GAVE UP: {self._given_up}")
        return 1 if self._given_up else 0

    # Starting

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if not child.alive and not child.done and now >= child.start_after and self._may_start(child):
                try:
                    child.start(self._environment, cwd=self._cwd, now=now)
                except OSError as error:
                    self._given_up = f"{child.name} cannot be started: {error}"
                    return
                self._selector.register(child.process.stdout, selectors.EVENT_READ, child)
                if child.deaths:
                    self._say(f"{child.name} is started again (pid {child.process.pid})")
                    self._changed()

    def _may_start(self, child: Running) -> bool:
        # Whoever was up before comes back by itself; waiting for the others would add one outage to another.
        return bool(child.deaths) or all(other.healthy for other in self._children if other.spec.kind in child.spec.after)

    def _ask_for_health(self) -> None:
        now = time.monotonic()
        if now - self._probed_at < _PROBE_SECONDS:
            return
        self._probed_at = now
        for child in self._children:
            if not child.alive or child.healthy or child.spec.probe is None:
                continue
            if child.spec.probe.healthy():
                child.healthy = True
                if self._ready:
                    self._say(f"{child.name} is healthy again")
            elif now - child.started_at > START_SECONDS:
                self._say(f"{child.name} is not healthy after {START_SECONDS:.0f} s: it is killed")
                child.end_group()

    def _announce(self) -> None:
        if not self._ready and all(child.healthy for child in self._children):
            self._ready = True
            self._changed()
            self._say(f"all {len(self._children)} healthy after {time.monotonic() - self._began_at:.1f} s")
            for line in self._said_when_ready:
                self._console.plain(line)

    def _changed(self) -> None:
        if self._ready:
            self._on_change({child.name: child.process.pid for child in self._children if child.alive})

    # Watching

    def _wait(self, seconds: float) -> None:
        for key, _events in self._selector.select(seconds):
            if isinstance(key.data, Running):
                self._read(key.data)
            else:
                key.fileobj.recv(4096)

    def _pause(self) -> float:
        if any(child.alive and not child.healthy for child in self._children):
            return _PROBE_SECONDS
        due = [child.start_after for child in self._children if not child.alive and not child.done]
        return min([_IDLE_SECONDS, *(max(at - time.monotonic(), 0.0) for at in due)])

    def _read(self, child: Running) -> bool:
        """False at the end of its output."""
        lines = child.read()
        if lines is None:
            if child.process.stdout in self._selector.get_map():
                self._selector.unregister(child.process.stdout)
            return False
        if lines:
            self._console.lines(child.name, lines, chatter=child.spec.chatter)
        return bool(lines)

    def _bury_the_dead(self) -> None:
        for child in self._children:
            if child.alive and (status := child.process.poll()) is not None:
                self._bury(child)
                self._after_end(child, status)
        bury_strangers({child.process.pid for child in self._children if child.alive})

    def _bury(self, child: Running) -> None:
        child.end_group()
        while self._read(child):
            pass
        if child.process.stdout in self._selector.get_map():
            self._selector.unregister(child.process.stdout)
        child.bury()

    def _after_end(self, child: Running, status: int) -> None:
        if child.spec.probe is None and status == 0:
            child.done = child.healthy = True
            return
        child.deaths.append(Death(at=time.monotonic(), was_healthy=child.healthy))
        child.healthy = False
        how = how_it_ended(status)
        if child.spec.probe is None:
            self._give_up(child, f"{child.name} failed ({how})")
        elif self._patience.ended(child.deaths):
            self._give_up(child, f"{child.name} keeps dying (last: {how})")
        else:
            wait = self._patience.wait_seconds(child.deaths)
            child.start_after = time.monotonic() + wait
            self._say(f"{child.name} died ({how}); again in {wait:.1f} s. Its last lines:", *_quoted(child, 5))

    def _give_up(self, child: Running, reason: str) -> None:
        self._given_up = reason
        self._say(f"{reason}. Everything is stopped. Its last lines:", *_quoted(child))

    # Stopping

    def _stop_all(self) -> None:
        """Stage by stage; whoever does not end in time is killed. A second signal kills the rest at once."""
        began = time.monotonic()
        if self._stop_signals:
            self._say("stopping")
        known = {kind for stage in self._stop_order for kind in stage}
        strangers = tuple({child.spec.kind for child in self._children} - known)
        first = [child for child in self._children if child.alive and child.spec.told_first]
        for child in first:
            child.tell_to_stop(now=began)
        deadline = began + max([STOP_SECONDS, *(child.spec.stop_seconds + SERVERS_SECONDS for child in first)])
        for stage in (strangers, *self._stop_order):
            self._stop([child for child in self._children if child.alive and child.spec.kind in stage], deadline=deadline)
        self._say(f"stopped in {time.monotonic() - began:.1f} s")

    def _stop(self, stage: list[Running], *, deadline: float) -> None:
        now = time.monotonic()
        until = {child.name: min(child.tell_to_stop(now=now) + child.spec.stop_seconds, deadline) for child in stage}
        while left := [child for child in stage if child.alive]:
            at_once = self._stop_signals > 1
            due = [child for child in left if until[child.name] < float("inf") and (at_once or time.monotonic() >= until[child.name])]
            for child in due:
                until[child.name] = float("inf")
                child.end_group()
            if due and at_once:
                self._say(f"killed, as it was asked for twice: {', '.join(child.name for child in due)}")
            elif due:
                self._say(*(f"{child.name} did not stop in time: it is killed" for child in due))
            self._wait(_PROBE_SECONDS)
            for child in left:
                if child.process.poll() is not None:
                    self._bury(child)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM, SIGINT and SIGHUP ask for the end; SIGCHLD only wakes the loop."""
        awake, waker = socket.socketpair()
        awake.setblocking(False)
        waker.setblocking(False)
        self._selector.register(awake, selectors.EVENT_READ)

        def stop(_number: int, _frame: object) -> None:
            self._stop_signals += 1

        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: stop, signal.SIGCHLD: lambda *_: None}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        wakeup = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            awake.close()
            waker.close()

    def _say(self, *lines: str) -> None:
        self._console.lines("up", list(lines))


def _quoted(child: Running, count: int | None = None) -> list[str]:
    lines = list(child.tail)[-count:] if count else list(child.tail)
    return [f"    {line}" for line in lines] or ["    (it wrote nothing)"]
