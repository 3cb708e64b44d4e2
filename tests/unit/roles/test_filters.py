"""Reading filters: what is taken, and how what is not is named."""

from __future__ import annotations

import time

import pytest
from django.db.models import Q
from hypothesis import given
from hypothesis import strategies as st

from apps.roles import filters
from apps.roles.filter_kinds import FLAG, FREE, NUMBER, TEXT, TEXTS, TIME
from apps.roles.filter_matching import matches
from apps.roles.filter_queries import as_q, condition
from apps.roles.filters import BadFilter, Field, read

FIELDS = {
    "role_id": Field(kind=TEXT),
    "role_type": Field(kind=TEXT),
    "group_ids": Field(kind=TEXTS),
    "metadata": Field(kind=FREE),
}
COLUMNS = {
    "status": Field(kind=TEXT, column="status"),
    "priority": Field(kind=NUMBER, column="priority"),
    "deadline": Field(kind=TIME, column="deadline", nullable=True),
    "late": Field(kind=FLAG, column="late"),
}


def problems(filter, fields=FIELDS) -> list[tuple[str, str]]:
    with pytest.raises(BadFilter) as caught:
        read(filter, fields)
    assert caught.value.status == 400
    return [(problem.field, problem.code) for problem in caught.value.problems]


OPERATORS = [
    "$where", "$expr", "$function", "$accumulator", "$options", "$type", "$mod", "$text", "$search", "$near", "$geoWithin", "$bitsAllSet",
    "$jsonSchema", "$lookup", "$merge", "$out", "$comment", "$natural", "$", "$$ROOT", "$EQ", "$eq ", "$__class__", "$rand", "$sampleRate",
]  # fmt: skip
ORM = [
    "role_id__in", "role_id__regex", "pk", "id", "org", "org_id", "org__api_keys__secret_hash__startswith", "holders__subject__org_id",
    "_connector", "_negated", "__class__", "password", "role_id.x", "ROLE_ID", "", " role_id", "role_id\u200b", "subject__org__api_keys",
    "metadata.__class__", "metadata.a__gt", "metadata..a", "metadata.", "metadata.$where", "metadata.a.$gt", ".metadata", "group_ids.x",
    "group_ids.0.x", "metadata." + ".".join("abcdefghi"), "metadata." + "x" * 65,
]  # fmt: skip
AROUND = ["$and", "$or", "$nor"]


@pytest.mark.parametrize("operator", OPERATORS)
def test_other_operators_are_refused_by_name_wherever_they_stand(operator):
    assert problems({operator: "x"}) == [(operator, "operator")]
    inside = {operator: ["x"]}
    for filter, where in (
        ({"role_id": inside}, "role_id"),
        ({"role_id": {"$not": inside}}, "role_id.$not"),
        ({"group_ids": {"$elemMatch": inside}}, "group_ids.$elemMatch"),
        ({"metadata.a": {"$elemMatch": {"b": inside}}}, "metadata.a.$elemMatch.b"),
        ({"metadata": {"$eq": inside}}, "metadata.$eq"),
        ({"metadata.a": {"$in": [{"b": [inside]}]}}, "metadata.a.$in"),
        ({"metadata.a": {"b": inside}}, "metadata.a"),
        ({"metadata.a": {"$all": [{"$elemMatch": inside}]}}, "metadata.a.$all.0.$elemMatch"),
        *(({name: [{"role_id": "a"}, {"$and": [{"role_id": inside}]}]}, f"{name}.1.$and.0.role_id") for name in AROUND),
    ):
        assert problems(filter) == [(f"{where}.{operator}", "operator")]


@pytest.mark.parametrize("name", ORM)
def test_only_listed_fields_can_be_named(name):
    assert [code for _, code in problems({name: "x"})] == ["field"]
    for around in AROUND:
        found = problems({around: [{name: {"$ne": "x"}}]})
        assert [(where[:8], code) for where, code in found] == [(f"{around}.0.{name}"[:8], "field")]


@pytest.mark.parametrize(
    ("filter", "where"),
    [
        ([], ""), ("x", ""), (None, ""), (1, ""),
        ({"role_id": 1}, "role_id"), ({"role_id": True}, "role_id"), ({"role_id": ["a"]}, "role_id"), ({"role_id": {"a": 1}}, "role_id.a"),
        ({"role_id": 1.0}, "role_id"), ({"role_id": {}}, "role_id"), ({"role_id": {"$eq": {"a": ""}}}, "role_id.$eq"),
        ({"role_id": {"$in": "a"}}, "role_id.$in"), ({"role_id": {"$in": [1]}}, "role_id.$in"),
        ({"role_id": {"$nin": [["a"]]}}, "role_id.$nin"), ({"group_ids": [1]}, "group_ids"),
        ({"group_ids": {"$gt": ["a"]}}, "group_ids.$gt"),
        ({"role_id": {"$in": {"a": 1}}}, "role_id.$in"), ({"role_id": {"$exists": 1}}, "role_id.$exists"),
        ({"role_id": {"$exists": None}}, "role_id.$exists"),
        ({"role_id": {"$regex": 1}}, "role_id.$regex"), ({"role_id": {"$regex": None}}, "role_id.$regex"),
        ({"role_id": {"$not": "a"}}, "role_id.$not"), ({"role_id": {"$not": {}}}, "role_id.$not"),
        ({"group_ids": {"$size": -1}}, "group_ids.$size"), ({"group_ids": {"$size": True}}, "group_ids.$size"),
        ({"group_ids": {"$size": 1.5}}, "group_ids.$size"), ({"group_ids": {"$all": "a"}}, "group_ids.$all"),
        ({"group_ids": {"$elemMatch": []}}, "group_ids.$elemMatch"), ({"role_id": {"$lt": {}}}, "role_id.$lt"),
        ({"$and": {}}, "$and"), ({"$or": []}, "$or"), ({"$nor": []}, "$nor"), ({"$or": "x"}, "$or"), ({"$or": [[]]}, "$or.0"),
        ({"$and": [{}, None]}, "$and.1"),
    ],
)  # fmt: skip
def test_wrong_shapes_are_named(filter, where):
    assert problems(filter) in ([(where, "wrong_type")], [(where, "operator")])


def test_whoever_wants_options_of_a_pattern_is_told_where_they_go():
    with pytest.raises(BadFilter) as caught:
        read({"role_id": {"$regex": "a", "$options": "i"}}, FIELDS)
    (problem,) = caught.value.problems
    assert problem.field == "role_id.$options" and "(?i)" in problem.message


def test_an_element_of_words_has_no_fields():
    assert problems({"group_ids": {"$elemMatch": {"a": "x"}}}) == [("group_ids.$elemMatch.a", "field")]


def test_all_problems_are_listed_at_once_up_to_a_bound():
    assert problems({"role_id": {"$type": 1, "$where": "x"}, "nope": 1}) == [
        ("role_id.$type", "operator"), ("role_id.$where", "operator"), ("nope", "field"),
    ]  # fmt: skip
    assert len(problems({"$or": [{"nope": 1}] * 90})) <= filters.MAX_PROBLEMS + 1


def test_nesting_and_size_are_bounded():
    deep = {"role_id": "a"}
    for _ in range(filters.MAX_DEPTH - 1):
        deep = {"$and": [deep]}
    assert read(deep, FIELDS)
    assert problems({"$or": [deep]})[0][1] == "too_deep"
    for operator in ("$not", "$elemMatch"):
        within = {"$eq": "a"}
        for _ in range(filters.MAX_DEPTH + 1):
            within = {operator: within}
        assert problems({"metadata.a": within})[0][1] == "too_deep"
    assert problems({"$or": [{"role_id": "a"}] * 101})[0][1] == "too_many"
    assert read({"role_id": {"$in": ["a"] * 1000}}, FIELDS)
    assert problems({"role_id": {"$in": ["a"] * 1001}})[0][1] == "too_many"
    assert problems({"metadata.a": [[0] * 500] * 2})[0][1] == "too_many"
    assert problems({"$and": [{"role_id": {"$in": ["a"] * 600}}] * 2})[0][1] == "too_many"
    assert problems({"role_id": {"$regex": "a" * 257}}) == [("role_id.$regex", "too_long")]


def test_a_long_name_is_cut_in_the_answer():
    assert len(problems({"x" * 10_000: 1})[0][0]) < 80


# ---- patterns ----

BOMBS = ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*)*$", "(.*a){12}$", "^(([a-z])+.)+[A-Z]([a-z])+$", "(?:(?:a?){30}){3}a{30}$", "(x+x+)+y"]


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_pattern_takes_long(bomb):
    tree = read({"role_id": {"$regex": bomb}}, FIELDS)
    documents = [{"role_id": "a" * 180 + "!"}] * 200
    before = time.process_time()
    assert sum(matches(tree, document) for document in documents) in (0, 200)
    assert time.process_time() - before < 0.2


@pytest.mark.parametrize("wrong", ["(", "[", "*", "(a)\\1", "(?=a)", "(?<!a)b", "(?R)", "a{1001}", "(((a{100}){100}){100}"])
def test_a_pattern_that_is_none_or_could_not_be_bounded_is_refused(wrong):
    assert problems({"role_id": {"$regex": wrong}}) == [("role_id.$regex", "regex")]


# ---- columns ----


def where(filter) -> str:
    return str(condition(filter, COLUMNS))


def test_columns_are_asked_in_conditions_of_two_values():
    assert condition({"status": "queued"}, COLUMNS) == Q(status="queued")
    assert condition({"priority": {"$gte": 3, "$lt": 9}}, COLUMNS) == Q(priority__gte=3) & Q(priority__lt=9)
    assert condition({"deadline": {"$gte": "2026-12-01T00:00:00Z"}}, COLUMNS).children[0] == ("deadline__isnull", False)
    assert condition({"deadline": None}, COLUMNS) == Q(deadline__isnull=True)
    assert condition({"status": {"$in": []}}, COLUMNS) == Q(status__in=[])


@pytest.mark.parametrize(
    ("pattern", "asked"),
    [("^night/", "^night/"), ("abc$", "abc$"), ("a\\.b", "a\\.b"), ("a b", "a b"), ("^x-1$", "^x-1$"), ("a\\$", "a\\$"), ("", "")],
)  # fmt: skip
def test_a_column_can_be_searched_for_a_word(pattern, asked):
    assert condition({"status": {"$regex": pattern}}, COLUMNS) == Q(status__regex=asked)


@pytest.mark.parametrize("pattern", ["a.b", "a+", "(a)", "[ab]", "a|b", "a*", "\\d", "^^a", "(?i)a", "a{2}"])
def test_but_for_nothing_the_store_s_own_engine_might_take_long_over(pattern):
    with pytest.raises(BadFilter) as caught:
        condition({"$or": [{"status": {"$regex": pattern}}]}, COLUMNS)
    assert [(problem.field, problem.code) for problem in caught.value.problems] == [("$or.0.status.$regex", "regex")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": "3"}, {"priority": True}, {"deadline": "tomorrow"}, {"deadline": 5}, {"late": 1}, {"status": 3},
        {"deadline": {"$lt": "2026-12-01T00:00:00"}},
    ],
)  # fmt: skip
def test_columns_take_values_of_their_own_type(wrong):
    assert problems(wrong, COLUMNS)[0][1] == "wrong_type"


names = st.sampled_from(
    [*AROUND, *filters.ON_FIELDS, "$where", "role_id", "group_ids", "metadata.a", "org_id", "status", "priority", "deadline"]
) | st.text(max_size=3)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)


@given(json, st.dictionaries(st.sampled_from(["role_id", "group_ids", "metadata"]), json, max_size=3))
def test_nothing_at_all_gets_through_but_conditions_on_listed_fields(filter, document):
    for fields in (FIELDS, COLUMNS):
        try:
            tree = read(filter, fields)
            if fields is COLUMNS:
                assert columns_in(as_q(tree, fields)) <= {"status", "priority", "deadline", "late", "pk"}
            else:
                assert matches(tree, document) in (True, False)
        except BadFilter as refused:
            assert refused.problems


def columns_in(q: Q) -> set[str]:
    return {name for child in q.children for name in (columns_in(child) if isinstance(child, Q) else {child[0].partition("__")[0]})}
