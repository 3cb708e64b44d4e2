"""`expand(data)`: a task's own script says which items it becomes, in the sandbox of policies."""

from __future__ import annotations

import pytest

from apps.dsl import expanding
from apps.dsl.expanding import ScriptFailed
from apps.workflows import expansion
from apps.workflows.expansion import BadExpansion, TooManyItems

PAIRS = """
def expand(data):
    people = data["people"]
    return [{"first": a, "second": b} for i, a in enumerate(people) for b in people[i + 1:]]
"""


def expand(script: str, data: object, **config: object) -> list[dict[str, object]]:
    made = expansion.expand({"type": "custom", "script": script, **config}, {"data": data}, {}, run_starlark=expanding.run)
    return [item.values for item in made.items]


def test_a_script_makes_the_items() -> None:
    made = expand(PAIRS, {"people": ["Ann", "Bo", "Cy"]})
    assert made == [{"first": "Ann", "second": "Bo"}, {"first": "Ann", "second": "Cy"}, {"first": "Bo", "second": "Cy"}]
    assert expand("def expand(data):\n    return data", [1, 2]) == [{"item": 1}, {"item": 2}]
    assert expand("def expand(data):\n    return []", {}) == []
    assert expand("def expand(data):\n    return data", [1, 2], conditions={"item": ">1"}, field_mappings={"n": "no {item}"}) == [
        {"item": 2, "n": "no 2"}
    ]


def test_it_is_given_the_arrays_of_the_mapping_when_there_is_one() -> None:
    config = {"type": "custom", "script": "def expand(data):\n    return data['n'][1:]", "array_mapping": {"n": "scan.numbers"}}
    made = expansion.expand(config, {}, {"scan": {"numbers": [1, 2, 3]}}, run_starlark=expanding.run)
    assert [item.values for item in made.items] == [{"item": 2}, {"item": 3}]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("def expand(data):\n    return data[", "line 2"),
        ("x = 1", "has no function expand"),
        ("def expand(data):\n    return 1 // 0", "line 2"),
        ("def expand(data):\n    return {}", "must answer a list of items, not an object"),
        ("def expand(data):\n    return ['x' * 1000] * 1000", "larger than 64 kB"),
        ("def expand(data):\n    for i in range(2000000000):\n        pass", "took longer than 1000 ms"),
        ("load('os', 'x')\ndef expand(data):\n    return []", "load"),
    ],
)
def test_a_script_that_fails_says_where_and_no_item_is_made(script: str, message: str) -> None:
    with pytest.raises(BadExpansion, match=message) as raised:
        expand(script, {})
    assert raised.value.problems[0].field == "expansion_config.script"


def test_what_it_makes_is_counted_and_never_a_template() -> None:
    with pytest.raises(TooManyItems):
        expand("def expand(data):\n    return [i for i in range(11)]", {}, max_items=10)
    assert expand("def expand(data):\n    return ['{who}']", {}) == [{"item": "{who}"}]


def test_it_can_be_looked_at_before_anything_runs() -> None:
    expanding.check(PAIRS)
    with pytest.raises(ScriptFailed, match="line 1"):
        expanding.check("def expand(data) return []")


def test_what_it_is_given_is_bounded() -> None:
    with pytest.raises(BadExpansion, match="more than 1024 kB"):
        expand(PAIRS, {"people": ["x" * 60_000] * 20})
