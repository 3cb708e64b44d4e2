"""A child for a nursery: `python -m tests.integration.platform.tiny_forked WORD`. It says what it finds, and stays."""

import json
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    found = {
        "argv": sys.argv[1:],
        "preloaded": "django" in sys.modules,
        "parent": os.getppid(),
        "group": os.getpgid(0) == os.getpid(),
        "typed": sys.stdin.read(),
        "shown": Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode().split("\0")[1:],
        "called": Path("/proc/self/comm").read_text().strip(),
        "open": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],  # the last one lists them
        "random": os.urandom(4).hex(),
    }
    print(json.dumps(found))
    Path(os.environ["JOBPLATFORM_READY_FILE"]).write_text("")
    if sys.argv[1] == "fails":
        sys.exit("as it was told")
    signal.pause()


if __name__ == "__main__":
    main()
