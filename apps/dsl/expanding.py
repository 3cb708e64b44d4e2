"""`expand(data)`: a Starlark script of a task's own that says which items the task becomes (docs/expansion.md).

It runs in the same sandbox as policies, within the same limits of memory, depth and answer, and a time of its own. Unlike
a policy it is part of the document it came in, so there is no registering it: it decides nothing but the values of items.
"""

from __future__ import annotations

from typing import Any

import orjson

from apps.core.errors import Invalid, Problem, Unavailable
from apps.dsl.engine import Answer, Evaluation, engine, sha256

FUNCTION = "expand"
TIMEOUT_MS = 1000
DATA_BYTES = 1024 * 1024
FIELD = "script"


class ScriptFailed(Invalid):
    """The script does not compile, broke a limit, or answered something that is not plain JSON. One problem, on `script`."""

    code, sentence = "script_failed", "The script that expands the task failed."

    def __init__(self, kind: str, message: str) -> None:
        super().__init__([Problem(field=FIELD, code=kind, message=message)])


def run(source: str, data: Any) -> Any:
    """What `expand(data)` answers, plain JSON. Raises ScriptFailed; Unavailable when there is no sandbox to run it in."""
    if len(orjson.dumps(data)) > DATA_BYTES:
        raise ScriptFailed("input", f"is given more than {DATA_BYTES // 1024} kB of data")
    evaluation = Evaluation(source=source, sha256=sha256(source), function=FUNCTION, arguments=(data,), timeout_ms=TIMEOUT_MS)
    answer = engine().evaluate([evaluation])[0]
    _raise_for(answer)
    return answer.value


def check(source: str) -> None:
    """Does it compile, and does it define `expand`? Raises ScriptFailed with the line, or Unavailable."""
    _raise_for(engine().check(source, FUNCTION))


def _raise_for(answer: Answer) -> None:
    if answer.kind == "unavailable":
        raise Unavailable("The sandbox for scripts does not start.")
    if answer.kind:
        raise ScriptFailed(answer.kind, answer.error)
