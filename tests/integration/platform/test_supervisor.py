"""The supervisor with real, small processes: order, restarts, crash loops, stopping."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest

from jobplatform.env import BASE_DIR
from tests.processes import wait_until
from tests.services import die_with_parent

STEADY = "ready(); pause()"
STUBBORN = "signal.signal(signal.SIGTERM, lambda *_: print('web stays')); ready()\nwhile True: pause()"


class Tiny:
    """A running supervisor; `lines` grows with its output."""

    def __init__(self, directory: Path, children: list[dict], **more) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.platform.tiny", str(directory)],
            cwd=BASE_DIR,
            env={**os.environ, "PYTHONPATH": str(BASE_DIR)},  # children of the tests' own live elsewhere
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,
        )
        self.process.stdin.write(json.dumps({"children": children, **more}))
        self.process.stdin.close()
        self.lines: list[str] = []
        threading.Thread(target=lambda: self.lines.extend(map(str.rstrip, self.process.stdout)), daemon=True).start()

    @property
    def pids(self) -> dict[str, int]:
        return json.loads((self.directory / "pids.json").read_text())

    def said(self, pattern: str) -> str:
        """Waits for a line that matches."""
        return wait_until(lambda: next((line for line in list(self.lines) if re.search(pattern, line)), None), what=f"said {pattern!r}")

    def order(self, *words: str) -> list[str]:
        return [line.split("│ ")[1] for line in self.lines if "│ " in line and line.split("│ ")[1] in words]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path):
    running = []

    def start(*children: dict, **more) -> Tiny:
        running.append(Tiny(tmp_path, list(children), **more))
        return running[-1]

    yield start
    for tiny in running:
        tiny.process.kill()
        tiny.process.wait()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_children_start_when_those_they_need_are_healthy(start):
    tiny = start(
        {"name": "web", "run": "print('web starts'); ready(); pause()", "after": ["setup"]},
        {"name": "setup", "run": "print('setup runs')", "once": True, "after": ["redis"]},
        {"name": "redis", "run": "print('redis starts'); ready(); pause()"},
    )
    tiny.said("^READY$")
    assert tiny.order("redis starts", "setup runs", "web starts") == ["redis starts", "setup runs", "web starts"]
    assert set(tiny.pids) == {"web", "redis"}
    assert tiny.end() == 0


def test_a_killed_child_comes_back_with_a_new_pid(start):
    tiny = start({"name": "web", "run": STEADY}, {"name": "beat", "run": STEADY, "after": ["web"]})
    tiny.said("^READY$")
    before = tiny.pids
    os.kill(before["web"], signal.SIGKILL)
    tiny.said(r"web died \(killed by SIGKILL\)")
    after = wait_until(lambda: tiny.pids if tiny.pids["web"] != before["web"] else None)
    tiny.said("web is healthy again")
    assert after["beat"] == before["beat"]
    assert psutil.pid_exists(after["web"])


def test_nothing_that_a_dead_child_had_started_goes_on(start, tmp_path):
    tiny = start({"name": "web", "run": "pathlib.Path('inner').write_text(str(subprocess.Popen(['sleep', '1000']).pid)); ready(); pause()"})
    tiny.said("^READY$")
    inner = int((tmp_path / "inner").read_text())
    os.kill(tiny.pids["web"], signal.SIGKILL)
    wait_until(lambda: gone(inner), what="the grandchild is gone")


def test_a_crash_loop_is_given_up_loudly(start):
    tiny = start({"name": "redis", "run": STEADY}, {"name": "web", "run": "print('no such table: tasks'); sys.exit(3)"})
    assert tiny.process.wait(30) == 1
    tiny.said(r"GAVE UP: web keeps dying \(last: exit status 3\)")
    assert tiny.said(r"Everything is stopped. Its last lines:")
    assert [line for line in tiny.lines if line.endswith("│     no such table: tasks")]
    assert "READY" not in tiny.lines


def test_a_failed_preparation_ends_everything(start):
    setup = {"name": "setup", "run": "sys.exit('database is from the future')", "once": True}
    tiny = start(setup, {"name": "web", "run": STEADY, "after": ["setup"]})
    assert tiny.process.wait(30) == 1
    tiny.said(r"GAVE UP: setup failed \(exit status 1\)")
    assert [line for line in tiny.lines if line.endswith("│     database is from the future")]


def test_a_program_that_is_not_there_is_named(start):
    tiny = start({"name": "redis", "run": STEADY}, {"name": "nats", "program": "/no/such/nats-server", "after": ["redis"]})
    assert tiny.process.wait(30) == 1
    tiny.said(r"GAVE UP: nats cannot be started: .*/no/such/nats-server")


def test_what_needs_long_to_stop_is_told_first_and_once(start):
    """It ends only when it has seen that the first stage ended while it was at it."""
    busy = """
        import time
        told = []
        signal.signal(signal.SIGTERM, lambda *_: (told.append(1), print('jobs hears')))
        ready()
        while not (told and os.path.exists('web.ended')): time.sleep(0.01)
        print('jobs was told', len(told)); sys.exit()
    """
    web = "signal.signal(signal.SIGTERM, lambda *_: (open('web.ended', 'w').close(), print('web stops'), sys.exit())); ready(); pause()"
    tiny = start(
        {"name": "web", "run": web},
        {"name": "jobs", "run": textwrap.dedent(busy), "stop_seconds": 30, "told_first": True},
        stop_order=[["web"], ["jobs"]],
    )
    tiny.said("^READY$")
    assert tiny.end() == 0
    assert tiny.said("jobs was told 1")
    assert not [line for line in tiny.lines if "killed" in line]


def test_stopping_goes_in_stages_and_takes_the_stubborn_by_force(start):
    polite = "signal.signal(signal.SIGTERM, lambda *_: (print('{0} stops'), sys.exit())); ready(); pause()"
    tiny = start(
        {"name": "redis", "run": polite.format("redis")},
        {"name": "web", "run": STUBBORN, "stop_seconds": 0.3},
        {"name": "beat", "run": polite.format("beat")},
        stop_order=[["web"], ["beat"], ["redis"]],
    )
    tiny.said("^READY$")
    pids = tiny.pids.values()
    assert tiny.end() == 0
    assert tiny.said("web did not stop in time: it is killed")
    assert tiny.order("web stays", "beat stops", "redis stops") == ["web stays", "beat stops", "redis stops"]
    assert all(map(gone, pids))


def test_a_second_interrupt_is_an_order(start):
    tiny = start({"name": "web", "run": STUBBORN, "stop_seconds": 600})
    tiny.said("^READY$")
    tiny.process.send_signal(signal.SIGINT)
    tiny.said("web stays")
    assert tiny.end(signal.SIGINT) == 0
    assert [line.partition("│ ")[2] for line in tiny.lines if "killed" in line] == ["killed, as it was asked for twice: web"]


def test_children_do_not_outlive_a_supervisor_that_is_killed(start):
    tiny = start({"name": "web", "run": STEADY}, {"name": "beat", "run": "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); pause()"})
    tiny.said("^READY$")
    pids = tiny.pids.values()
    tiny.process.kill()
    wait_until(lambda: all(map(gone, pids)), what="all children are gone")
