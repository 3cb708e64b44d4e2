"""The supervisor's side of the nursery: asks it for a child, and takes the child for its own.

A child that was forked twice has lost its parent and goes to the nearest ancestor that wants such children (Linux's subreaper): the
supervisor, which waits for it and signals it as if it had started it itself. The nursery may die at any moment: who is there goes on,
and who is needed meanwhile is started the ordinary way.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

REPLY_SECONDS = 20.0
"""A nursery that takes longer is not asked again."""
REQUEST_BYTES = 64 * 1024
GO = b"!"
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36

POSSIBLE = sys.platform == "linux"
_libc = ctypes.CDLL(None) if POSSIBLE else None


def prctl(option: int, value: Any) -> None:
    if _libc is not None:
        _libc.prctl(option, value, 0, 0, 0)


class Adopted:
    """A child that somebody else forked: as much of `subprocess.Popen` as `Running` needs."""

    def __init__(self, pid: int, stdout: BinaryIO) -> None:
        self.pid, self.stdout = pid, stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Nursery:
    def __init__(self, ready_file: Path) -> None:
        self._ready_file = ready_file
        self._line: socket.socket | None = None

    def new_door(self) -> socket.socket:
        """The standard input of a nursery that is about to start."""
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._hang_up()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return theirs

    def fork(self, *, name: str, argv: Collection[str], environment: dict[str, str], orphan_signal: int) -> Adopted | None:
        """None: it cannot, start it yourself."""
        if self._line is None or not self._ready_file.exists():
            return None
        request = {"name": name, "argv": [*argv], "environment": environment, "orphan_signal": orphan_signal, "supervisor": os.getpid()}
        ours, theirs = socket.socketpair()
        output, its_output = os.pipe()
        with ours:
            try:
                with theirs:
                    socket.send_fds(self._line, [json.dumps(request).encode()], [theirs.fileno(), its_output])
                os.close(its_output)
                its_output = -1
                ours.settimeout(REPLY_SECONDS)
                pid = int(ours.recv(32))
                ours.sendall(GO)
            except (OSError, ValueError):  # it died, or is stuck; a child of it that comes too late finds nobody and ends
                self._hang_up()
                os.close(output)
                if its_output >= 0:
                    os.close(its_output)
                return None
        return Adopted(pid, os.fdopen(output, "rb", buffering=0))

    def _hang_up(self) -> None:
        """It ends, when it lives."""
        if self._line is not None:
            self._line.close()
            self._line = None


def bury_strangers(known: Collection[int]) -> None:
    """Orphans of our children come to us, too, to be buried by us. `known`: whose ends others wait for."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid in known:
            return
        os.waitpid(found.si_pid, 0)
