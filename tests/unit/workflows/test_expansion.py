"""One task becomes many items. The spec's examples are in tests/spec_examples.py."""

from __future__ import annotations

import contextlib
import itertools
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.workflows import expansion
from apps.workflows.expansion import BadExpansion, TooManyItems, items
from apps.workflows.expansion.templates import TemplateError
from tests.spec_examples import ARRAY, CUSTOM, MATRIX, OBJECTS


def expanded(document: dict[str, Any], context: dict[str, Any] | None = None, **more: Any) -> expansion.Expansion:
    return expansion.expand(document["expansion_config"], document, context or {}, **more)


def values(document: dict[str, Any], context: dict[str, Any] | None = None, **more: Any) -> list[dict[str, Any]]:
    return [item.values for item in expanded(document, context, **more).items]


def names(document: dict[str, Any], context: dict[str, Any] | None = None) -> list[str]:
    return [item.identifier for item in expanded(document, context).items]


# ---- the spec's examples -----------------------------------------------------------------------------------


def test_an_array_of_values_expands_to_an_item_for_each() -> None:
    assert values(ARRAY) == [{"input": "item1"}, {"input": "item2"}, {"input": "item3"}]
    assert names(ARRAY) == ["1", "2", "3"]


def test_an_array_of_objects_expands_to_an_item_per_object() -> None:
    assert values(OBJECTS) == [{"user": user} for user in OBJECTS["users"]]


def test_a_matrix_expands_to_every_combination_in_order() -> None:
    assert names(MATRIX) == ["A1", "A2", "A3", "B1", "B2", "B3"]
    assert values(MATRIX)[4] == {"row": "B", "col": 2}


def test_custom_rules_combine_and_filter() -> None:
    assert names(CUSTOM) == ["US-sales", "US-growth", "EU-sales", "EU-growth"]
    assert values(CUSTOM)[0] == {"regions": "US", "metrics": "sales", "years": [2022, 2023]}
    later = {**CUSTOM, "data": {**CUSTOM["data"], "years": [2020, 2021, 2022]}}
    assert values(later)[0]["years"] == [2022]


@pytest.mark.parametrize("document", [ARRAY, OBJECTS, MATRIX, CUSTOM])
def test_the_arrays_may_be_in_the_context_as_well(document: dict[str, Any]) -> None:
    context = {name: value for name, value in document.items() if name != "expansion_config"}
    config = {"expansion_config": document["expansion_config"]}
    assert values(config, context) == values(document)
    assert expansion.count(document["expansion_config"], {}, context) == len(values(document))


# ---- where arrays come from --------------------------------------------------------------------------------


def array(mapping: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"expansion_config": {"type": "array", "array_mapping": mapping, **more}}


def test_a_dotted_path_leads_to_the_result_of_an_earlier_task() -> None:
    context = {"scan": {"folders": [{"files": ["a", "b"]}]}}
    assert values(array({"file": "scan.folders.0.files"}), context) == [{"file": "a"}, {"file": "b"}]


def test_the_merged_output_of_an_earlier_expansion_stands_for_its_results() -> None:
    merged = {"results": [1, 2], "summary": "", "metrics": {}, "confidence": None, "missing": []}
    assert values(array({"x": "scan"}), {"scan": merged}) == [{"x": 1}, {"x": 2}]


def test_the_task_is_asked_before_the_context_but_only_for_a_list() -> None:
    assert values({**array({"x": "xs"}), "xs": [1]}, {"xs": [2]}) == [{"x": 1}]
    assert values({**array({"x": "name"}), "name": "the task"}, {"name": [2]}) == [{"x": 2}]


def test_several_arrays_are_walked_together_and_must_be_equally_long() -> None:
    together = values({**array({"a": "as", "b": "bs"}), "as": [1, 2], "bs": "xy"}, {"bs": ["x", "y"]})
    assert together == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    with pytest.raises(BadExpansion, match="a has 2, b has 1"):
        values(array({"a": [1, 2], "b": [3]}))


def test_a_list_may_be_written_in_place_and_a_missing_one_may_have_a_default() -> None:
    assert values(array({"x": [1, 2]})) == [{"x": 1}, {"x": 2}]
    assert values(array({"x": {"path": "ghost", "default": []}})) == []


def test_an_empty_list_expands_to_nothing() -> None:
    found = expanded(array({"x": "xs"}), {"xs": []})
    assert (found.total, list(found.items), found.kind) == (0, [], "array")


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"user": [1]}, "there is no 'users'.*did you mean 'user'"),
        ({"users": None}, "'users' is null, not a list"),
        ({"users": "abc"}, "'users' is a text, not a list"),
        ({"users": {"a": 1}}, "'users' is an object, not a list"),
        ({"users": True}, "'users' is a truth value, not a list"),
    ],
)
def test_what_is_no_list_is_an_error_with_its_path(context: dict[str, Any], message: str) -> None:
    with pytest.raises(BadExpansion, match=message) as raised:
        expansion.expand(array({"u": "users"})["expansion_config"], {}, context, where="tasks[0].expansion_config")
    assert raised.value.problems[0].field == "tasks[0].expansion_config.array_mapping.u"


# ---- zip ---------------------------------------------------------------------------------------------------


def zipped(**more: Any) -> dict[str, Any]:
    return {"expansion_config": {"type": "zip", "array_mapping": {"a": [1, 2, 3], "b": ["x"]}, **more}}


def test_zip_stops_at_the_shortest_or_fills_up_to_the_longest() -> None:
    assert values(zipped(mode="shortest")) == [{"a": 1, "b": "x"}]
    assert values(zipped(mode="longest", default="-"))[2] == {"a": 3, "b": "-"}
    assert values(zipped(mode="longest", default={"b": {"none": 1}}))[1] == {"a": 2, "b": {"none": 1}}
    assert values(zipped(mode="longest"))[1] == {"a": 2, "b": None}


@pytest.mark.parametrize("mode", [{}, {"mode": "strict"}])
def test_zip_is_strict_unless_told_otherwise(mode: dict[str, Any]) -> None:
    with pytest.raises(BadExpansion, match="a has 3, b has 1"):
        values(zipped(**mode))


# ---- matrix ------------------------------------------------------------------------------------------------


def test_include_extends_and_adds_as_github_actions_documents_it() -> None:
    document = {
        "expansion_config": {
            "type": "matrix",
            "array_mapping": {"fruit": ["apple", "pear"], "animal": ["cat", "dog"]},
            "include": [
                {"color": "green"},
                {"color": "pink", "animal": "cat"},
                {"fruit": "apple", "shape": "circle"},
                {"fruit": "banana"},
                {"fruit": "banana", "animal": "cat"},
            ],
        }
    }
    assert values(document) == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "pear", "animal": "dog", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]


def test_exclude_takes_out_what_it_partly_names_and_include_comes_after_it() -> None:
    config = {"type": "matrix", "array_mapping": {"os": ["linux", "mac"], "v": [1, 2]}, "exclude": [{"os": "mac", "v": 1}, {"v": 2}]}
    assert values({"expansion_config": config}) == [{"os": "linux", "v": 1}]
    back = {**config, "include": [{"os": "mac", "v": 1}]}
    assert values({"expansion_config": back}) == [{"os": "linux", "v": 1}, {"os": "mac", "v": 1}]


def test_a_matrix_compares_json_values_true_is_not_one() -> None:
    config = {"type": "matrix", "array_mapping": {"x": [1, True, "1", {"a": 1, "b": 2}]}, "exclude": [{"x": 1.0}, {"x": {"b": 2, "a": 1}}]}
    assert values({"expansion_config": config}) == [{"x": True}, {"x": "1"}]


scalars = st.lists(st.integers(0, 3) | st.sampled_from("ab") | st.booleans(), max_size=4)
arrays = st.dictionaries(st.sampled_from("xyz"), scalars, min_size=1, max_size=3)


@given(arrays)
def test_a_matrix_is_the_product_in_a_stable_order(given_arrays: dict[str, list[Any]]) -> None:
    config = {"type": "matrix", "array_mapping": dict(given_arrays)}
    found = expansion.expand(config, {}, {})
    assert [tuple(item.values.values()) for item in found.items] == list(itertools.product(*given_arrays.values()))
    assert found.total == expansion.count(config, {}, {})
    assert len({item.identifier for item in found.items}) == found.total
    assert [item.index for item in found.items] == list(range(found.total))
    assert expansion.expand(config, {}, {}) == found


@st.composite
def matrices(draw: Any) -> tuple[dict[str, list[Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    axes = draw(st.dictionaries(st.sampled_from("xyz"), st.lists(st.integers(0, 2), max_size=3, unique=True), min_size=1, max_size=3))
    exclude = draw(st.lists(st.dictionaries(st.sampled_from(sorted(axes)), st.integers(0, 2), min_size=1), max_size=3))
    include = draw(st.lists(st.dictionaries(st.sampled_from([*sorted(axes), "p", "q"]), st.integers(0, 2), min_size=1), max_size=4))
    return axes, exclude, include


@given(matrices())
def test_include_and_exclude_do_what_github_actions_describe_step_by_step(case: Any) -> None:
    axes, exclude, include = case
    originals = [dict(zip(axes, one, strict=True)) for one in itertools.product(*axes.values())]
    originals = [one for one in originals if not any(entry.items() <= one.items() for entry in exclude)]
    expected, extra = [dict(one) for one in originals], []
    for entry in include:
        fits = [index for index, one in enumerate(originals) if all(one.get(name, value) == value for name, value in entry.items())]
        for index in fits:
            expected[index].update(entry)
        if not fits:
            extra.append(entry)
    config = {"type": "matrix", "array_mapping": axes, "exclude": exclude, "include": include}
    assert values({"expansion_config": config}) == expected + extra


# ---- custom ------------------------------------------------------------------------------------------------


def custom(data: Any, **rules: Any) -> dict[str, Any]:
    return {"data": data, "expansion_config": {"type": "custom", "transform_rules": rules}}


SALES = {"regions": [{"code": "US", "size": 3}, {"code": "EU", "size": 2}, {"code": "XX", "size": 0}], "years": [2022, 2023], "unit": "k€"}


def test_filters_look_into_objects_and_combine_can_rename() -> None:
    document = custom(SALES, combine={"region": "regions", "year": "years"}, filter={"regions.size": ">=2", "years": {"$lt": 2023}})
    assert values(document) == [
        {"region": {"code": "US", "size": 3}, "year": 2022, "unit": "k€"},
        {"region": {"code": "EU", "size": 2}, "year": 2022, "unit": "k€"},
    ]


def test_field_mappings_conditions_and_validation_come_in_this_order() -> None:
    rules = {
        "combine": {"region": "regions", "year": "years"},
        "field_mappings": {"code": "region.code", "title": "{region.code} in {year}"},
        "conditions": [{"code": "US"}, {"code": "EU", "year": 2023}],
        "validation": {"code": ["US", "EU"], "title": {"$exists": True}},
    }
    document = custom(SALES, **rules)
    assert [one["title"] for one in values(document)] == ["US in 2022", "US in 2023", "EU in 2023"]
    rules["conditions"] = {"year": 2022}
    with pytest.raises(BadExpansion, match="item 3 is not valid: code is XX"):
        values(custom(SALES, **rules))


def test_rules_may_stand_beside_transform_rules_as_the_specification_draws_them() -> None:
    document = custom(SALES, combine={"region": "regions"})
    document["expansion_config"] |= {"field_mappings": {"code": "region.code"}, "conditions": {"code": "!=XX"}}
    assert [one["code"] for one in values(document)] == ["US", "EU"]
    document["expansion_config"] |= {"validation": {"code": "US"}}
    with pytest.raises(BadExpansion, match="item 2 is not valid: code is EU"):
        values(document)


def test_a_list_as_data_is_walked_and_filtered_by_its_fields() -> None:
    rows = [{"region": "US", "year": 2020}, {"region": "EU", "year": 2023}]
    assert values(custom(rows, filter={"year": ">2021"})) == [{"region": "EU", "year": 2023}]
    assert values(custom([5, 6], filter={"item": ">5"})) == [{"item": 6}]


@pytest.mark.parametrize(
    ("test", "holding"),
    [
        (">2", [3, 10, "5"]),
        ("<= 2", [1, 2, -1.5]),
        ("!=a", [1, 2, 3, 10, -1.5, True, None, "5", "b", [1], MISSING := {"k": 1}]),
        ("=a", ["a"]),
        ("a", ["a"]),
        (1, [1]),
        (True, [True]),
        (None, [None]),
        ([1, "a"], [1, "a"]),
        ({"$gt": 1, "$lt": 10}, [2, 3, "5"]),
        ({"$regex": "^[ab]$"}, ["a", "b"]),
        ({"$nin": [1, "a"]}, [2, 3, 10, -1.5, True, None, "5", "b", [1], MISSING]),
        ({"k": 1}, [{"k": 1}]),
        (">a", ["b"]),
    ],
)
def test_a_filter_understands_operators_values_and_lists(test: Any, holding: list[Any]) -> None:
    everything = [1, 2, 3, 10, -1.5, True, None, "5", "a", "b", [1], {"k": 1}]
    found = [one["x"] for one in values(custom({"xs": everything}, combine={"x": "xs"}, filter={"xs": test}))]
    assert sorted(map(repr, found)) == sorted(map(repr, holding))


def test_an_unknown_array_in_a_filter_is_an_error() -> None:
    with pytest.raises(BadExpansion, match="no array 'yers' to filter; did you mean 'years'"):
        values(custom(SALES, combine=["years"], filter={"yers": ">1"}))


# ---- nested, names, limits ---------------------------------------------------------------------------------


def test_an_item_can_itself_be_expanded() -> None:
    users = [{"name": "Alice", "files": ["a", "b"]}, {"name": "Bob", "files": []}, {"name": "Carol", "files": ["c"]}]
    document = array({"user": "users"}, identifiers={"name": "name"}, nested={"type": "array", "array_mapping": {"file": "user.files"}})
    found = expanded(document, {"users": users})
    assert [(item.identifier, item.values["file"]) for item in found.items] == [("Alice-1", "a"), ("Alice-2", "b"), ("Carol-1", "c")]
    assert found.items[0].values["user"] == users[0]
    assert expansion.count(document["expansion_config"], {}, {"users": users}) == 3


def test_identifiers_are_readable_unique_and_safe() -> None:
    firsts = ["Ann Lee", "Ann Lee", None, "x/../{y}\n"]
    people = [{"id": number, "n": {"first": first}} for number, first in enumerate(firsts, 1)]
    found = expanded(array({"p": people}, identifiers={"who": "p.n.first"})).items
    assert [item.identifier for item in found] == ["Ann_Lee", "Ann_Lee_2", "3", "x_.._y"]
    assert [item.name_suffix for item in found] == ["Ann Lee", "Ann Lee (2)", "3", "x/../{y}"]
    assert names(array({"p": people}, identifiers={"id": "id", "who": "n.first"}))[:2] == ["1_Ann_Lee", "2_Ann_Lee"]


@given(st.lists(st.text(max_size=8) | st.integers(), max_size=20))
def test_identifiers_are_always_unique_and_the_same_again(given_values: list[Any]) -> None:
    document = array({"x": given_values}, identifiers={"x": "x"})
    found = names(document)
    assert len(set(found)) == len(given_values) and found == names(document)
    assert all(0 < len(one) <= 64 for one in found)


def test_a_product_of_a_billion_is_refused_before_it_is_made() -> None:
    config = {"type": "matrix", "array_mapping": {"a": "n", "b": "n", "c": "n"}}
    rules = {"type": "custom", "transform_rules": {"combine": {"a": "n", "b": "n", "c": "n"}}}
    nested = {"type": "matrix", "array_mapping": {"a": "n"}, "nested": {"type": "matrix", "array_mapping": {"b": "n", "c": "n"}}}
    thousand = {"n": list(range(1000))}
    for one in (config, rules, nested):
        tracemalloc.start()
        with pytest.raises(TooManyItems, match="more than the 100,000 allowed"):
            expansion.expand(one, {}, thousand)
        with pytest.raises(TooManyItems):
            expansion.count(one, {}, thousand)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


@pytest.mark.parametrize(
    "document",
    [
        array({"x": list(range(5))}, max_items=4),
        {"expansion_config": {"type": "matrix", "array_mapping": {"x": [1, 2]}, "include": [{"x": 3}, {"x": 4}, {"x": 5}], "max_items": 4}},
        array({"x": [[1, 2, 3], [4, 5]]}, nested={"type": "array", "array_mapping": {"y": "x"}}, max_items=4),
        array({"x": list(range(10_001))}, output_format="separate"),
    ],
)
def test_more_items_than_allowed_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(TooManyItems):
        expanded(document)


def test_one_large_value_cannot_be_copied_into_many_items() -> None:
    document = array({"x": [{"big": "y" * 3_000_000}]}, nested={"type": "array", "array_mapping": {"n": list(range(100))}})
    with pytest.raises(TooManyItems, match="bytes as JSON"):
        expanded(document)


def test_work_that_leaves_few_items_is_bounded_too(monkeypatch) -> None:
    monkeypatch.setattr(items, "MAX_WORK", 30_000)
    context = {"some": list(range(1000)), "few": list(range(10))}
    matrix = {"type": "matrix", "array_mapping": {"x": "some", "y": "few"}}
    for config in (
        {**matrix, "nested": {"type": "custom", "transform_rules": {"combine": {"z": "some"}, "filter": {"some": "<0"}}}},
        {**matrix, "nested": {"type": "matrix", "array_mapping": {"z": "few"}, "exclude": [{"z": n} for n in range(10)]}},
        {**matrix, "include": [{f"v{n}": n} for n in range(10)]},
        {**matrix, "type": "custom", "transform_rules": {"field_mappings": {f"v{n}": "{x}" for n in range(10)}}},
    ):
        assert expansion.validate(config) == []
        with pytest.raises(BadExpansion) as raised:
            expansion.expand(config, {}, context)
        assert raised.value.problems[0].code == "too_costly"
    assert expansion.expand({**matrix, "exclude": [{"x": n} for n in range(10, 1000)]}, {}, context).total == 100


def test_a_hundred_thousand_items_take_well_under_a_second() -> None:
    people = {"people": [{"name": f"n{number}"} for number in range(100_000)]}
    config = {"type": "array", "array_mapping": {"p": "people"}, "identifiers": {"name": "name"}}
    began = time.process_time()
    assert expansion.expand(config, {}, people).total == 100_000
    assert time.process_time() - began < 2  # 0.3 s on an idle machine


# ---- the shape ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [ARRAY, OBJECTS, MATRIX, CUSTOM, zipped(mode="longest", default=0), custom(SALES, combine=["years"])])
def test_good_configs_have_no_problems(document: dict[str, Any]) -> None:
    assert expansion.validate(document["expansion_config"]) == []


@pytest.mark.parametrize(
    ("config", "field", "message"),
    [
        ([], "at", "must be an object"),
        ({}, "at.type", "is required"),
        ({"type": "aray"}, "at.type", "did you mean 'array'"),
        ({"type": ["array"]}, "at.type", "must be one of"),
        ({"type": "array"}, "at.array_mapping", "is required"),
        ({"type": "array", "array_mapping": {}}, "at.array_mapping", "object of 1 to"),
        ({"type": "array", "array_mapping": {"x": 7}}, "at.array_mapping.x", "dotted path"),
        ({"type": "array", "array_mapping": {"x": "a..b"}}, "at.array_mapping.x", "dotted path"),
        ({"type": "array", "array_mapping": {"x": {"path": "a", "default": 1}}}, "at.array_mapping.x", "default"),
        ({"type": "array", "array_mapping": {"a b": "x"}}, "at.array_mapping.a b", "no name of a variable"),
        ({"type": "array", "array_mapping": {"x": "x"}, "outputformat": "merge"}, "at.outputformat", "did you mean 'output_format'"),
        ({"type": "array", "array_mapping": {"x": "x"}, "output_format": "mrge"}, "at.output_format", "did you mean 'merge'"),
        ({"type": "array", "array_mapping": {"x": "x"}, "max_items": 0}, "at.max_items", "from 1"),
        ({"type": "array", "array_mapping": {"x": "x"}, "max_parallel": True}, "at.max_parallel", "from 1"),
        ({"type": "array", "array_mapping": {"x": "x"}, "fail_fast": 1}, "at.fail_fast", "true or false"),
        ({"type": "array", "array_mapping": {"x": "x"}, "identifiers": {"n": 3}}, "at.identifiers.n", "dotted path"),
        ({"type": "array", "array_mapping": {"x": "x"}, "include": []}, "at.include", "not known for type array"),
        ({"type": "array", "array_mapping": {"x": "x"}, "nested": {"type": "zip"}}, "at.nested.array_mapping", "is required"),
        ({"type": "array", "array_mapping": {"x": "x"}, "nested": {"type": "custom", "script": "x"}}, "at.nested.script", "outermost"),
        (
            {"type": "array", "array_mapping": {"x": "x"}, "nested": {"type": "array", "array_mapping": {"y": "x"}, "fail_fast": True}},
            "at.nested.fail_fast",
            "outermost",
        ),
        ({"type": "matrix", "array_mapping": {"os": "x"}, "exclude": [{"oss": 1}]}, "at.exclude[0].oss", "did you mean 'os'"),
        ({"type": "matrix", "array_mapping": {"os": "x"}, "include": [1]}, "at.include[0]", "must be an object"),
        ({"type": "zip", "array_mapping": {"x": "x"}, "mode": "long"}, "at.mode", "must be one of"),
        ({"type": "custom"}, "at", "needs transform_rules or script"),
        ({"type": "custom", "script": "x", "transform_rules": {}}, "at", "not both"),
        ({"type": "custom", "transform_rules": {"combin": []}}, "at.transform_rules.combin", "did you mean 'combine'"),
        ({"type": "custom", "transform_rules": {"combine": []}}, "at.transform_rules.combine", "list of names"),
        ({"type": "custom", "transform_rules": {"combine": ["a.x", "b.x"]}}, "at.transform_rules.combine", "twice"),
        ({"type": "custom", "transform_rules": {"filter": {"a": {"$where": "1"}}}}, "at.transform_rules.filter.a", "no operator"),
        ({"type": "custom", "transform_rules": {"filter": {"a": {"$gt": []}}}}, "at.transform_rules.filter.a", "number or a text"),
        ({"type": "custom", "transform_rules": {"filter": {"a": {"$regex": "("}}}}, "at.transform_rules.filter.a", "RE2"),
        ({"type": "custom", "conditions": [1], "transform_rules": {}}, "at.conditions[0]", "{path: test}"),
        ({"type": "custom", "conditions": {}, "transform_rules": {"conditions": {}}}, "at.conditions", "in transform_rules too"),
        ({"type": "custom", "transform_rules": {"conditions": [1]}}, "at.transform_rules.conditions[0]", "{path: test}"),
        ({"type": "custom", "transform_rules": {"conditions": []}}, "at.transform_rules.conditions", "{path: test}"),
        ({"type": "custom", "transform_rules": {"filter": {f"a{n}": 1 for n in range(65)}}}, "at.transform_rules.filter", "at most 64"),
        ({"type": "custom", "transform_rules": {"field_mappings": {"a": "{b"}}}, "at.transform_rules.field_mappings.a", "no placeholder"),
    ],
)
def test_a_bad_config_is_refused_with_the_path_of_its_problem(config: Any, field: str, message: str) -> None:
    problems = expansion.validate(config, "at")
    assert (field, True) in [(one.field, message in one.message) for one in problems], problems


some_keys = st.sampled_from([*sorted(expansion.CONFIG_KEYS), "combine", "filter", "path"])
some_plain = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
more_json = lambda inner: st.lists(inner, max_size=3) | st.dictionaries(some_keys, inner, max_size=4)  # noqa: E731
some_json = st.recursive(some_plain, more_json, max_leaves=12)


@given(some_json)
def test_whatever_a_config_is_it_is_refused_or_expanded(config: Any) -> None:
    for kind in expansion.TYPES:
        given_config = {**config, "type": kind} if isinstance(config, dict) else config
        if not expansion.validate(given_config):
            with contextlib.suppress(BadExpansion, TemplateError):
                expansion.expand(given_config, {}, {"xs": [1]})


def test_what_a_config_reads_and_brings_is_known_before_it_runs() -> None:
    nested = {"type": "array", "array_mapping": {"file": "user.files"}}
    config = array({"user": "users", "x": "scan.items"}, nested=nested)["expansion_config"]
    assert expansion.sources(config, {"users": []}) == {"scan.items"}
    assert expansion.item_variables(config, {}) == {"user", "x", "file"}
    assert expansion.sources(CUSTOM["expansion_config"], CUSTOM) == set()
    assert expansion.sources(CUSTOM["expansion_config"], {}) == set()
    assert expansion.reads(CUSTOM["expansion_config"], {}) == {"data", "regions", "metrics"}
    assert expansion.reads(config, {}) == {"users", "scan.items", "scan", "user.files", "user"}
    assert expansion.item_variables(CUSTOM["expansion_config"], CUSTOM) == {"regions", "metrics", "years"}
    assert expansion.item_variables({"type": "custom", "script": "…"}, {}) is None
