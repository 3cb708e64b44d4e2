"""One running child: its process, its output, and how often it died."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from jobplatform.embedded.adoption import POSSIBLE, PR_SET_PDEATHSIG, Adopted, Nursery, prctl
from jobplatform.embedded.servers import NURSERY, Child

TAIL_LINES = 20
MAX_LINE = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Death:
    at: float
    """Monotonic seconds."""
    was_healthy: bool


@dataclass(frozen=True, kw_only=True)
class Patience:
    """When to give a child up: `deaths` of them within `seconds`, or as many in a row before it ever was healthy."""

    deaths: int = 5
    seconds: float = 30.0

    def ended(self, deaths: Sequence[Death]) -> bool:
        return len(self._recent(deaths)) >= self.deaths or self._stillborn(deaths) >= self.deaths

    def wait_seconds(self, deaths: Sequence[Death]) -> float:
        """Before the next start: at once after the first death, then longer each time."""
        troubles = max(len(self._recent(deaths)), self._stillborn(deaths))
        return 0.0 if troubles <= 1 else min(0.25 * 2 ** (troubles - 2), 5.0)

    def _recent(self, deaths: Sequence[Death]) -> list[Death]:
        return [death for death in deaths if death.at > deaths[-1].at - self.seconds]

    def _stillborn(self, deaths: Sequence[Death]) -> int:
        count = 0
        for death in reversed(deaths):
            if death.was_healthy:
                break
            count += 1
        return count


class Running:
    """A child of the supervisor. Leads a process group of its own, so that nothing it started outlives it."""

    def __init__(self, spec: Child, nursery: Nursery | None = None) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | Adopted | None = None
        self._nursery = nursery
        self.healthy = False
        self.done = False
        self.started_at = 0.0
        self.start_after = 0.0
        self._told_at: float | None = None
        self.deaths: deque[Death] = deque(maxlen=100)
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._rest = b""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def alive(self) -> bool:
        return self.process is not None

    def start(self, environment: Mapping[str, str], *, cwd: str, now: float) -> None:
        self.spec.ready_file.unlink(missing_ok=True)
        self.healthy = False
        self.started_at = now
        self._rest = b""
        self.tail.clear()
        self.process = self._forked() or self._started(environment, cwd)
        os.set_blocking(self.process.stdout.fileno(), False)

    def _forked(self) -> Adopted | None:
        if self._nursery is None or not self.spec.preloaded:
            return None
        spec = self.spec
        return self._nursery.fork(
            name=spec.name, argv=spec.argv, environment=dict(spec.environment), orphan_signal=int(spec.orphan_signal)
        )  # fmt: skip

    def _started(self, environment: Mapping[str, str], cwd: str) -> subprocess.Popen[bytes]:
        with ExitStack() as ours:
            is_nursery = self._nursery is not None and self.spec.kind == NURSERY
            return subprocess.Popen(  # noqa: S603 -- our own command lines
                self.spec.argv,
                env={**environment, **self.spec.environment},
                cwd=cwd,
                stdin=ours.enter_context(self._nursery.new_door()) if is_nursery else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                process_group=0,
                preexec_fn=_die_with_supervisor(self.spec.orphan_signal, os.getpid()),
            )

    def read(self) -> list[str] | None:
        """The whole lines written since the last call; None when the other end is closed."""
        try:
            data = self.process.stdout.read(64 * 1024)
        except BlockingIOError:
            return []
        if data is None:
            return []
        *whole, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > MAX_LINE):
            whole, self._rest = [*whole, self._rest], b""
        lines = [_readable(line) for line in whole]
        self.tail.extend(lines)
        return lines if data or lines else None

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def tell_to_stop(self, *, now: float) -> float:
        """Once; a second SIGTERM would mean something else to some. When it was told."""
        if self._told_at is None:
            self._told_at = now
            self.signal(signal.SIGTERM)
        return self._told_at

    def end_group(self) -> None:
        """Kills what is left of the group, the leader included."""
        with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            os.killpg(self.process.pid, signal.SIGKILL)

    def bury(self) -> None:
        """After the leader's end: nothing of its group may go on, and its output is closed."""
        self.end_group()
        self.process.stdout.close()
        self.process = None
        self.spec.ready_file.unlink(missing_ok=True)


def how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


def _readable(line: bytes) -> str:
    text = line.rstrip(b"\r").decode(errors="replace")
    return text if text.isprintable() else "".join(char if char.isprintable() or char == "\t" else f"\\x{ord(char):02x}" for char in text)


def _die_with_supervisor(number: int, supervisor: int):
    """Runs in the child before exec: when the supervisor ends, even by SIGKILL, the kernel signals the child.

    Safe here because the supervisor has one thread. Elsewhere than on Linux the next `up` ends what was left.
    """
    if not POSSIBLE:
        return None

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != supervisor:  # it ended between fork and prctl
            os.kill(os.getpid(), signal.SIGKILL)

    return arm
