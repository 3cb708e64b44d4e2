"""Several worker processes that are one. Nothing of Django is loaded here but what a fork needs."""

from __future__ import annotations

import os
import signal
import sys

import psutil
import pytest

from jobplatform.env import BASE_DIR
from tests.processes import wait_until
from tests.services import Server

PROGRAM = """
import os, signal, sys, threading
from django.conf import settings
settings.configure(DATABASES={})
from apps.jobs.backends.processes import ended_with, keep

def work():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("works", flush=True)
    stop.wait()

def died(pid, status, was_told):
    print("ended" if was_told else "died", pid, ended_with(status), flush=True)

keep(work, processes=2, patience_seconds=1, died=died)
print("stopped", signal.getitimer(signal.ITIMER_REAL), flush=True)
"""


@pytest.fixture
def parent():
    environment = {"PYTHONPATH": str(BASE_DIR)}
    server = Server("keep", [sys.executable, "-c", PROGRAM], ready="works", port=0, env=environment)
    server.start()
    wait_until(lambda: server.output().count("works") == 2, what="both work")
    yield server
    server.kill()


def children(parent: Server) -> list[psutil.Process]:
    return psutil.Process(parent.process.pid).children()


def test_one_that_dies_is_replaced_and_its_death_is_told(parent):
    dead, other = children(parent)
    os.kill(dead.pid, signal.SIGKILL)
    wait_until(lambda: parent.output().count("works") == 3, what="there is another")
    assert f"died {dead.pid} its process ended with signal 9" in parent.output()
    assert other in children(parent)
    assert len(children(parent)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_stop_together(parent, number):
    family = children(parent)
    parent.process.send_signal(number)
    assert parent.process.wait(20) == 0
    assert not any(child.is_running() for child in family)
    wait_until(lambda: "stopped (0.0, 0.0)" in parent.output(), what="it says so, and no alarm is left behind")
    assert "died" not in parent.output()


def test_none_goes_on_without_its_parent(parent):
    family = children(parent)
    parent.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
