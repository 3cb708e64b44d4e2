"""The tests that travel with a script: a list of `{"name", "input", "expect"}`. They are part of the version, and a
version whose tests fail does not become active.

`input` holds the arguments by name (`{"task": {…}, "candidates": […]}`), or is the task itself; a task is a TaskEntry in
wire names or the short names of docs/policies.md, and what it leaves out is empty, as for a real one. `expect` names the
keys of the answer that matter, each with its exact value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from apps.core.errors import Problem
from apps.dsl import answers
from apps.dsl import engine as engines
from apps.dsl.facts import task_of
from apps.dsl.policies import POLICIES, Hook

CASES = 100
NAME_LENGTH = 200
CASES_BYTES = 512 * 1024
TIMEOUT_MS = 200

Case = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    name: str
    passed: bool
    expected: dict[str, Any]
    actual: dict[str, Any] | None
    error: str
    """Why there is no answer."""
    duration_us: int
    note: str = ""
    """What is right, and perhaps not meant."""

    @property
    def sentence(self) -> str:
        shown = f"it failed: {self.error}" if self.error else f"got {_brief(self.actual)}"
        return f"expected {_brief(self.expected)}, {shown}"

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "passed": self.passed,
            "expected": self.expected,
            "actual": self.actual,
            "error": self.error,
            "note": self.note,
            "duration_us": self.duration_us,
        }


def problems(cases: Any, field: str = "tests") -> list[Problem]:
    """What is wrong with a list of tests, before any is run."""
    if not isinstance(cases, list) or len(cases) > CASES:
        return [Problem(field=field, code="wrong_type", message=f"must be a list of at most {CASES} tests")]
    found: list[Problem] = []
    names: set[str] = set()
    for index, case in enumerate(cases):
        at = f"{field}[{index}]"
        if not isinstance(case, dict) or set(case) != {"name", "input", "expect"}:
            found.append(Problem(field=at, code="wrong_type", message="must be an object with name, input and expect"))
            continue
        name = case["name"]
        if not isinstance(name, str) or not name.strip() or len(name) > NAME_LENGTH:
            found.append(Problem(field=f"{at}.name", code="wrong_type", message=f"must be text of at most {NAME_LENGTH} characters"))
        elif name in names:
            found.append(Problem(field=f"{at}.name", code="twice", message="is the name of an earlier test too"))
        else:
            names.add(name)
        if not isinstance(case["input"], dict):
            found.append(Problem(field=f"{at}.input", code="wrong_type", message="must be an object"))
        if not isinstance(case["expect"], dict) or not case["expect"]:
            found.append(Problem(field=f"{at}.expect", code="wrong_type", message="must be an object that names a key of the answer"))
    if not found and len(orjson.dumps(cases)) > CASES_BYTES:
        found.append(Problem(field=field, code="too_large", message=f"must have at most {CASES_BYTES // 1024} kB"))
    return found


def digest(cases: Sequence[Case]) -> str:
    """"" for none: texts without tests are told apart by their text alone."""
    return hashlib.sha256(orjson.dumps(list(cases), option=orjson.OPT_SORT_KEYS)).hexdigest() if cases else ""


def inputs_of(hook: Hook, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, whichever way they were written."""
    by_name = given if "task" in given and set(given) <= {"task", "candidates"} else {"task": given}
    task = by_name["task"]
    inputs: dict[str, Any] = {"task": task_of(task) if isinstance(task, dict) else task}
    if "candidates" in POLICIES[hook].arguments:
        inputs["candidates"] = by_name.get("candidates", [])
    return inputs


def run(source: str, hook: Hook, cases: Sequence[Case], *, timeout_ms: int = TIMEOUT_MS) -> list[Outcome]:
    """One outcome each, in order. Nothing is stored; a script that breaks its limits costs at most its time."""
    policy, sha = POLICIES[hook], engines.sha256(source)
    inputs = [inputs_of(hook, case["input"]) for case in cases]
    arguments = [tuple(each[name] for name in policy.arguments) for each in inputs]
    evaluations = [
        engines.Evaluation(source=source, sha256=sha, function=policy.function, arguments=each, timeout_ms=timeout_ms) for each in arguments
    ]
    outcomes = []
    for case, each, answer in zip(cases, inputs, engines.engine().evaluate(evaluations) if evaluations else [], strict=True):
        actual, error = None, answer.error if answer.kind else ""
        if not answer.kind:
            try:
                actual = answers.parse(hook, answer.value, each)
            except answers.BadAnswer as bad:
                error = str(bad)
        passed = actual is not None and all(name in actual and same(wanted, actual[name]) for name, wanted in case["expect"].items())
        outcomes.append(
            Outcome(
                name=case["name"], passed=passed, expected=case["expect"], actual=actual, error=error, duration_us=answer.duration_us,
                note=answers.strangers(hook, actual or {}),
            )  # fmt: skip
        )
    return outcomes


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, and 1 is not 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _brief(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 300 else text[:299] + "…"
