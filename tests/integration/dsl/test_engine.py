"""The host of the sandbox: batches, many threads, kills, forks, time and memory."""

from __future__ import annotations

import os
import signal
import threading

import psutil
import pytest

from apps.dsl import engine as engines
from apps.dsl.engine import STRIKES, Engine
from tests.integration.dsl.bombs import BOMBS, approve
from tests.integration.dsl.conftest import call

ECHO = approve("return {'seen': task}")
SLOW = approve("for i in range(100000000):", "    pass")
CRASH = BOMBS["the text of a deep list"][0]


def test_answers_come_in_the_order_of_the_questions(sandbox):
    answers = sandbox.evaluate([call(ECHO, {"n": n}) for n in range(500)])
    assert [answer.value for answer in answers] == [{"seen": {"n": n}} for n in range(500)]
    assert all(answer.duration_us >= 0 for answer in answers)


def test_questions_larger_than_any_pipe_go_through(sandbox):
    task = {"text": "x" * 60_000}
    answers = sandbox.evaluate([call(approve("return len(task['text'])"), task)] * 100)
    assert {answer.value for answer in answers} == {60_000}


def test_every_json_value_arrives_and_returns_as_it_was(sandbox):
    scalars = {"": None, "t": True, "f": False, "n": -(2**63), "m": 2**63 - 1, "x": 1.5, "s": 'é漢😀\n"'}
    task = {**scalars, "l": [[], {}], "d": {"a": {"b": [1]}}}
    answer = sandbox.evaluate([call(ECHO, task)])[0]
    assert answer.value == {"seen": task}
    assert type(answer.value["seen"]["t"]) is bool


def test_an_input_that_is_not_json_is_an_error_of_that_question_alone(sandbox):
    good, bad = sandbox.evaluate([call(ECHO, {"a": 1}), call(ECHO, {"a": object()})])
    assert good.value == {"seen": {"a": 1}}
    assert bad.kind == "input"


def test_what_a_script_does_to_its_input_is_seen_by_nobody(sandbox):
    spoil = approve("task['payload']['x'] = 2", "task['new'] = 1", "return task")
    task = {"payload": {"x": 1}}
    first, second = sandbox.evaluate([call(spoil, task), call(ECHO, task)])
    assert first.value == {"payload": {"x": 2}, "new": 1}
    assert second.value == {"seen": {"payload": {"x": 1}}}
    assert task == {"payload": {"x": 1}}


def test_nothing_survives_from_one_call_to_the_next(sandbox):
    """Top-level values freeze when the script is loaded: neither the same script nor another can leave a note."""
    source = "notes = {}\n" + approve("notes[task['who']] = 1", "return notes")
    reader = "notes = {}\n" + approve("return notes")
    answers = sandbox.evaluate([call(source, {"who": "acme"}), call(source, {"who": "other"}), call(reader)])
    assert [answer.kind for answer in answers] == ["script", "script", ""]
    assert answers[2].value == {}


def test_the_same_question_has_the_same_answer_in_every_process(sandbox, sandboxes):
    source = approve("return [hash('a'), str({'b': 1, 'a': 2}), sorted(task.keys()), repr(1.0 / 3)]")
    assert sandbox.evaluate([call(source, {"z": 1, "a": 2})])[0].value == sandboxes.evaluate([call(source, {"z": 1, "a": 2})])[0].value


def test_an_error_names_its_line(sandbox):
    answer = sandbox.evaluate([call(approve("x = 1", "return task['missing']"))])[0]
    assert (answer.kind, answer.line) == ("script", 3)
    assert answer.error == 'line 3: Key `"missing"` was not found'


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("def other(task): return 1", "entry", "has no function approve"),
        ("approve = 4", "entry", "approve is not a function"),
        ("def approve(task)\n  return 1", "script", "line 1: Parse error"),
        ("x = undefined\n" + ECHO, "script", "line 1: Variable `undefined` not found"),
        ("x = 1 // 0\n" + ECHO, "script", "line 1"),
    ],
)
def test_checking_a_script_says_what_is_wrong_with_it(sandbox, source, kind, words):
    answer = sandbox.check(source, "approve")
    assert answer.kind == kind
    assert words in answer.error


def test_checking_a_good_script_finds_nothing(sandbox):
    assert sandbox.check(ECHO, "approve").kind == ""
    assert sandbox.check("approve = lambda task: {}", "approve").kind == ""


def test_a_script_that_takes_too_long_is_stopped_without_losing_the_process(sandbox):
    sandbox.evaluate([call(ECHO)])
    pid = sandbox.pids()[0]
    answer = sandbox.evaluate([call(SLOW, timeout_ms=50)])[0]
    assert (answer.kind, answer.error) == ("timeout", "took longer than 50 ms")
    assert sandbox.pids() == [pid]


def test_a_native_loop_that_hears_no_call_is_killed(sandbox):
    sandbox.evaluate([call(ECHO)])
    pid = sandbox.pids()[0]
    source = approve("n = len(task)", "return max(range(2000000000 + n))")
    answer, after = sandbox.evaluate([call(source, timeout_ms=50), call(ECHO, {"a": 1})])
    assert (answer.kind, answer.error) == ("timeout", "took too long and had to be killed")
    assert after.value == {"seen": {"a": 1}}
    assert not psutil.pid_exists(pid)


def test_a_script_that_breaks_its_limits_again_and_again_is_rested_and_others_are_not(sandbox):
    bombs = [call(SLOW, timeout_ms=10)] * 40
    answers = sandbox.evaluate([call(ECHO, {"n": 1}), *bombs, call(ECHO, {"n": 2})])
    assert [answer.kind for answer in answers] == ["", *["timeout"] * STRIKES, *["resting"] * (40 - STRIKES), ""]
    assert "rests" in answers[-2].error
    assert sandbox.evaluate([call(SLOW, timeout_ms=10)])[0].kind == "resting"


def test_a_success_wipes_the_strikes_away(sandbox):
    source = approve("for i in range(task['n']):", "    pass", "return 1")
    heavy, light = call(source, {"n": 100000000}, timeout_ms=10), call(source, {"n": 1})
    for _ in range(3):
        answers = sandbox.evaluate([heavy] * (STRIKES - 1) + [light])
        assert [answer.kind for answer in answers] == ["timeout"] * (STRIKES - 1) + [""]


def test_sixteen_threads_get_their_own_answers(sandboxes):
    wrong: list[object] = []

    def ask(thread: int) -> None:
        for number in range(50):
            answers = sandboxes.evaluate([call(ECHO, {"thread": thread, "number": number, "n": n}) for n in range(5)])
            wrong.extend(a for n, a in enumerate(answers) if a.value != {"seen": {"thread": thread, "number": number, "n": n}})

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(sandboxes.pids()) <= 2


def test_one_orgs_bomb_does_not_hold_up_another_thread(sandboxes):
    sandboxes.evaluate([call(ECHO)])
    started, finished = threading.Event(), threading.Event()

    def bomb() -> None:
        started.set()
        sandboxes.evaluate([call(SLOW, timeout_ms=3000)])
        finished.set()

    thread = threading.Thread(target=bomb)
    thread.start()
    started.wait(10)
    answers = [sandboxes.evaluate([call(ECHO, {"n": n})])[0] for n in range(20)]
    assert not finished.is_set()
    assert all(answer.kind == "" for answer in answers)
    thread.join()


def test_a_sandbox_killed_while_idle_is_replaced_unseen(sandbox):
    sandbox.evaluate([call(ECHO)])
    dead = sandbox.pids()[0]
    os.kill(dead, signal.SIGKILL)
    assert sandbox.evaluate([call(ECHO, {"n": 1})])[0].value == {"seen": {"n": 1}}
    assert sandbox.pids() != [dead]


def test_a_sandbox_killed_in_the_middle_of_a_batch_costs_no_answer(sandbox):
    sandbox.evaluate([call(ECHO)])
    victim = psutil.Process(sandbox.pids()[0])
    busy = approve("n = 0", "for i in range(20000):", "    n += i", "return task['n']")
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(sandbox.evaluate([call(busy, {"n": n}, timeout_ms=5000) for n in range(400)])))
    spent = victim.cpu_times().user
    thread.start()
    while thread.is_alive() and victim.cpu_times().user < spent + 0.1:  # it is in the middle of its work now
        pass
    victim.kill()
    thread.join()
    assert [answer.value for answer in answers] == list(range(400))


def test_a_crash_is_the_scripts_own_only_when_a_fresh_process_sees_it_too(sandbox):
    before, crash, after = sandbox.evaluate([call(ECHO, {"n": 1}), call(CRASH), call(ECHO, {"n": 2})])
    assert (before.kind, crash.kind, after.kind) == ("", "crash", "")
    assert "SIGSEGV" in crash.error


def test_a_frozen_sandbox_is_killed_and_replaced_and_costs_no_answer(sandbox):
    sandbox.evaluate([call(ECHO)])
    frozen = sandbox.pids()[0]
    os.kill(frozen, signal.SIGSTOP)
    answers = sandbox.evaluate([call(ECHO, {"n": 1}, timeout_ms=50), call(ECHO, {"n": 2})])
    assert [answer.value for answer in answers] == [{"seen": {"n": 1}}, {"seen": {"n": 2}}]
    assert not psutil.pid_exists(frozen)


def test_memory_stays_flat_over_many_calls(sandbox):
    batch = [call(ECHO, {"text": "x" * 1000, "n": n}) for n in range(500)]
    sandbox.evaluate(batch)
    guest = psutil.Process(sandbox.pids()[0])
    before = guest.memory_info().rss
    for _ in range(20):
        sandbox.evaluate(batch)
    assert sandbox.pids() == [guest.pid]
    assert guest.memory_info().rss < before + 4 * 1024 * 1024


def test_a_sandbox_full_of_scripts_is_replaced_and_goes_on(sandbox):
    sandbox.evaluate([call(ECHO)])
    pid = sandbox.pids()[0]
    answers = sandbox.evaluate([call(approve(f"return {n}")) for n in range(600)])
    assert [answer.value for answer in answers] == list(range(600))
    assert sandbox.pids() != [pid]
    assert sandbox.evaluate([call(ECHO, {"n": 1})])[0].kind == ""


def test_a_script_cannot_fill_the_sandbox_for_those_who_come_after(sandbox):
    """What a script keeps at its top level stays until the process is replaced, which happens before it is in the way."""
    hoard = "hoard = ['x' * 10000000 + str(i) for i in range(5)]\n" + approve("return len(hoard)")
    modest = approve("return len('x' * task['n'])")
    for number in range(6):
        assert sandbox.evaluate([call(f"{hoard}# {number}\n", timeout_ms=2000)])[0].kind in {"", "timeout"}
        assert sandbox.evaluate([call(modest, {"n": 20_000_000}, timeout_ms=2000)])[0].value == 20_000_000


def test_a_forked_child_starts_its_own_and_leaves_its_parents_alone(sandbox, monkeypatch):
    monkeypatch.setattr(engines, "_engine", sandbox)
    sandbox.evaluate([call(ECHO)])
    pid = sandbox.pids()[0]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = engines.engine().evaluate([call(ECHO, {"child": True})])[0]
        same = engines.engine() is sandbox or pid in engines.engine().pids()
        engines.engine().close()
        os.write(writing, b"good" if answer.value == {"seen": {"child": True}} and not same else b"bad")
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        assert said.read() == b"good"
    assert sandbox.evaluate([call(ECHO, {"parent": True})])[0].value == {"seen": {"parent": True}}
    assert sandbox.pids() == [pid]


def test_the_sandbox_ends_with_its_host(tmp_path):
    """Even when the host is killed: the guest reads the end of its pipe."""
    reading, writing = os.pipe()
    host = os.fork()
    if host == 0:
        engine = Engine(processes=1)
        engine.evaluate([call(ECHO)])
        os.write(writing, str(engine.pids()[0]).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        guest = psutil.Process(int(said.read()))
    os.waitpid(host, 0)
    guest.wait(timeout=10)


def test_when_no_sandbox_can_start_every_question_gets_that_answer(monkeypatch):
    monkeypatch.setattr("apps.dsl.sandbox._command", lambda: ["/nonexistent"])
    engine = Engine(processes=1)
    answers = engine.evaluate([call(ECHO), call(ECHO)])
    assert [answer.kind for answer in answers] == ["unavailable"] * 2
    monkeypatch.undo()
    assert engine.evaluate([call(ECHO)])[0].kind == "", "it is tried again next time"
    engine.close()
