"""Reading filters: what is taken, and how what is not is named."""

from __future__ import annotations

import pytest
from django.db.models import Q
from hypothesis import given
from hypothesis import strategies as st

from apps.roles import filters
from apps.roles.filters import BadFilter, condition

FIELDS = {"role_id": lambda values: Q(role_id__in=values), "role_type": lambda values: Q(role_type__in=values)}


def problems(filter) -> list[tuple[str, str]]:
    with pytest.raises(BadFilter) as caught:
        condition(filter, FIELDS)
    assert caught.value.status == 400
    return [(problem.field, problem.code) for problem in caught.value.problems]


OPERATORS = [
    "$where", "$expr", "$function", "$accumulator", "$regex", "$options", "$gt", "$gte", "$lt", "$lte", "$not", "$nor", "$all",
    "$elemMatch", "$size", "$type", "$mod", "$text", "$jsonSchema", "$lookup", "$merge", "$out", "$comment", "$", "$$ROOT", "$EQ", "$eq ",
]  # fmt: skip
ORM = [
    "role_id__in", "role_id__regex", "pk", "id", "org", "org_id", "org__api_keys__secret_hash__startswith", "holders__subject__org_id",
    "_connector", "_negated", "__class__", "password", "role_id.x", "ROLE_ID", "", " role_id", "role_id\u200b", "subject__org__api_keys",
]  # fmt: skip


@pytest.mark.parametrize("operator", OPERATORS)
def test_other_operators_are_refused_by_name_wherever_they_stand(operator):
    assert problems({operator: "x"}) in ([(operator, "operator")], [(operator, "field")])
    for code in ("operator",):
        assert problems({"role_id": {operator: "x"}}) == [(f"role_id.{operator}", code)]
        assert problems({"$or": [{"role_id": "a"}, {"$and": [{"role_id": {operator: ["x"]}}]}]}) == [
            (f"$or.1.$and.0.role_id.{operator}", code)
        ]


@pytest.mark.parametrize("name", ORM)
def test_only_listed_fields_can_be_named(name):
    assert problems({name: "x"}) == [(name, "field")]
    assert problems({"$and": [{name: {"$ne": "x"}}]}) == [(f"$and.0.{name}", "field")]


@pytest.mark.parametrize(
    ("filter", "where"),
    [
        ([], ""), ("x", ""), (None, ""), (1, ""),
        ({"role_id": 1}, "role_id"), ({"role_id": True}, "role_id"), ({"role_id": None}, "role_id"), ({"role_id": ["a"]}, "role_id"),
        ({"role_id": 1.0}, "role_id"), ({"role_id": {}}, "role_id"), ({"role_id": {"$eq": {"$ne": ""}}}, "role_id.$eq"),
        ({"role_id": {"$in": "a"}}, "role_id.$in"), ({"role_id": {"$in": [1]}}, "role_id.$in"),
        ({"role_id": {"$nin": [["a"]]}}, "role_id.$nin"),
        ({"role_id": {"$in": {"a": 1}}}, "role_id.$in"), ({"role_id": {"$exists": 1}}, "role_id.$exists"),
        ({"$and": {}}, "$and"), ({"$or": []}, "$or"), ({"$or": "x"}, "$or"), ({"$or": [[]]}, "$or.0"), ({"$and": [{}, None]}, "$and.1"),
    ],
)  # fmt: skip
def test_wrong_shapes_are_named(filter, where):
    assert problems(filter) == [(where, "wrong_type")]


def test_all_problems_are_listed_at_once_up_to_a_bound():
    assert problems({"role_id": {"$gt": 1, "$regex": "x"}, "nope": 1}) == [
        ("role_id.$gt", "operator"), ("role_id.$regex", "operator"), ("nope", "field"),
    ]  # fmt: skip
    assert len(problems({"$or": [{"nope": 1}] * 90})) <= filters.MAX_PROBLEMS + 1


def test_nesting_and_size_are_bounded():
    deep = {"role_id": "a"}
    for _ in range(filters.MAX_DEPTH - 1):
        deep = {"$and": [deep]}
    assert condition(deep, FIELDS)
    assert problems({"$or": [deep]})[0][1] == "too_deep"
    assert problems({"$or": [{"role_id": "a"}] * 101})[0][1] == "too_many"
    assert condition({"role_id": {"$in": ["a"] * 1000}}, FIELDS)
    assert problems({"role_id": {"$in": ["a"] * 1001}})[0][1] == "too_many"
    assert problems({"$and": [{"role_id": {"$in": ["a"] * 600}}] * 2})[0][1] == "too_many"


def test_a_long_name_is_cut_in_the_answer():
    assert len(problems({"x" * 10_000: 1})[0][0]) < 80


names = st.sampled_from(["$and", "$or", "$in", "$ne", "$where", "role_id", "role_type", "org_id"]) | st.text(max_size=3)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@given(json)
def test_nothing_at_all_gets_through_but_conditions_on_listed_fields(filter):
    try:
        found = condition(filter, FIELDS)
    except BadFilter as refused:
        assert refused.problems
        return
    assert names_in(found) <= {"role_id__in", "role_type__in", "pk__in"}


def names_in(q: Q) -> set[str]:
    return {name for child in q.children for name in (names_in(child) if isinstance(child, Q) else {child[0]})}
