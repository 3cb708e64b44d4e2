"""Expanded steps of real sessions: every form, its arrays wherever they are, its output in the context."""

from __future__ import annotations

import pytest

from apps.core import clock
from apps.core.errors import Invalid
from apps.workflows.models import Item, Session
from tests.spec_examples import ARRAY, CUSTOM, MATRIX, OBJECTS

pytestmark = pytest.mark.store


def task(key: str, **more):
    return {"key": key, "agent_class": "Echo", **more}


def names(session_id: str, key: str) -> list[str]:
    rows = Item.objects.filter(session_key__endswith=session_id, step_run__endswith=f"main.{key}#1")
    return list(rows.order_by("index").values_list("name", flat=True))


def test_the_examples_of_the_specification_run_as_they_are_written(flow):
    examples = {"simple": ARRAY, "objects": OBJECTS, "matrix": MATRIX, "custom": CUSTOM}
    session_id = flow.run({"tasks": [task(key, **example) for key, example in examples.items()]})
    assert flow.status(session_id) == "completed", flow.sessions.steps(flow.principal, session_id)
    found = flow.results(session_id)
    assert [found[f"{number}_simple"] for number in (1, 2, 3)] == [{"input": "item1"}, {"input": "item2"}, {"input": "item3"}]
    assert found["objects"]["task_results"]["2"] == {"user": {"id": 2, "name": "Bob", "role": "user"}}
    assert names(session_id, "matrix") == ["matrix A1", "matrix A2", "matrix A3", "matrix B1", "matrix B2", "matrix B3"]
    assert [one["row"] + str(one["col"]) for one in found["matrix"]["results"]] == ["A1", "A2", "A3", "B1", "B2", "B3"]
    assert [(one["regions"], one["metrics"]) for one in found["custom"]["results"]] == [
        ("US", "sales"), ("US", "growth"), ("EU", "sales"), ("EU", "growth"),
    ]  # fmt: skip


def test_arrays_come_from_the_context_from_earlier_steps_and_from_the_input(flow):
    script = "def expand(data):\n    return [{'pair': [a, b]} for a in data['regions'] for b in data['metrics'] if a != 'EU']"
    letters = {"type": "array", "array_mapping": {"letter": "row.w.letters"}}
    deep = {"type": "array", "array_mapping": {"row": "scan"}, "nested": letters}
    session_id = flow.run(
        {
            "context": {"data": CUSTOM["data"], "words": [{"letters": ["a", "b"]}, {"letters": ["c"]}]},
            "tasks": [
                task("rules", expansion_config=CUSTOM["expansion_config"]),
                task("scripted", expansion_config={"type": "custom", "script": script, "process_array_output": False}),
                task("given", input={"files": ["x", "y"]}, expansion_config={"type": "array", "array_mapping": {"file": "input.files"}}),
                task("scan", expansion_config={"type": "array", "array_mapping": {"w": "words"}, "process_array_output": False}),
                task("deep", dependencies=["scan"], message_template="{letter} of {row.w.letters}", expansion_config=deep),
            ],
        }
    )
    assert flow.status(session_id) == "completed", flow.sessions.steps(flow.principal, session_id)
    found = flow.results(session_id)
    assert found["rules"]["metrics"]["total"] == 4
    assert found["scripted"] == [{"pair": ["US", "sales"]}, {"pair": ["US", "growth"]}]
    assert found["given"]["results"] == [{"file": "x"}, {"file": "y"}]
    assert [one["message"] for one in found["deep"]["results"]] == ["a of a, b", "b of a, b", "c of c"]


def test_an_empty_list_completes_at_once_with_the_empty_value(flow):
    config = {"type": "array", "array_mapping": {"n": "numbers"}}
    tasks = [task("none", expansion_config=config), task("after", dependencies=["none"])]
    session_id = flow.run({"context": {"numbers": []}, "tasks": tasks})
    assert flow.status(session_id) == "completed"
    assert flow.results(session_id)["none"]["results"] == [] and flow.results(session_id)["none"]["metrics"]["total"] == 0


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_script_that_does_not_compile_is_refused_before_anything_runs(flow, dry_run):
    def scripted(key: str, script: str, **more) -> dict:
        return task(key, expansion_config={"type": "custom", "script": script}, **more)

    wrong = "def expand(data):\n    return [one for one in dta]"
    runs = "def expand(data):\n    return 1 // 0"
    tasks = [scripted("a", wrong), scripted("b", "x = 1"), scripted("c", runs), task("d", dependencies=["e"])]
    with pytest.raises(Invalid) as refused:
        flow.sessions.create({"session_id": "s1", "tasks": tasks}, flow.principal, now=clock.now(), dry_run=dry_run)
    found = {problem.field: problem.message for problem in refused.value.problems}
    assert found.pop("tasks[3].dependencies[0]"), "with whatever else is wrong"
    assert found == {
        "tasks[0].expansion_config.script": "line 2: Variable `dta` not found, did you mean `data`?",
        "tasks[1].expansion_config.script": "the script has no function expand",
    }
    assert not Session.objects.exists()


def test_an_expansion_that_cannot_be_made_fails_its_step_in_words_and_runs_nothing(flow):
    broken = {"type": "custom", "script": "def expand(data):\n    return 1 // 0"}
    config = {"type": "array", "array_mapping": {"n": "first"}}
    session_id = flow.run(
        {
            "tasks": [
                task("first", message_template="no list", on_failure="skip"),
                task("second", dependencies=["first"], expansion_config=config, on_failure="skip"),
                task("third", expansion_config=broken, on_failure="skip"),
            ]
        }
    )
    steps = {path: flow.sessions.step(flow.principal, session_id, path) for path in ("main.second", "main.third")}
    assert steps["main.second"]["status"] == "failed" and "'first' is an object, not a list" in steps["main.second"]["reason"]
    assert steps["main.third"]["status"] == "failed" and "line 2" in steps["main.third"]["reason"]
    assert not Item.objects.filter(session_key__endswith=session_id).exclude(step_run__endswith="main.first#1").exists()
