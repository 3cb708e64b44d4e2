"""Bombs go off in the sandbox, and nowhere else."""

from __future__ import annotations

import random
from pathlib import Path

import psutil
import pytest

from apps.dsl.engine import Engine
from tests.integration.dsl.bombs import BOMBS, approve
from tests.integration.dsl.conftest import call

GOOD = approve("return {'accepted': True, 'reason': 'task %s' % task['task_id']}")


@pytest.fixture(scope="module")
def shared():
    engine = Engine(processes=1)
    yield engine
    engine.close()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_an_error_and_its_neighbours_get_their_answers(shared, name):
    source, kinds = BOMBS[name]
    before, bomb, after = shared.evaluate([call(GOOD, {"task_id": "a"}), call(source, {}), call(GOOD, {"task_id": "b"})])
    assert bomb.kind in kinds, bomb
    assert bomb.error
    assert bomb.value is None
    assert before.value["reason"] == "task a"
    assert after.value["reason"] == "task b"


def test_a_hundred_bombs_in_a_row_leave_the_pool_alive_and_nothing_behind(sandboxes):
    me = psutil.Process()
    assert sandboxes.evaluate([call(GOOD, {"task_id": "first"})])[0].kind == ""
    descriptors = me.num_fds()
    fast = ("the text of", "a deep list", "a long chain")
    quick = [name for name, (_, kinds) in BOMBS.items() if "timeout" not in kinds or name.startswith(fast)]
    dice = random.Random(7)
    for number in range(100):
        source, kinds = BOMBS[dice.choice(quick)]
        # A text of its own, so that no script is rested for its earlier breaches.
        answer = sandboxes.evaluate([call(f"{source}\n# {number}\n", {})])[0]
        assert answer.kind in kinds
    assert sandboxes.evaluate([call(GOOD, {"task_id": "last"})])[0].value["reason"] == "task last"
    assert me.num_fds() <= descriptors + 2, "one more sandbox may have been born"
    assert not [child for child in me.children() if child.status() == psutil.STATUS_ZOMBIE]
    assert len(sandboxes.pids()) <= 2


def test_a_thousand_random_programs_leave_one_flat_sandbox(sandbox):
    """From a grammar of small pieces: most are wrong somewhere, none is more than an error."""
    dice = random.Random(11)

    def expression(depth: int) -> str:
        if depth <= 0:
            return dice.choice(["task", "1", "-3", "'x'", "[]", "{}", "None", "True", "()", "task['goal']", "2.5", "range(3)"])
        left, right = expression(depth - 1), expression(depth - 2)
        forms = ["(%s + %s)", "[%s, %s]", "{%s: %s}", "(%s if %s else 0)", "(%s in %s)", "str(%s) * len(%s)"]
        return dice.choice([*forms, "[i for i in [%s] if %s]", "(lambda: %s)() or %s"]) % (left, right)

    programs = [approve(f"x = {expression(3)}", f"return {expression(4)}") for _ in range(1000)]
    assert sandbox.evaluate([call(GOOD, {"task_id": "first"})])[0].kind == ""
    for start in range(0, 1000, 200):
        answers = sandbox.evaluate([call(program, {"goal": "g"}) for program in programs[start : start + 200]])
        assert {answer.kind for answer in answers} <= {"", "script", "answer"}
        if start == 0:
            base = psutil.Process(sandbox.pids()[0]).memory_info().rss
    assert psutil.Process(sandbox.pids()[0]).memory_info().rss < base + 30 * 1024 * 1024


def test_the_sandbox_has_given_everything_away(sandbox):
    """Own process, no environment, no descriptors but its pipes, no new ones, limits on all it could use."""
    sandbox.evaluate([call(GOOD, {"task_id": "first"})])
    guest = psutil.Process(sandbox.pids()[0])
    inside = Path(f"/proc/{guest.pid}")
    assert guest.environ() == {}
    assert guest.cwd() == "/"
    assert {link.name for link in (inside / "fd").iterdir()} <= {"0", "1", "2", "3"}
    assert (inside / "fd" / "3").readlink().name == "statm"
    limits = {line[:26].strip(): line[26:].split()[:2] for line in (inside / "limits").read_text().splitlines()[1:]}
    assert limits["Max open files"] == ["0", "0"]
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max processes"] == ["0", "0"]
    assert limits["Max address space"] == [str(256 * 1024 * 1024)] * 2
    assert int(limits["Max cpu time"][0]) <= 10
    status = dict(line.split(":\t", 1) for line in (inside / "status").read_text().splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    if "user" in sandbox.confined():
        assert set(status["Uid"].split()) == {"65534"}
        assert set(status["Gid"].split()) == {"65534"}
        assert int(status["CapEff"], 16) == 0
    if "network" in sandbox.confined():
        assert (inside / "ns" / "net").readlink() != Path("/proc/self/ns/net").readlink()
