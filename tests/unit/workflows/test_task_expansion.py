"""TaskExpansion, by the specification's method names."""

from __future__ import annotations

import pytest

from apps.workflows.expansion import BadExpansion
from apps.workflows.expansion.combine import Ended
from apps.workflows.expansion.task_expansion import TaskExpansion
from apps.workflows.expansion.templates import TemplateError

REVIEW = {
    "key": "review",
    "name": "Review",
    "message_template": "Review {user.name} ({user.role}) for {company}",
    "input": {"user": "{user}"},
    "result_keys": ["review"],
    "users": [{"id": 1, "name": "Alice", "role": "admin"}, {"id": 2, "name": "Bob", "role": "user"}],
    "expansion_config": {
        "type": "array",
        "array_mapping": {"user": "users"},
        "identifiers": {"name": "name"},
        "output_format": "separate",
    },
}


def test_a_task_becomes_one_task_per_item() -> None:
    alice, bob = TaskExpansion().expand_task(REVIEW, {"company": "Acme"})
    assert (alice["key"], alice["name"]) == ("review_Alice", "Review Alice")
    assert alice["message_template"] == "Review Alice (admin) for Acme"
    assert bob["input"] == {"user": REVIEW["users"][1]}
    assert "expansion_config" not in alice


def test_each_task_says_what_it_was_made_of() -> None:
    _, bob = TaskExpansion().expand_task(REVIEW, {"company": "Acme"})
    assert bob["expanded_from"] == {
        "base_task_id": "review",
        "sequence_num": 2,
        "identifier": "Bob",
        "item_data": {"user": REVIEW["users"][1]},
    }


@pytest.mark.parametrize(
    "config",
    [
        {"type": "array", "array_mapping": {"x": [1, 2]}},
        {"type": "zip", "array_mapping": {"x": [1, 2], "y": [3, 4]}},
        {"type": "matrix", "array_mapping": {"x": [1, 2]}},
        {"type": "custom", "transform_rules": {"combine": {"x": [1, 2]}}},
        {"type": "custom", "script": "expand(data) is elsewhere"},
    ],
)
def test_every_type_renders_its_templates(config: dict[str, object]) -> None:
    expansion = TaskExpansion(run_starlark=lambda script, data: [{"x": 1}, {"x": 2}])
    made = expansion.expand_task({"key": "a", "message_template": "{x} of {city}", "expansion_config": config}, {"city": "Oslo"})
    assert [task["message_template"] for task in made] == ["1 of Oslo", "2 of Oslo"]


def test_a_task_without_expansion_stays_one_and_is_rendered() -> None:
    (task,) = TaskExpansion().expand_task({"key": "a", "message_template": "Hi {who}"}, {"who": "you"})
    assert task == {"key": "a", "message_template": "Hi you"}


def test_an_expansion_that_fails_never_runs_the_unexpanded_task() -> None:
    with pytest.raises(BadExpansion):
        TaskExpansion().expand_task({**REVIEW, "users": "none"}, {})
    with pytest.raises(TemplateError, match="'company'"):
        TaskExpansion().expand_task(REVIEW, {})


def test_its_smaller_methods() -> None:
    expansion = TaskExpansion()
    assert expansion.format_structured_data(["a", 1, True]) == "a, 1, true"
    assert expansion.format_structured_data({"a": [1]}) == '{"a":[1]}'
    assert expansion.replace_template_vars("{a} {b}", {"a": 1}, {"a": 2, "b": 3}) == "1 3"
    assert expansion._get_item_identifier({"user": {"name": "Ann Lee"}}, REVIEW["expansion_config"]) == "Ann_Lee"
    assert expansion._get_item_identifier({"user": "x"}, {}) == ""
    task = {"expansion_config": {"type": "array", "array_mapping": {"x": "scan.items"}}}
    assert expansion.find_array_dependencies(task, {}) == ["scan.items"]
    assert expansion.find_array_dependencies(task, {"scan": {"items": []}}) == []
    assert expansion.find_array_dependencies(REVIEW, {}) == []


def test_results_are_combined_as_the_config_says() -> None:
    ended = [Ended(0, "Alice", "completed", "good"), Ended(1, "Bob", "completed", "fine")]
    assert TaskExpansion().combine_results(REVIEW, ended)["Alice_review"] == "good"
