"""A step's result is checked before its dependents run."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from apps.workflows.expansion import result_schema
from apps.workflows.expansion.result_schema import ResultSchema

REVIEW = {
    "type": "object",
    "required": ["score", "notes"],
    "properties": {
        "score": {"type": "integer", "minimum": 0, "maximum": 10},
        "notes": {"type": "array", "items": {"$ref": "#/$defs/note"}, "uniqueItems": True},
        "code": {"type": "string", "pattern": "^[A-Z]{2}$"},
    },
    "additionalProperties": False,
    "$defs": {"note": {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}, "required": ["text"]}},
}


def found(schema: Any, value: Any) -> list[tuple[str, str]]:
    return [(problem.field, problem.code) for problem in ResultSchema(schema).problems(value)]


def test_a_good_result_has_no_problems() -> None:
    assert result_schema.validate(REVIEW) == []
    assert found(REVIEW, {"score": 7, "notes": [{"text": "fine"}], "code": "US"}) == []


@pytest.mark.parametrize(
    ("value", "problems"),
    [
        ("text", [("result", "type")]),
        ({}, [("result", "required"), ("result", "required")]),
        ({"score": 11, "notes": []}, [("result.score", "maximum")]),
        ({"score": True, "notes": []}, [("result.score", "type")]),
        ({"score": 1, "notes": [{"text": "a"}, {"text": ""}]}, [("result.notes[1].text", "minLength")]),
        ({"score": 1, "notes": [{"text": "a"}, {"text": "a"}]}, [("result.notes", "uniqueItems")]),
        ({"score": 1, "notes": [], "code": "usa"}, [("result.code", "pattern")]),
        ({"score": 1, "notes": [], "more": 1}, [("result", "additionalProperties")]),
    ],
)
def test_each_problem_has_its_path(value: Any, problems: list[tuple[str, str]]) -> None:
    assert sorted(found(REVIEW, value)) == sorted(problems)


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ([], "s"),
        ("object", "s"),
        ({"type": "objekt"}, "s.type"),
        ({"properties": []}, "s.properties"),
        ({"minimum": "1"}, "s.minimum"),
        ({"$schema": "http://example.com/schema"}, "s.$schema"),
        ({"$ref": "https://example.com/schema.json"}, "s.$ref"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "s.properties.a.$ref"),
        ({"$ref": "other.json#/a"}, "s.$ref"),
        ({"$ref": "#/$defs/ghost"}, "s.$ref"),
        ({"$dynamicRef": "#x"}, "s.$dynamicRef"),
        ({"unevaluatedProperties": False}, "s.unevaluatedProperties"),
        ({"properties": {"a": {"$id": "http://x/"}}}, "s.properties.a.$id"),
        ({"pattern": "(?=a)"}, "s"),
        ({"pattern": "a" * 300}, "s"),
        ({"enum": ["x" * 70_000]}, "s"),
        ({"$ref": "#"}, "s"),
        ({"allOf": [{"anyOf": [{"$ref": "#/allOf/0"}]}]}, "s"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_before_anything_runs(schema: Any, field: str) -> None:
    assert [problem.field for problem in result_schema.validate(schema, "s")][:1] == [field]


def test_a_schema_may_describe_a_field_called_ref_and_hold_any_data() -> None:
    schema = {"properties": {"$ref": {"type": "string"}}, "enum": [{"$ref": "http://x"}, {"$ref": "y"}]}
    assert result_schema.validate(schema) == []
    assert found(schema, {"$ref": "y"}) == []


def test_draft_7_is_read_as_draft_7() -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "integer"}], "additionalItems": False}
    assert result_schema.validate(schema) == []
    assert found(schema, [1]) == [] and found(schema, [1, 2]) == [("result", "additionalItems")]


def test_a_schema_that_multiplies_its_work_is_stopped() -> None:
    levels = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(40)}
    schema = {"$ref": "#/$defs/l0", "$defs": {**levels, "l40": {"type": "object"}}}
    started = time.thread_time()
    assert [problem.code for problem in result_schema.validate(schema)] == ["schema_too_costly"]
    assert time.thread_time() - started < 10


def test_the_schemas_of_one_document_are_judged_once_each_and_bounded_together() -> None:
    judge, large = result_schema.Judge(), {"description": "x" * 12_000}
    assert all(judge.problems(large, "a") == [] for _ in range(100))
    found = [judge.problems({**large, "title": str(number)}, "b") for number in range(5)]
    assert [[one.code for one in each] for each in found] == [[], [], [], [], ["too_large"]]
    bad = result_schema.Judge()
    assert [bad.problems({"type": "objekt"}, where)[0].field for where in ("a", "b")] == ["a.type", "b.type"]


def test_a_pattern_cannot_be_made_slow() -> None:
    schema = {"pattern": "^(a+)+$", "patternProperties": {"^(a+)+$": {"type": "integer"}}, "additionalProperties": False}
    evil = "a" * 60_000 + "!"
    assert found(schema, evil) == [("result", "pattern")]
    assert found(schema, {evil: 1}) == [("result", "additionalProperties")]


def test_messages_stay_short_however_large_the_value() -> None:
    for problem in ResultSchema({"type": "integer", "items": False}).problems([["x" * 1000] * 100]):
        assert len(problem.message) <= 200


keywords = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"]),
        "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
        "uniqueItems": st.booleans(),
        "pattern": st.sampled_from(["^a", "b$", "."]),
        "minimum": st.integers(0, 2),
        "additionalProperties": st.booleans(),
        "patternProperties": st.sampled_from([{"^a": {"type": "integer"}}, {}]),
        "properties": st.sampled_from([{"a": {"type": "string"}}, {"b": True}]),
        "items": st.sampled_from([{"type": "integer"}, {"minimum": 1}]),
    },
)
plain = st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from([1.0, 0.5]) | st.text(alphabet="abc", max_size=2)
instances = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3))


@given(keywords, instances)
def test_our_bounded_checks_say_what_the_library_says(schema: Any, value: Any) -> None:
    assert (ResultSchema(schema).problems(value) == []) == Draft202012Validator(schema).is_valid(value)
