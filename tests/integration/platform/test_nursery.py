"""The parent that loads once and forks its children: what they find, who buries them, and what its own death means to them."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from jobplatform.embedded import adoption
from jobplatform.embedded.adoption import POSSIBLE, Nursery
from tests.integration.platform.test_supervisor import Tiny, gone
from tests.integration.platform.test_supervisor import start as start
from tests.processes import wait_until

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="orphans are adopted on Linux only")

NURSERY = {"name": "nursery", "module": ["tests.integration.platform.tiny_nursery", " " * 200]}
FORKED = "tests.integration.platform.tiny_forked"


def child(name: str, *words: str) -> dict:
    return {"name": name, "module": [FORKED, *(words or (name,))], "after": ["nursery"], "stop_seconds": 5}


def said(tiny: Tiny, name: str, count: int = 1) -> dict:
    """What the child of that name found, the so-manieth time."""

    def lines() -> list[str]:
        return [line.split("│ ")[1] for line in list(tiny.lines) if line.startswith(name) and "│ {" in line]

    wait_until(lambda: len(lines()) >= count, seconds=60, what=f"{name} said something")
    return json.loads(lines()[count - 1])


def test_a_forked_child_is_one_of_the_supervisors_own_and_outlives_the_nursery(start):
    tiny = start(NURSERY, child("ada"), child("bo"))
    tiny.said("^READY$")
    before = tiny.pids
    for name in ("ada", "bo"):
        found = said(tiny, name)
        assert (found["argv"], found["preloaded"], found["parent"]) == ([name], True, tiny.process.pid)
        assert (found["typed"], found["group"], found["called"]) == ("", True, name)
        assert found["shown"] == ["-m", FORKED, name]
        assert found["open"] == [0, 1, 2]

    os.kill(before["ada"], signal.SIGKILL)
    tiny.said(r"ada died \(killed by SIGKILL\)")
    assert said(tiny, "ada", 2)["preloaded"] and said(tiny, "ada", 2)["random"] != said(tiny, "ada")["random"]

    tiny.process.send_signal(signal.SIGSTOP)
    os.kill(before["nursery"], signal.SIGKILL)
    os.kill(before["bo"], signal.SIGKILL)
    tiny.process.send_signal(signal.SIGCONT)
    assert not said(tiny, "bo", 2)["preloaded"]  # nobody waits for a nursery
    tiny.said("nursery is healthy again")
    wait_until(lambda: tiny.pids["nursery"] != before["nursery"])
    after = tiny.pids
    os.kill(after["bo"], signal.SIGKILL)
    assert said(tiny, "bo", 3)["preloaded"]
    assert psutil.pid_exists(after["ada"]) and tiny.pids["ada"] == after["ada"]

    pids = list(tiny.pids.values())
    tiny.process.kill()
    wait_until(lambda: all(map(gone, pids)), what="all children are gone")


def test_how_a_forked_child_ended_is_told(start):
    tiny = start(NURSERY, child("ada", "fails"))
    assert tiny.process.wait(60) == 1
    tiny.said(r"GAVE UP: ada keeps dying \(last: exit status 1\)")
    assert [line for line in tiny.lines if line.endswith("│     as it was told")]


def ask(nursery: Nursery):
    return nursery.fork(name="ada", argv=["python"], environment={}, orphan_signal=9)


def test_a_nursery_that_is_not_ready_dead_or_stuck_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(adoption, "prctl", lambda *_: None)
    monkeypatch.setattr(adoption, "REPLY_SECONDS", 0.05)
    ready = tmp_path / "nursery.ready"
    nursery = Nursery(ready)
    assert ask(nursery) is None
    door = nursery.new_door()
    assert ask(nursery) is None
    ready.touch()
    assert ask(nursery) is None  # it does not answer
    door.setblocking(False)
    assert b'"ada"' in door.recv(1000) and door.recv(1000) == b""  # and is told to end
    nursery.new_door().close()
    assert ask(nursery) is None


def test_orphans_are_buried_and_those_who_are_waited_for_are_not():
    script = """
import os, subprocess, sys, time
from jobplatform.embedded.adoption import PR_SET_CHILD_SUBREAPER, bury_strangers, prctl
prctl(PR_SET_CHILD_SUBREAPER, 1)
mine = subprocess.Popen(["false"])
between = os.fork()
if not between:
    os.fork()
    os._exit(0)
os.waitpid(between, 0)
until = time.monotonic() + 20
while open(f"/proc/self/task/{os.getpid()}/children").read() and time.monotonic() < until:
    bury_strangers({mine.pid} if mine.returncode is None else ())
    mine.poll()
print("left:", open(f"/proc/self/task/{os.getpid()}/children").read(), mine.returncode)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.stdout == "left:  1\n", (run.stdout, run.stderr)
