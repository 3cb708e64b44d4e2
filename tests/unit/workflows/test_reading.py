"""A session document is judged whole, before anything runs: every problem, each with its JSON path."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest

from apps.core.errors import Invalid
from apps.workflows.document.dry_run import expanded_plan
from apps.workflows.document.reading import load, parse
from apps.workflows.document.spec import LIMITS, Join, Limits, Retry
from tests.spec_examples import ARRAY, CUSTOM, MATRIX, OBJECTS

PROCESSORS = ("Upper", "WordCount")


def read(document: Any, **limits: int) -> Any:
    return parse(document, processors=PROCESSORS, limits=Limits(**limits) if limits else LIMITS)


def problems(document: Any, **limits: int) -> dict[str, str]:
    """field → code"""
    with pytest.raises(Invalid) as refused:
        read(document, **limits)
    return {one.field: one.code for one in refused.value.problems}


def messages(document: Any) -> str:
    with pytest.raises(Invalid) as refused:
        read(document)
    return "\n".join(f"{one.field}: {one.message}" for one in refused.value.problems)


def tasks(*given: dict[str, Any], **session: Any) -> dict[str, Any]:
    return {"tasks": list(given), **session}


EXAMPLES = [ARRAY, OBJECTS, MATRIX, CUSTOM]


def test_the_specs_examples_are_tasks_as_they_stand():
    spec = read(tasks(*EXAMPLES))
    assert list(spec.nodes) == ["main", "main.task_1", "main.task_2", "main.task_3", "main.task_4"]


def test_tasks_alone_are_one_group():
    spec = read(tasks({"key": "a"}, {"key": "b", "dependencies": ["a"]}))
    assert spec.members("") == ("main",)
    assert spec.members("main") == ("main.a", "main.b")
    assert spec.nodes["main.b"].needs == ("main.a",)
    assert spec.dependents("main.a") == ("main.b",)


def test_names_are_looked_up_from_the_inside_out():
    document = {
        "task_groups": [
            {"key": "a", "tasks": [{"key": "a"}, {"key": "b", "dependencies": ["a"]}, {"key": "c", "dependencies": ["a.a"]}]},
            {"key": "b", "tasks": [{"key": "x", "dependencies": ["a"], "result_keys": ["sum"]}]},
            {"key": "c", "dependencies": ["sum"], "tasks": [{"key": "y", "optional_dependencies": ["a.b"], "result_keys": []}]},
        ]
    }
    document["task_groups"][0]["tasks"][0]["result_keys"] = ["first"]
    document["task_groups"][0]["tasks"][2]["result_keys"] = ["third"]
    spec = read(document)
    assert spec.nodes["a.b"].needs == ("a.a",)  # the sibling, not the group around it
    assert spec.nodes["a.c"].needs == ("a.a",)
    assert spec.nodes["b.x"].needs == ("a",)  # the group
    assert spec.nodes["c"].needs == ("b.x",)  # by the result key that only b.x writes
    assert spec.nodes["c.y"].wants == ("a.b",)


def test_a_name_that_could_mean_several_is_not_guessed():
    group = {"tasks": [{"key": "same", "result_keys": []}]}
    told = messages({"task_groups": [{"key": "a", **group}, {"key": "b", **group}, {"key": "c", "dependencies": ["same"], "tasks": [{}]}]})
    assert "`same` could be a.same, b.same: write the path" in told


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ([], {"": "wrong_type"}),
        (None, {"": "null"}),
        ({}, {"task_groups": "required"}),
        ({"task_groups": []}, {"task_groups": "empty"}),
        ({"tasks": []}, {"tasks": "empty"}),
        ({"tasks": {}}, {"tasks": "wrong_type"}),
        ({"tasks": [3]}, {"tasks[0]": "wrong_type"}),
        ({"tasks": [{}], "task_groups": [{}]}, {"tasks": "contradiction"}),
        ({"task_groups": [{"key": "g"}]}, {"task_groups[0]": "empty"}),
        ({"task_groups": [{"tasks": [{}], "status": "done"}]}, {"task_groups[0].status": "unknown_field"}),
        (tasks({}, status="completed"), {"status": "unknown_field"}),
        (tasks({"key": "a b"}), {"tasks[0].key": "bad_key"}),
        (tasks({"key": "a.b"}), {"tasks[0].key": "bad_key"}),
        (tasks({"key": ""}), {"tasks[0].key": "bad_key"}),
        (tasks({"key": 1}), {"tasks[0].key": "wrong_type"}),
        (tasks({"key": "a"}, {"key": "a"}), {"tasks[1].key": "duplicate_key"}),
        (tasks({"key": "a", "dependencies": ["a"]}), {"tasks[0].dependencies[0]": "self_dependency"}),
        (tasks({"key": "a", "dependencies": ["ghost"]}), {"tasks[0].dependencies[0]": "unknown_dependency"}),
        (tasks({"key": "a", "dependencies": "b"}), {"tasks[0].dependencies": "wrong_type"}),
        (tasks({"key": "a", "dependencies": [None]}), {"tasks[0].dependencies[0]": "null"}),
        (tasks({"key": "a"}, {"dependencies": ["a", "main.a"]}), {"tasks[1].dependencies[1]": "duplicate"}),
        (tasks({"key": "a"}, {"dependencies": ["a"], "optional_dependencies": ["a"]}), {"tasks[1].optional_dependencies[0]": "duplicate"}),
        (tasks({"dependencies": ["main"]}), {"tasks[0].dependencies[0]": "cycle"}),
        (tasks({"timeout_s": True}), {"tasks[0].timeout_s": "wrong_type"}),
        (tasks({"timeout_s": "5"}), {"tasks[0].timeout_s": "wrong_type"}),
        (tasks({"timeout_s": 0}), {"tasks[0].timeout_s": "out_of_range"}),
        (tasks({"timeout_s": -1}), {"tasks[0].timeout_s": "out_of_range"}),
        (tasks({"timeout_s": float("nan")}), {"tasks[0].timeout_s": "out_of_range"}),
        (tasks({"timeout_s": 10**400}), {"": "not_json"}),
        (tasks({"timeout_s": 2**63}), {"tasks[0].timeout_s": "out_of_range"}),
        (tasks({"max_retries": 1.0}), {"tasks[0].max_retries": "wrong_type"}),
        (tasks({"max_retries": True}), {"tasks[0].max_retries": "wrong_type"}),
        (tasks({"retry_delays": [1, "2", False]}), {"tasks[0].retry_delays[1]": "wrong_type", "tasks[0].retry_delays[2]": "wrong_type"}),
        (
            tasks({"retry_backoff": {"factor": 0.5, "jitterr": 1}}),
            {"tasks[0].retry_backoff.factor": "out_of_range", "tasks[0].retry_backoff.jitterr": "unknown_field"},
        ),
        (tasks({"on_failure": "explode"}), {"tasks[0].on_failure": "not_allowed"}),
        (tasks({"executor": "gpu"}), {"tasks[0].executor": "not_allowed"}),
        (tasks({"executor": "celery"}), {"tasks[0].agent_class": "required"}),
        (tasks({"executor": "celery", "agent_class": "Uper"}), {"tasks[0].agent_class": "unknown_processor"}),
        (tasks({"join": "most"}), {"tasks[0].join.rule": "not_allowed"}),
        (tasks({"join": {"at_least": True}}), {"tasks[0].join.at_least": "wrong_type"}),
        (tasks({"join": {"percent": 101}}), {"tasks[0].join.percent": "out_of_range"}),
        (tasks({"join": {"first": 1, "percent": 5}}), {"tasks[0].join": "contradiction"}),
        (tasks({"join": {}}), {"tasks[0].join": "required"}),
        (tasks({"fail_fast": True, "continue_on_error": True}), {"tasks[0].fail_fast": "contradiction"}),
        (
            tasks({"result_keys": ["a", "a", "-x", 3]}),
            {"tasks[0].result_keys[1]": "duplicate", "tasks[0].result_keys[2]": "bad_key", "tasks[0].result_keys[3]": "wrong_type"},
        ),
        (tasks({"result_keys": ["x"]}, {"result_keys": ["x"]}), {"tasks[1].result_keys": "duplicate_result_key"}),
        (tasks({"result_key": "x", "result_keys": ["x"]}), {"tasks[0].result_key": "contradiction"}),
        (tasks({"result_schema": {"type": "objekt"}}), {"tasks[0].result_schema.type": "anyOf"}),
        (tasks({"expansion_config": {"type": "arrray", "array_mapping": {"x": "xs"}}}), {"tasks[0].expansion_config.type": "not_allowed"}),
        (tasks({"expansion_config": []}), {"tasks[0].expansion_config": "wrong_type"}),
        (
            tasks({"expansion_config": {"type": "array", "array_mapping": {"x": "xs"}}}),
            {"tasks[0].expansion_config.array_mapping": "unknown_source"},
        ),
        (tasks({"message_template": "{topic}"}), {"tasks[0].message_template": "unknown_variable"}),
        (tasks({"message_template": "{topic"}), {"tasks[0].message_template": "bad_placeholder"}),
        (tasks({"input": {"deep": [{"x": "{nope.field}"}]}}), {"tasks[0].input": "unknown_variable"}),
        (tasks({"message_template": "{__class__}"}), {"tasks[0].message_template": "unknown_variable"}),
        (
            tasks({"compensation": {"messge_template": "undo"}}),
            {"tasks[0].compensation.messge_template": "unknown_field", "tasks[0].compensation": "required"},
        ),
        (tasks({}, session_id="../x"), {"session_id": "bad_id"}),
        (tasks({}, session_id=7), {"session_id": "wrong_type"}),
        (tasks({}, context=[]), {"context": "wrong_type"}),
        (tasks({}, context={"": 1, "a\n": 2, "fine key": 3}), {"context.": "bad_key", "context.a\n": "bad_key"}),
        (tasks({}, priority=5000), {"priority": "out_of_range"}),
        (tasks({}, compensate="yes"), {"compensate": "wrong_type"}),
        (
            tasks({}, defaults={"max_retries": -1, "join": "all"}),
            {"defaults.max_retries": "out_of_range", "defaults.join": "unknown_field"},
        ),
        (tasks({}, result_keys=["missing"]), {"result_keys[0]": "unknown_result"}),
    ],
)
def test_what_is_wrong_is_named_by_its_path(document: Any, found: dict[str, str]):
    assert problems(document) == found


def test_all_problems_are_told_at_once_and_with_what_was_meant():
    told = messages(
        tasks(
            {"key": "fetch", "result_keys": ["documents"]},
            {"key": "split", "dependencies": ["fetsh"], "agent_clas": "x"},
            {"key": "report", "dependencies": ["split"], "message_template": "{dokuments}", "timeout_s": "1"},
            contxt={},
        )
    )
    assert "contxt: is no field here; did you mean `context`?" in told
    assert "tasks[1].dependencies[0]: there is no task, group or result key `fetsh`; did you mean `fetch`?" in told
    assert "tasks[2].timeout_s: must be a number, not a string" in told
    assert "nothing provides `dokuments`; did you mean `documents`?" in told


def test_a_circle_is_told_with_its_path():
    told = messages(
        tasks(*({"key": key, "dependencies": [other]} for key, other in ("ab", "bc", "ca")), {"key": "d", "dependencies": ["a"]})
    )
    assert told.endswith("each waits for the next: main.a → main.b → main.c → main.a")
    assert told.startswith("tasks[2].dependencies[0]")


def test_a_circle_through_groups_is_found():
    document = {
        "task_groups": [
            {"key": "g", "tasks": [{"key": "a", "dependencies": ["h.b"]}]},
            {"key": "h", "dependencies": ["g"], "tasks": [{"key": "b"}]},
        ]
    }
    assert "g → g.a → h.b → h → g" in messages(document)


def test_every_knot_of_circles_is_told():
    document = tasks(*({"key": key, "dependencies": [other]} for key, other in ("ab", "ba", "cd", "dc")))
    assert list(problems(document).values()) == ["cycle", "cycle"]


def test_a_template_may_name_what_the_task_waits_for_and_nothing_else():
    read(tasks({"key": "a"}, {"key": "b", "dependencies": ["a"]}, {"key": "c", "dependencies": ["b"], "message_template": "{a.title} {b}"}))
    assert "`a` is written by main.a, which this task does not wait for" in messages(
        tasks({"key": "a"}, {"key": "b", "message_template": "{a}"})
    )
    assert "`b` is what this task itself writes" in messages(tasks({"key": "b", "message_template": "{b}"}))


def test_a_template_may_name_context_items_own_fields_and_defaults():
    read(
        tasks(
            {
                "topic": "x",
                "rows": [1],
                "message_template": "{topic} {row} {given.deep} {maybe|none}",
                "expansion_config": {"type": "array", "array_mapping": {"row": "rows"}},
            },
            context={"given": {"deep": 1}},
        )
    )


def test_keys_of_separate_outputs_may_be_named_by_who_waits_for_them():
    separate = {**EXAMPLES[0], "key": "s", "result_keys": ["out"]}
    read(tasks(separate, {"key": "t", "dependencies": ["s"], "message_template": "{item1_out}"}))
    assert problems(tasks(separate, {"key": "t", "message_template": "{item1_out}"})) == {"tasks[1].message_template": "unknown_variable"}


def test_two_may_write_one_key_when_one_waits_for_the_other():
    spec = read(tasks({"key": "draft", "result_keys": ["text"]}, {"key": "polish", "dependencies": ["draft"], "result_keys": ["text"]}))
    assert spec.writers["text"] == ("main.draft", "main.polish")
    assert spec.result_owner("text") == "main.polish"


def test_compensation_may_name_what_its_step_wrote():
    read(tasks({"key": "book", "compensation": {"message_template": "cancel {book.id}"}}))


def test_the_executor_follows_from_the_registered_processor_and_is_kept():
    spec = read(tasks({"key": "a", "agent_class": "Upper"}, {"key": "b", "agent_class": "Writer"}))
    assert [spec.nodes[path].task.executor for path in ("main.a", "main.b")] == ["celery", "agent"]
    assert load(spec.document).nodes == spec.nodes


def test_defaults_hold_where_a_task_is_silent():
    spec = read(
        tasks(
            {"key": "a"},
            {"key": "b", "max_retries": 0, "on_failure": "continue"},
            {"key": "c", "retry_delays": [7]},
            on_failure="skip",
            defaults={"max_retries": 3, "retry_delays": [1, 5], "timeout_s": 9},
        )
    )
    a, b, c = (spec.nodes[f"main.{key}"] for key in "abc")
    assert a.task.retry == Retry(max_retries=3, delays=(1.0, 5.0))
    assert (a.on_failure, b.on_failure, a.task.timeout_s) == ("skip", "continue", 9.0)
    assert b.task.retry.max_retries == 0
    assert c.task.retry == Retry(max_retries=1, delays=(7.0,))


def test_the_join_follows_from_what_is_said_about_errors():
    config = {"rows": [1], "expansion_config": {"type": "array", "array_mapping": {"r": "rows"}}}
    spec = read(
        tasks(
            {"key": "single"},
            {"key": "open", **config},
            {"key": "strict", **config, "continue_on_error": False},
            {"key": "fast", **config, "fail_fast": True},
            {"key": "half", **config, "join": {"percent": 50}},
            {"key": "inside", "rows": [1], "expansion_config": {**config["expansion_config"], "fail_fast": True, "max_parallel": 3}},
        )
    )
    found = {node.key: (node.task.join, node.task.continue_on_error) for node in spec.nodes.values() if node.task}
    assert found["single"] == (Join(rule="all"), False)
    assert found["open"] == (Join(rule="ended"), True)
    assert found["strict"] == found["fast"] == found["inside"] == (Join(rule="all"), False)
    assert found["half"] == (Join(rule="percent", n=50.0), True)
    assert spec.nodes["main.inside"].max_parallel == 3
    assert spec.nodes["main.inside"].task.fail_fast


def test_an_expansion_beyond_all_bounds_is_refused_before_it_is_made():
    axis = list(range(1000))
    document = tasks(
        {"x": axis, "y": axis, "z": axis, "expansion_config": {"type": "matrix", "array_mapping": {"a": "x", "b": "y", "c": "z"}}}
    )
    begun = time.thread_time()
    assert problems(document) == {"tasks[0].expansion_config": "too_many_items"}
    assert time.thread_time() - begun < 1


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (tasks(*[{}] * 100_000), "too_many_tasks"),
        ({"task_groups": [{"tasks": [{}]}] * 5000}, "too_many_groups"),
        (tasks({"dependencies": ["x"] * 200_000}), "too_many_dependencies"),
        (tasks({"note": "x" * 9_000_000}), "too_large"),
    ],
)
def test_what_is_too_big_is_refused_before_it_is_read(document: Any, code: str):
    begun = time.thread_time()
    assert list(problems(document).values()) == [code]
    assert time.thread_time() - begun < 1


def test_what_is_nested_too_deep_is_refused():
    groups: dict[str, Any] = {"tasks": [{}]}
    for _ in range(17):
        groups = {"task_groups": [groups]}
    assert list(problems(groups).values()) == ["too_deep"]
    value: Any = 1
    for _ in range(70):
        value = [value]
    assert problems(tasks({"note": value})) == {"tasks": "too_deep"}
    for _ in range(10_000):
        value = [value]
    assert problems(tasks({"note": value})) == {"": "not_json"}


def test_more_problems_than_can_be_read_are_counted():
    with pytest.raises(Invalid) as refused:
        read(tasks(*({"key": f"t{number}", "dependencies": [f"ghost{number}"]} for number in range(5000))))
    assert len(refused.value.problems) == LIMITS.problems + 1
    assert refused.value.problems[-1].message == "and 4900 more problems"


def test_a_stored_document_is_read_without_being_judged_again():
    spec = read(
        tasks({"key": "a", "agent_class": "Upper", "compensation": {"agent_class": "WordCount"}}, session_id="s-1", context={"x": 1})
    )
    stored = copy.deepcopy(spec.document)
    assert load(stored) == spec
    assert stored["tasks"][0]["compensation"]["executor"] == "celery"


def test_what_a_document_asks_to_be_looked_at_ahead_is_bounded_as_a_whole():
    dropping = {
        "type": "array",
        "array_mapping": {"x": "some"},
        "nested": {"type": "custom", "transform_rules": {"combine": {"y": "some"}, "filter": {"some": "<0"}}},
    }
    tasks = [{"key": f"t{number}", "expansion_config": dropping} for number in range(300)]
    began = time.process_time()
    spec = parse({"context": {"some": list(range(1000))}, "tasks": tasks}, processors=())
    expanded_plan(spec)
    assert time.process_time() - began < 10  # one of them alone takes most of a second
