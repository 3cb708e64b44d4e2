"""Scripts that mean harm, by what they attack; and the kinds of answer each may get."""

from __future__ import annotations


def approve(*lines: str) -> str:
    return "def approve(task):\n" + "".join(f"    {line}\n" for line in lines)


DEEP = ("x = []", "for i in range(200000):", "    x = [x]")

BROKEN = {"timeout", "crash"}
"""It used up its time, or brought the sandbox down."""
REFUSED = {"script", "answer", "entry"}
"""The language or the guest said no."""

BOMBS: dict[str, tuple[str, set[str]]] = {
    # processor
    "a loop of a milliard steps": (approve("for i in range(1000000000):", "    pass"), {"timeout"}),
    "a comprehension of a milliard steps": (approve("return len([i for i in range(1000000000) if i < 0])"), {"timeout"}),
    "a milliard steps at the top level": ("x = [i for i in range(1000000000) if i < 0]\n" + approve("return 1"), {"timeout"}),
    "a native loop without a callback": (approve("return max(range(2000000000))"), BROKEN),
    "two to the fortieth calls": (
        "def f0(): return 1\n" + "".join(f"def f{i}(): return f{i - 1}() + f{i - 1}()\n" for i in range(1, 41)) + approve("return f40()"),
        {"timeout"},
    ),
    "sorting with a dear key": (approve("return sorted(range(3000000), key=lambda x: len([i for i in range(1000)]))"), BROKEN),
    "searching a long text for ever": (approve("x = 'a' * 10000000", "for i in range(1000000):", "    x.count('aaaaaaaab')"), BROKEN),
    "squaring a number sixty times": (approve("x = 7", "for i in range(60):", "    x = x * x", "return 1"), BROKEN),
    "reading a number of a million digits": (approve("return int('9' * 1000000) % 7"), BROKEN),
    "calling one another for ever": ("def a(n): return b(n)\ndef b(n): return a(n)\n" + approve("return a(1)"), {"script"}),
    "calling itself for ever": (approve("return approve(task)"), {"script"}),
    "a while loop": (approve("while True:", "    pass"), {"script"}),
    # memory
    "text that doubles a hundred times": (approve("x = 'a'", "for i in range(100):", "    x = x + x", "return len(x)"), BROKEN),
    "a list that doubles a hundred times": (approve("x = [1]", "for i in range(100):", "    x = x + x", "return len(x)"), BROKEN),
    "a list that swallows itself": (approve("x = [1]", "for i in range(100):", "    x.extend(x)", "return len(x)"), BROKEN),
    "ten milliard letters": (approve("return len('a' * 10000000000)"), {"script"}),
    "two milliard letters": (approve("return len('a' * 2000000000)"), BROKEN),
    "a list of two milliard numbers": (approve("return len(list(range(2000000000)))"), BROKEN),
    "sorting two milliard numbers": (approve("return sorted(range(2000000000))"), BROKEN),
    "pairs without end": (approve("return len(zip(range(2000000000), range(2000000000)))"), BROKEN),
    "a dict that grows without end": (approve("return len({i: 'x' * 100000 + str(i) for i in range(1000000000)})"), BROKEN),
    "replacing every letter by ten thousand": (approve("x = 'a' * 10000", "return len(x.replace('a', x))"), BROKEN),
    "joining a million pieces with ten thousand letters": (approve("return len(('a' * 10000).join(['b'] * 1000000))"), BROKEN),
    "splitting fifty million words": (approve("return len(('a ' * 50000000).split(' '))"), BROKEN),
    "formatting a thousand megabytes": (approve("return len('%s' * 1000 % tuple(['a' * 1000000] * 1000))"), BROKEN),
    "five million arguments": (approve("return max(*list(range(5000000)))"), BROKEN),
    # stack
    "the text of a deep list": (approve(*DEEP, "return str(x)"), BROKEN),
    "comparing deep lists": (approve(*DEEP, "y = []", *DEEP[1:2], "    y = [y]", "return x == y"), BROKEN | {"script"}),
    "hashing a deep tuple": (approve("x = ()", "for i in range(200000):", "    x = (x,)", "return {x: 1}"), BROKEN),
    "a deep list literal": ("x = " + "[" * 100000 + "]" * 100000 + "\n" + approve("return 1"), BROKEN),
    "a long chain of minus": ("x = " + "-" * 200000 + "1\n" + approve("return 1"), BROKEN),
    "a long chain of plus": ("x = " + "+".join(["1"] * 120000) + "\n" + approve("return 1"), BROKEN),
    "a long chain of not": ("x = " + "not " * 60000 + "1\n" + approve("return 1"), BROKEN),
    "a long chain of attributes": (approve("return task" + ".a" * 100000), BROKEN),
    # output
    "an answer of fifty megabytes": (approve("return 'a' * 50000000"), BROKEN | {"answer"}),
    "an answer of a hundred kilobytes": (approve("return 'a' * 100000"), {"answer"}),
    "an answer of three million numbers": (approve("return list(range(3000000))"), BROKEN | {"answer"}),
    "a deep answer": (approve(*DEEP, "return x"), BROKEN | {"script"}),
    "an answer just too deep": (approve("x = []", "for i in range(40):", "    x = [x]", "return x"), {"answer"}),
    "an answer that holds itself": (approve("x = {}", "x['a'] = x", "return x"), {"script"}),
    "a number of a thousand bits": (approve("x = 1", "for i in range(100):", "    x = x * 1024", "return x"), {"answer"}),
    "a number just beyond 64 bits": (approve("return 9223372036854775807 + 1"), {"answer"}),
    "a shift by a milliard": (approve("return 1 << 1000000000"), {"script"}),
    "a function as the answer": (approve("return approve"), {"script"}),
    "a range as the answer": (approve("return range(3)"), {"script"}),
    "numbers as keys": (approve("return {1: 2}"), {"answer"}),
    "tuples as keys": (approve("return {(): 2}"), {"answer"}),
    "a NUL character": (approve("return 'a\\0b'"), {"answer", "script"}),
    # ways out
    "loading a file": ("load('/etc/passwd', 'x')\n" + approve("return x"), {"script"}),
    "importing": ("import os\n" + approve("return 1"), {"script"}),
    "opening a file": (approve("return open('/etc/passwd')"), {"script"}),
    "evaluating text": (approve("return eval('1')"), {"script"}),
    "the class of a value": (approve("return task.__class__"), {"script"}),
    "the class of a value, by name": (approve("return getattr(task, '__class__')"), {"script"}),
    "the class of a value, by format": (approve("return '{0.__class__}'.format(task)"), {"script"}),
    "the globals of a function": (approve("return approve.__globals__"), {"script"}),
    "a double-underscore import": (approve("return __import__('os')"), {"script"}),
    "printing": (approve("print('hello')"), {"script"}),
    "catching errors": (approve("try:", "    pass"), {"script"}),
    "failing on purpose": (approve("fail('no')"), {"script"}),
    "remembering between calls": ("seen = []\n" + approve("seen.append(1)", "return len(seen)"), {"script"}),
}
