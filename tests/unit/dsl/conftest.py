from __future__ import annotations

from typing import Any

import pytest

from apps.dsl import answers
from apps.dsl.engine import Engine, Evaluation, sha256
from apps.dsl.policies import POLICIES, Hook
from jobplatform.env import BASE_DIR

CANDIDATES = [
    {"subject_id": name, "subject_type": "agent", "role_ids": ["scouts"], "capabilities": [], "presence": "present", "load": load,
     "free": 8, "reputation": 0.5, "evidence": 0.0, "calibration": 0.5, "success_rate": None, "latency_s": None}
    for name, load in (("ada", 1), ("bo", 0))
]  # fmt: skip
"""What a plan sees, as `candidate_facts` makes it."""


@pytest.fixture(scope="session")
def ask() -> Any:
    """`ask("approval/files", task)` → the parsed answer of the built-in script, or of another `source`."""
    engine = Engine(processes=1)

    def answer(script_id: str, task: dict[str, Any], *, source: str = "") -> dict[str, Any]:
        hook = Hook(script_id.partition("/")[0])
        source = source or (BASE_DIR / "dsl_scripts" / f"{script_id}.star").read_text()
        inputs = {"task": task, "candidates": CANDIDATES}
        arguments = tuple(inputs[name] for name in POLICIES[hook].arguments)
        call = Evaluation(source=source, sha256=sha256(source), function=POLICIES[hook].function, arguments=arguments, timeout_ms=1000)
        said = engine.evaluate([call])[0]
        assert said.kind == "", said.error
        return answers.parse(hook, said.value, inputs)

    yield answer
    engine.close()
