"""`python -m demo`: every file of a folder becomes a task on a platform of its own, and shows what became of each; then a
session of task groups runs checks on its packages and merges them into a report."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from demo import checks
from demo.files import NoFolder, look, printable
from demo.play import Play
from demo.stage import ROOT, Broken, Stage

PIPED_WIDTH = 160


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    console = _console()
    try:
        folder = look(options.dir, leave_out=ROOT / "var")
    except NoFolder as problem:
        console.print(f"Cannot look at {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 2
    if not folder.files:
        console.print(f"There is no file in {printable(str(options.dir))}: nothing to do.", markup=False, highlight=False, soft_wrap=True)
        return 0
    stage = Stage(options.data.resolve(), variables={"TASK_PROCESSORS": checks.PROCESSORS, "CODE_CHECKS_ROOT": str(folder.root)})
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _as_interrupt)  # SIGINT too: whoever starts us in the background has it ignored
    try:
        play = Play(console, stage, folder, rows=options.rows)
        status = play.perform()
        if not options.exit:
            play.stay()
        return status
    except Broken as problem:
        console.print(str(problem), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it is ending already
        console.print("Stopping the agents and the platform …", style="bright_black")
        stage.clear()


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--dir", type=Path, default=ROOT, help="the folder whose files become tasks (default: this project)")
    parser.add_argument("--exit", action="store_true", help="stop by itself; status 0 only if all ended as it should")
    parser.add_argument("--data", type=Path, default=ROOT / "var" / "demo", help="data directory; emptied first (default: var/demo)")
    parser.add_argument("--rows", type=int, default=500, help="files shown in the table at the end (default %(default)s)")
    return parser.parse_args(argv)


def _console() -> Console:
    """Piped output has no colour and no moving parts, and a line is as wide as a wide screen."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdigit() and int(columns) else PIPED_WIDTH
    return Console(highlight=False, force_terminal=False, no_color=True, width=width)


def _as_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
