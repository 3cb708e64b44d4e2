"""A supervisor with small scripts for children: `python -m tests.integration.platform.tiny DIR < children.json`.

Input: `{"children": [{"name", "run": <Python> | "program": <path> | "module": <name>, "after": [...], "once": bool, "stop_seconds": s}],
"stop_order": …}`. A script says that it is ready with `ready()`. A module is forked by the nursery, when there is one.
"""

import json
import sys
from pathlib import Path

from jobplatform import env
from jobplatform.embedded.child import Patience
from jobplatform.embedded.console import Console
from jobplatform.embedded.health import SaysReady
from jobplatform.embedded.place import write_json
from jobplatform.embedded.servers import NURSERY, Child
from jobplatform.embedded.supervisor import Supervisor

PRELUDE = """
import os, pathlib, signal, subprocess, sys
def ready():
    pathlib.Path(os.environ["JOBPLATFORM_READY_FILE"]).write_text("")
def pause():
    signal.pause()
"""


def main() -> int:
    directory = Path(sys.argv[1])
    wishes = json.loads(sys.stdin.read())
    children = []
    for wish in wishes["children"]:
        ready_file = directory / f"{wish['name']}.ready"
        argv = (wish["program"],) if "program" in wish else (sys.executable, "-u", "-c", PRELUDE + wish.get("run", ""))
        children.append(
            Child(
                name=wish["name"],
                kind=wish["name"],
                argv=(sys.executable, "-m", *wish["module"]) if "module" in wish else argv,
                preloaded="module" in wish and wish["name"] != NURSERY,
                probe=None if wish.get("once") else SaysReady(path=ready_file),
                ready_file=ready_file,
                after=tuple(wish.get("after", ())),
                environment={"JOBPLATFORM_READY_FILE": str(ready_file)},
                stop_seconds=wish.get("stop_seconds", 3.0),
                told_first=wish.get("told_first", False),
            )
        )
    supervisor = Supervisor(
        children,
        environment=env.inherited(),
        cwd=str(directory),
        console=Console(directory, ["up", *(child.name for child in children)]),
        stop_order=wishes.get("stop_order", [[child.name] for child in children]),
        ready_line="READY",
        on_change=lambda pids: write_json(directory / "pids.json", dict(pids)),
        patience=Patience(deaths=3, seconds=30),
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
