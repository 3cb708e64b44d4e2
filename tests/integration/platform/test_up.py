"""`manage.py up`: the whole platform as a user starts and stops it."""

import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request

import psutil
import pytest
import redis as redis_client

from jobplatform.env import BASE_DIR
from tests.processes import Stack, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("up")]

CHILDREN = {
    "redis", "nats", "nursery", "web", "dispatch-1", "dispatch-2", "upkeep-1", "webhooks-1", "backtests-1", "workflows-1", "workflows-2",
    "quick-jobs-1", "long-jobs-1", "listener", "beat", "flower",
}  # fmt: skip
WEB_ONLY = ("--without", "dispatch,upkeep,webhooks,backtests,workflows,quick-jobs,long-jobs,listener,beat,flower")


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def family(pids: dict[str, int]) -> list[int]:
    """The children and whatever they started."""
    return [*pids.values(), *(inner.pid for pid in pids.values() for inner in psutil.Process(pid).children(recursive=True))]


def answers(stack: Stack) -> bool:
    try:
        return stack.api().get("/health").status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("platform")).start()
    yield stack
    if stack.process.alive:
        assert stack.stop() == 0


def test_ready_means_that_everything_answers(stack):
    state = stack.state
    assert stack.process.ready_line == f"READY {state['urls']['web']}"
    assert set(state["pids"]) == CHILDREN
    assert all(psutil.pid_exists(pid) for pid in state["pids"].values())
    assert set(state["urls"]) == {"web", "admin", "docs", "flower", "redis", "nats"}
    for name in ("web", "admin", "docs", "flower"):
        path = "/health" if name == "web" else ""
        with urllib.request.urlopen(state["urls"][name] + path, timeout=10) as answer:
            assert answer.status == 200
    assert redis_client.Redis.from_url(state["urls"]["redis"]).ping()
    assert state["data"] == str(stack.data)


def test_what_holds_passwords_is_readable_by_its_owner_only(stack):
    for name in ("run/stack.json", "valkey/valkey.conf", "valkey/password", "nats/nats.conf", "platform.sqlite3"):
        assert stat.S_IMODE((stack.data / name).stat().st_mode) == 0o600, name


def test_the_embedded_redis_wants_its_password(stack):
    with socket.create_connection(("127.0.0.1", stack.state["ports"]["redis"]), timeout=10) as stranger:
        stranger.sendall(b"PING\r\n")
        assert stranger.recv(100).startswith(b"-NOAUTH")


def test_a_second_up_in_the_same_directory_is_refused(stack):
    refused = stack.manage("up", "--port", "0", check=False)
    assert refused.returncode == 1
    assert f"(pid {stack.state['pid']}) is using {stack.data}" in refused.stderr
    assert stack.api().get("/health").status == 200


def test_a_killed_worker_comes_back(stack):
    before = stack.pids
    stack.kill("dispatch-1")
    after = stack.pids
    assert {name for name in CHILDREN if after[name] != before[name]} == {"dispatch-1"}
    assert "dispatch-1 died (killed by SIGKILL)" in stack.log()


def test_a_killed_web_server_leaves_no_half_behind(stack):
    before = family({"web": stack.pids["web"]})
    stack.kill("web")
    wait_until(lambda: all(map(gone, before)))
    wait_until(lambda: answers(stack), what="the new web server answers")


def test_commands_beside_it_use_its_servers(stack):
    script = "from apps.core.redis import client; print(client().ping())"
    assert stack.manage("shell", "--no-imports", "-c", script).stdout.strip().endswith("True")


def test_stopping_ends_every_process_and_the_data_is_there_at_the_next_start(stack):
    """The last of those who share the platform: it is not there any more afterwards."""
    first = stack.state
    everybody = family(stack.pids)
    redis_client.Redis.from_url(first["urls"]["redis"]).set("kept", "yes")
    stack.manage("shell", "--no-imports", "-c", "from django.contrib.auth.models import User; User.objects.create(username='ada')")
    stack.process.process.send_signal(signal.SIGTERM)
    assert stack.process.process.wait(20) == 0
    assert all(map(gone, everybody))
    assert not (stack.data / "run" / "stack.json").exists()

    stack = Stack(stack.data, options=("--without", "flower,beat,upkeep")).start()
    assert stack.state["ports"].items() <= first["ports"].items()
    assert redis_client.Redis.from_url(first["urls"]["redis"]).get("kept") == b"yes"
    script = "from django.contrib.auth.models import User; print(User.objects.get().username)"
    assert stack.manage("shell", "--no-imports", "-c", script).stdout.strip().endswith("ada")

    everybody = family(stack.pids)
    stack.process.kill()
    wait_until(lambda: all(map(gone, everybody)), what="nothing outlives a killed supervisor")


def test_a_server_of_the_environment_is_used_and_none_started(tmp_path, valkey):
    stack = Stack(tmp_path, options=WEB_ONLY, REDIS_URL=f"redis://127.0.0.1:{valkey.port}/5").start()
    assert set(stack.pids) == {"nats", "nursery", "web"}
    assert stack.state["urls"]["redis"] == f"redis://127.0.0.1:{valkey.port}/5"
    assert stack.stop() == 0


def test_a_port_in_use_is_said_before_anything_starts(tmp_path, valkey):
    refused = subprocess.run(
        [sys.executable, str(BASE_DIR / "manage.py"), "up", "--data", str(tmp_path), "--port", str(valkey.port)],
        env={**os.environ, "REDIS_URL": "", "NATS_URL": ""},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert refused.returncode == 1
    assert f"port {valkey.port} for web is in use" in refused.stderr
    assert "Choose another with --port" in refused.stderr
