"""`python -m jobplatform.embedded.nursery`: loads the platform once, and forks each child that the supervisor asks for.

What takes a process most of a second to load is there already, in memory that all of them share. Requests come on the socket that
is this program's standard input (`adoption.Nursery` writes them). A child is forked twice, so that it becomes the supervisor's own:
whoever was forked here does not end with this process, and its exit status goes to whom it concerns.

Nothing here opens a connection, starts a thread or an event loop: a child would inherit half of it. What cannot wait for its first
use looks after itself (`os.register_at_fork`).
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from jobplatform.embedded.adoption import GO, PR_SET_NAME, PR_SET_PDEATHSIG, REQUEST_BYTES, prctl

FIRST = (
    "django.core.management.commands.migrate",
    "jobplatform.management.commands.setup",
    "apps.dsl.management.commands.load_policies",
)
"""What `setup` needs, for which everybody waits."""
THEN = (
    "billiard.heap",
    "billiard.popen_fork",
    "billiard.sharedctypes",
    "billiard.synchronize",
    "jobplatform.management.commands.beat",
    "jobplatform.management.commands.listener",
    "jobplatform.management.commands.worker",
    "celery.apps.worker",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.events.state",
    "celery.fixups.django",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.pidbox",
    "celery.worker.strategy",
    "kombu.transport.redis",
    "workers.listener",
    "celery.apps.beat",
    "django_celery_beat.schedulers",
    "granian.cli",
    "multiprocessing.popen_fork",
    "drf_spectacular.views",
    "django.contrib.auth.backends",
    "django.contrib.sessions.backends.db",
    "django.contrib.staticfiles.storage",
    "flower.command",
)
"""What the others need, loaded while `setup` is at work; then every module that Celery's configuration names, and every URL."""
IDLE_SECONDS = 0.3
"""The first request comes this soon, if it comes: loading more can wait for it."""


def main() -> None:
    door = socket.socket(fileno=os.dup(0))
    _call_it([*sys.orig_argv[:3]], "nursery")
    gc.disable()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    import django

    django.setup()
    load(FIRST)
    from apps.core.readiness import say_ready

    gc.freeze()
    say_ready()
    request = serve(door, deque(THEN))
    if request is not None:
        gc.enable()
        leave(run, request["argv"])


def load(names: Iterable[str]) -> None:
    for name in names:
        importlib.import_module(name)


def load_the_rest() -> None:
    """What is only known by then: the platform's work, and its pages."""
    from django.conf import settings
    from django.urls import get_resolver

    from jobplatform.celery import app

    load(name.rpartition(".")[0] for name in settings.MIDDLEWARE)
    app.loader.import_default_modules()
    app.finalize(auto=True)
    _ = get_resolver().url_patterns


def serve(door: socket.socket, later: deque[str]) -> dict[str, Any] | None:
    """Requests until the supervisor hangs up (None); or, in a child, the request it is there for."""
    complete = False
    while True:
        if not complete and not select.select([door], [], [], IDLE_SECONDS if len(later) == len(THEN) else 0.0)[0]:
            if later:
                load([later.popleft()])
            else:
                load_the_rest()
                gc.collect()
                gc.freeze()
                complete = True
            continue
        message, descriptors, _flags, _address = socket.recv_fds(door, REQUEST_BYTES, 2)
        if not message:
            return None
        request = json.loads(message)
        if _is_child(request, *descriptors):
            door.close()
            return request


def _is_child(request: dict[str, Any], reply: int, output: int) -> bool:
    if (between := os.fork()) != 0:
        os.close(reply)
        os.close(output)
        os.waitpid(between, 0)
        return False
    between = os.getpid()
    if os.fork() != 0:
        os._exit(0)
    while os.getppid() == between:
        time.sleep(0.0005)
    # From here on the supervisor is the parent: the kernel signals us when it ends.
    supervisor = os.getppid()
    prctl(PR_SET_PDEATHSIG, request["orphan_signal"])
    os.setpgid(0, 0)
    with socket.socket(fileno=reply) as line:
        line.sendall(str(os.getpid()).encode())
        if supervisor != request["supervisor"] or os.getppid() != supervisor or line.recv(1) != GO:
            os.kill(os.getpid(), signal.SIGKILL)  # nobody waits for it any more
    _settle_in(request, output)
    return True


def _settle_in(request: dict[str, Any], output: int) -> None:
    """What a new process would have: its own streams, environment and name."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)
    from django.conf import settings

    from jobplatform import env

    env.add(request["environment"])
    settings.READY_FILE = env.text("JOBPLATFORM_READY_FILE")
    _call_it(request["argv"], request["name"])


def leave(work: Callable[..., None], *arguments: Any) -> NoReturn:
    """Ends as Python does, but for taking everything apart that was loaded: that would copy it first."""
    status = 1
    try:
        work(*arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if not isinstance(end.code, int | None):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(argv: list[str]) -> None:
    """As `python …` runs it."""
    if argv[1] == "-m":
        sys.argv = argv[2:]
        runpy.run_module(argv[2], run_name="__main__", alter_sys=True)
    else:
        sys.argv = argv[1:]
        runpy.run_path(argv[1], run_name="__main__")


def _call_it(argv: list[str], name: str) -> None:
    """The command line and the name that `ps` and `top` show: written over those this process was started with."""
    start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    ctypes.memset(start, 0, end - start)
    text = b"\0".join(map(os.fsencode, argv))[: end - start - 1]
    ctypes.memmove(start, text, len(text))
    prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


if __name__ == "__main__":
    main()
