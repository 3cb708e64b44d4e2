"""Ways out of the sandbox: none leads anywhere, in the language, between calls and tenants, or in the process itself."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import psutil
import pytest

from apps.dsl import guest
from apps.dsl.engine import Engine, Evaluation, sha256
from apps.dsl.policies import POLICIES
from tests.integration.dsl.bombs import approve
from tests.integration.dsl.conftest import call

REFUSED = {"script", "answer", "entry"}

EXPRESSIONS = [
    # walks over double underscores
    "().__class__.__bases__[0].__subclasses__()", "task.__dict__", "task.__init__.__globals__", "''.__class__.__mro__", "[].__len__()",
    "approve.__code__", "(lambda: 0).__closure__",
    "task.get.__self__", "task.update.__func__", "len.__module__", "str.__dict__",
    "type(task).__name__", "type(approve)()", "True.__class__", "(1).real", "range(3).__iter__()",
    # reaching by name
    "getattr(task, 'get').__self__", "getattr([], '__class__')", "getattr(approve, '__globals__')",
    "[getattr(x, '__class__') for x in [1]]",
    # format strings
    "'{0.__class__}'.format(task)", "'{0[__class__]}'.format(task)", "'{a.b}'.format(a = task)", "'%(__class__)s' % task",
    "'{!r:>{}}'.format(1, 2)",
    "f'{task.__class__}'", "'{:{}}'.format(1, '9' * 9)",
    # what a host might have left lying about
    "json", "json.decode('1')", "kind", "policy", "entry", "arguments", "globals()", "locals()", "vars()", "__builtins__", "__name__",
    "__file__", "__loader__", "input()", "exit()", "quit()", "breakpoint()", "compile('1', '', 'eval')", "exec('1')", "memoryview(b'')",
    "open('/proc/self/environ')", "os.environ", "sys.path", "print", "pprint(1)", "debug(1)", "struct(a = 1)", "record(a = 1)", "set([1])",
    "partial(len)", "breakpoint", "eval", "id(task)", "super()", "object()", "classmethod", "property", "bytes('x')", "chr(0x110000)",
]  # fmt: skip
PROGRAMS = {
    "loading the host's own module": "load('entry', 'call')\n" + approve("return call('[]')"),
    "loading by a path": "load('../../../../etc/passwd', 'x')\n" + approve("return 1"),
    "loading inside a function": approve("load('policy', 'approve')", "return 1"),
    "taking the name of what calls it": "def call(arguments):\n    return 1\n" + approve("return call.__class__"),
    "a class": "class A:\n    pass\n" + approve("return 1"),
    "a decorator": "@approve\ndef x(): pass\n" + approve("return 1"),
    "with": approve("with task:", "    pass"),
    "raising": approve("raise task"),
    "global names": approve("global x", "x = 1"),
    "deleting": approve("del task"),
    "yielding": approve("yield 1"),
    "waiting": "async " + approve("return 1"),
    "asserting": approve("assert False"),
    "importing from": "from os import environ\n" + approve("return 1"),
    "changing what the module holds": "names = {}\n" + approve("names['seen'] = task", "return 1"),
    "changing a frozen default": "def approve(task, seen = []):\n    seen.append(1)\n    return len(seen)\n",
    "changing a list while walking it": approve("x = [1]", "for i in x:", "    x.append(i)", "return 1"),
    "another hook's function": "def prioritize(task):\n    return {'priority': 1}\n",
    "the entry function as a value": "approve = 1\n",
    "an entry function of another shape": "def approve():\n    return {'accepted': True}\n",
}


@pytest.fixture(scope="module")
def shared():
    engine = Engine(processes=1)
    yield engine
    engine.close()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_that_looks_for_a_way_out_finds_none(shared, expression):
    answer = shared.evaluate([call(approve(f"return {{'accepted': {expression}}}"), {"goal": "g"})])[0]
    # A plain value may come back (an own name, a truth value); nothing of the host's is ever one.
    assert answer.kind in REFUSED or type(answer.value["accepted"]) in (bool, str), answer
    assert not [secret for secret in ("object at 0x", "<class", "module '", "/usr", "PATH") if secret in f"{answer.value} {answer.error}"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_looks_for_a_way_out_finds_none(shared, name):
    answer = shared.evaluate([call(PROGRAMS[name], {"goal": "g"})])[0]
    assert answer.kind in REFUSED and answer.value is None and answer.error


def test_two_tenants_with_the_same_text_share_nothing(shared):
    """The module is compiled once for both; each call has a heap of its own and a frozen module."""
    answer = "return {'n': task['mark'], 'seen': len(seen), 'org': task['org_id']}"
    source = "seen = {}\n" + approve("task['mark'] = task.get('mark', 0) + 1", answer)
    tasks = [{"org_id": org} for org in ("acme", "globex", "acme")]
    answers = shared.evaluate([call(source, task) for task in tasks])
    assert [answer.value for answer in answers] == [{"n": 1, "seen": 0, "org": task["org_id"]} for task in tasks]
    assert all("mark" not in task for task in tasks)


def test_a_thousand_random_programs_with_statements_for_every_question_leave_one_flat_sandbox(sandbox):
    dice = random.Random(23)
    names = ["task", "x", "y", "n"]

    def expression(depth: int) -> str:
        if depth <= 0:
            return dice.choice([*names, "1", "0", "-7", "'ab'", "[]", "{}", "None", "True", "task['goal']", "range(4)", "(1, 2)", "2.5"])
        one, other = expression(depth - 1), expression(depth - 2)
        return dice.choice(
            [f"({one} + {other})", f"({one} * {other})", f"[{one}, {other}]", f"{{{one}: {other}}}", f"str({one})", f"len({one})",
             f"({one} if {other} else x)", f"[i for i in {one}]", f"{{i: {other} for i in {one}}}", f"sorted({one})", f"({one})[{other}]",
             f"({one}).get({other})", f"'%s' % ({one},)", f"({one} in {other})", f"not {one}", f"helper({one})", f"max({one}, {other})"]
        )  # fmt: skip

    def statements(depth: int, indent: str) -> list[str]:
        lines = []
        for _ in range(dice.randint(1, 3)):
            kind = dice.randrange(6) if depth else dice.randrange(3)
            if kind < 2:
                lines.append(f"{indent}{dice.choice(names[1:])} = {expression(2)}")
            elif kind == 2:
                lines.append(f"{indent}{dice.choice(['x.append(1)', 'y.update({1: 2})', 'x += y', 'n += 1', 'task.pop(n, None)'])}")
            elif kind == 3:
                lines += [f"{indent}for n in {expression(1)}:", *statements(depth - 1, indent + "    ")]
            elif kind == 4:
                lines += [f"{indent}if {expression(2)}:", *statements(depth - 1, indent + "    "), f"{indent}else:", f"{indent}    pass"]
            else:
                lines += [f"{indent}def inner(x, y = 1):", *statements(depth - 1, indent + "    "), f"{indent}    return {expression(1)}"]
        return lines

    questions = []
    for number in range(1000):
        policy = dice.choice(list(POLICIES.values()))
        head = f"def {policy.function}({', '.join(policy.arguments)}):"
        body = ["    x, y, n = [], {}, 0", *statements(2, "    "), f"    return {{'accepted': {expression(2)}, 'priority': n}}"]
        source = "\n".join(["def helper(v):", "    return v", head, *body, f"# {number}", ""])
        arguments = ({"goal": "g", "number": number}, [{"subject_id": "ada"}])[: len(policy.arguments)]
        questions.append(Evaluation(source=source, sha256=sha256(source), function=policy.function, arguments=arguments, timeout_ms=200))
    base = 0
    kinds: dict[str, int] = {}
    for start in range(0, 1000, 200):
        for answer in sandbox.evaluate(questions[start : start + 200]):
            kinds[answer.kind] = kinds.get(answer.kind, 0) + 1
        base = base or psutil.Process(sandbox.pids()[0]).memory_info().rss
    assert set(kinds) <= {"", "script", "answer", "timeout"} and kinds[""] > 20, kinds
    assert psutil.Process(sandbox.pids()[0]).memory_info().rss < base + 60 * 1024 * 1024


PROBE = """
import ctypes, json, os, resource, signal, socket, subprocess, sys, threading
sys.path.insert(0, sys.argv[1])
import guest
parent = os.getppid()
held = guest.confine(int(sys.argv[2]))
def attempt(what):
    try:
        what()
    except BaseException as error:
        return type(error).__name__
    return "DONE"
tries = {
    "open a file": lambda: open("/etc/passwd"),
    "write a file": lambda: open("/tmp/escape", "w"),
    "list a folder": lambda: os.listdir("/"),
    "a socket": lambda: socket.socket(),
    "a unix socket": lambda: socket.socket(socket.AF_UNIX),
    "a pipe": lambda: os.pipe(),
    "a copy of a descriptor": lambda: os.dup(1),
    "start a program": lambda: subprocess.Popen(["/bin/true"]),
    "more memory": lambda: bytearray(512 * 1024 * 1024),
    "a higher limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "a thread": lambda: threading.Thread(target=int).start(),
}
if "user" in held:
    tries["fork"] = lambda: os._exit(0) if os.fork() == 0 else None
    tries["become root again"] = lambda: os.setuid(0)
    tries["kill its host"] = lambda: os.kill(parent, signal.SIGTERM)
os.write(1, json.dumps({"held": held, "done": [name for name, what in tries.items() if attempt(what) == "DONE"]}).encode())
"""


def test_a_confined_process_can_open_start_and_kill_nothing():
    """The guest's own confinement, tried from inside by a program that could do anything Python can."""
    folder = guest.__file__.rpartition("/")[0]
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROBE, folder, str(256 * 1024 * 1024)], env={}, capture_output=True, timeout=20, check=True
    )
    told = json.loads(run.stdout)
    assert {"nofile", "fsize", "nproc", "as", "privileges"} <= set(told["held"])
    assert told["done"] == []
