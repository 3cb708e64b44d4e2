"""One readable log of many processes: `name │ line` on the console, and a file per name."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path
from typing import TextIO

ROTATE_BYTES = 10 * 1024 * 1024
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
_CHUNK = select.PIPE_BUF  # a pipe that is writable takes this much without blocking


class Console:
    """Never blocks: when nobody reads our output the lines go to the files only, and the gap is told."""

    def __init__(self, logs: Path, names: list[str], *, out: TextIO = sys.stdout) -> None:
        self._logs = logs
        self._out: int | None = out.fileno()
        self._width = max(map(len, names), default=0)
        paint = out.isatty()
        self._prefix = {
            name: f"\x1b[{_COLOURS[index % len(_COLOURS)]}m{name:<{self._width}} │\x1b[0m " if paint else f"{name:<{self._width}} │ "
            for index, name in enumerate(names)
        }
        self._files = {name: LogFile(logs / f"{name}.log") for name in names}
        self._skipped = 0

    def lines(self, name: str, lines: list[str], *, chatter: tuple[str, ...] = ()) -> None:
        """Empty lines, and those with any of `chatter` in them, go to the file only."""
        self._files[name].write("".join(f"{line}\n" for line in lines))
        prefix = self._prefix[name]
        for line in lines:
            if line and not any(each in line for each in chatter):
                self._show(f"{prefix}{line}\n")

    def plain(self, line: str) -> None:
        """A line by itself, such as READY: for programs that read our output."""
        self._show(f"{line}\n")

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _show(self, text: str) -> None:
        if self._out is None:
            return
        data = text.encode(errors="replace")
        try:
            if not self._writable():
                self._skipped += 1
                return
            if self._skipped:
                os.write(self._out, f"… {self._skipped} lines were not read in time; they are in {self._logs}\n".encode())
                self._skipped = 0
            while data and self._writable():
                data = data[os.write(self._out, data[:_CHUNK]) :]
        except OSError:  # the reader went away; the files go on
            self._out = None

    def _writable(self) -> bool:
        return bool(select.select([], [self._out], [], 0)[1])


class LogFile:
    """Appends; the file before this one is kept as `.1`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def write(self, text: str) -> None:
        if self._file.tell() > ROTATE_BYTES:
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._open()
        self._file.write(text.encode(errors="replace"))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        self._file = self._path.open("ab")
