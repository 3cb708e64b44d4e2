"""The same filters on the same documents, asked of us and of a server that speaks MongoDB: the same documents come back.

The server is secantusdb (or whatever TEST_MONGODB_URL names). Where it leaves MongoDB's manual, the manual holds: those
corners are left out of the comparison and told one by one below.
"""

from __future__ import annotations

import json
import random

import pymongo
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.roles.filter_kinds import FREE, TEXT, TEXTS
from apps.roles.filter_matching import matches
from apps.roles.filters import Field, read
from tests import services

FIELDS = {"role_id": Field(kind=TEXT), "group_ids": Field(kind=TEXTS), "metadata": Field(kind=FREE)}
WORDS = ["a", "b", "ab", "B", ""]
PATTERNS = ["a", "^a", "b$", "A|B", "^$"]


def documents(count: int = 120) -> list[dict]:
    dice = random.Random(7)

    def value(depth: int = 0):
        kind = dice.random()
        if depth > 2 or kind < 0.55:
            return dice.choice([None, True, False, 0, 1, 2, 1.5, -1, *WORDS])
        if kind < 0.8:
            return [item for item in (value(depth + 1) for _ in range(dice.randint(0, 3))) if not isinstance(item, list)]
        return {name: value(depth + 1) for name in dice.sample(["a", "b", "c"], dice.randint(0, 3))}

    found = []
    for number in range(count):
        made = {"_id": number, "role_id": dice.choice(WORDS), "group_ids": sorted(dice.sample(["a", "b", "c"], dice.randint(0, 3)))}
        if dice.random() < 0.85:
            made["metadata"] = {name: value() for name in dice.sample(["a", "b", "c"], dice.randint(0, 3))}
        found.append(made)
    return found


DOCUMENTS = documents()

words = st.sampled_from(WORDS)
scalars = st.none() | st.booleans() | st.sampled_from([0, 1, 2, 1.5, -1]) | words
values = st.recursive(scalars, lambda inner: st.lists(scalars, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2))
patterns = st.sampled_from(PATTERNS)


def operators(operand, ordered, wholes):
    """Objects of operators on one field."""
    alone = {
        **dict.fromkeys(("$eq", "$ne"), operand),
        **dict.fromkeys(("$in", "$nin"), st.lists(operand, max_size=3)),
        **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), ordered),
        "$exists": st.booleans(),
        "$regex": patterns,
        "$all": st.lists(wholes, max_size=2),
        "$size": st.integers(0, 3),
    }
    plain = st.fixed_dictionaries({}, optional=alone).filter(lambda found: 0 < len(found) < 3)

    def around(inner):
        within = st.dictionaries(st.sampled_from(["a", "b", "a.b"]), inner | scalars, min_size=1, max_size=2)
        return inner.map(lambda x: {"$not": x}) | inner.map(lambda x: {"$elemMatch": x}) | within.map(lambda x: {"$elemMatch": x})

    return st.recursive(plain, around, max_leaves=3) if ordered is values else plain


free = operators(values, values, scalars.filter(lambda value: value is not None))
texts = operators(words | st.none(), words | st.none(), words)
paths = st.sampled_from(["metadata", "metadata.a", "metadata.b", "metadata.a.b", "metadata.b.a.c"])
on_fields = (
    st.dictionaries(paths, free | values.filter(lambda value: value != {}), min_size=1, max_size=2)
    | st.dictionaries(st.just("role_id"), texts | words | st.none(), min_size=1)
    | st.dictionaries(st.just("group_ids"), texts | words | st.lists(words, max_size=2) | st.none(), min_size=1)
)
around = st.sampled_from(["$and", "$or", "$nor"])
filters = st.recursive(
    on_fields, lambda inner: st.dictionaries(around, st.lists(inner, min_size=1, max_size=2), min_size=1, max_size=2), max_leaves=4
)


@pytest.fixture(scope="module")
def collection():
    server = services.mongodb_server()
    server.start()
    with pymongo.MongoClient(f"mongodb://127.0.0.1:{server.port}/") as client:
        client.filters.documents.insert_many(DOCUMENTS)
        yield client.filters.documents
    server.kill()


def ours(filter) -> set[int]:
    tree = read(filter, FIELDS)
    return {document["_id"] for document in DOCUMENTS if matches(tree, document)}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(filters)
def test_random_filters_find_the_same_documents(collection, filter):
    theirs = {document["_id"] for document in collection.find(filter, {"_id": 1})}
    assert ours(filter) == theirs, json.dumps(filter)


def holds(filter, metadata) -> bool:
    return matches(read(filter, FIELDS), {"role_id": "x", "group_ids": [], "metadata": metadata})


@pytest.mark.parametrize(
    ("filter", "metadata", "expected"),
    [
        # null: equals null and missing, but not a list in which there is nothing to look at
        ({"metadata.a": None}, {"a": None}, True),
        ({"metadata.a": None}, {}, True),
        ({"metadata.a.b": None}, {"a": 5}, True),
        ({"metadata.a.b": None}, {"a": []}, False),
        ({"metadata.a.b": None}, {"a": [{"b": 1}, {"c": 1}]}, True),
        ({"metadata.a.b": None}, {"a": [1, 2]}, False),
        ({"metadata.a": {"$exists": True}}, {"a": None}, True),
        ({"metadata.a": {"$ne": 1}}, {}, True),
        ({"metadata.a": {"$nin": [1, None]}}, {}, False),
        ({"metadata.a": {"$not": {"$gt": 1}}}, {}, True),
        ({"metadata.a": {"$gte": None}}, {}, True),
        ({"metadata.a": {"$gt": None}}, {"a": None}, False),
        # one type at a time
        ({"metadata.a": {"$gt": 5}}, {"a": "6"}, False),
        ({"metadata.a": {"$lt": "6"}}, {"a": 5}, False),
        ({"metadata.a": 1}, {"a": True}, False),
        ({"metadata.a": 1}, {"a": 1.0}, True),
        ({"metadata.a": {"$gt": False}}, {"a": True}, True),
        ({"metadata.a": {"$gt": "B"}}, {"a": "a"}, True),
        ({"metadata.a": {"$not": {"$regex": "^x"}}}, {"a": 5}, True),
        ({"metadata.a": {"$not": {"$regex": "^x"}}}, {}, True),
        ({"metadata.a": {"$not": {"$regex": "^x"}}}, {"a": ["y", "xa"]}, False),
        ({"metadata.a": {"$regex": "(?i)^X"}}, {"a": ["y", "xa"]}, True),
        ({"metadata.a": {"$regex": "x"}}, {"a": [["xa"]]}, False),
        ({"metadata.a": {"$in": [None, 1]}}, {}, True),
        ({"metadata.a": {"$in": [None, 1]}}, {"a": [2, None]}, True),
        ({"metadata.a.b": {"$in": [None]}}, {"a": []}, False),
        ({"metadata.a": {"$in": [[1]]}}, {"a": [1]}, True),
        # lists and objects in order: place by place, types before values, the longer after its beginning
        ({"metadata.a": {"$gt": [1, 2]}}, {"a": [1, 3]}, True),
        ({"metadata.a": {"$gt": [1, 2]}}, {"a": [1]}, False),
        ({"metadata.a": {"$gt": [1]}}, {"a": ["x"]}, True),
        ({"metadata.a": {"$lt": [True]}}, {"a": [{"b": 1}]}, True),
        ({"metadata.a": {"$lt": [[1]]}}, {"a": [{"b": 1}]}, True),
        ({"metadata.a": {"$gt": [1]}}, {"a": 2}, False),
        ({"metadata.a": {"$gte": {"b": 1}}}, {"a": {"b": 1, "c": 0}}, True),
        ({"metadata.a": {"$gt": {"b": 1}}}, {"a": {"a": 2}}, False),
        ({"metadata.a": {"$gt": {"b": 1}}}, {"a": {"a": "x"}}, True),
        # lists: any element, and the whole
        ({"metadata.a": {"$ne": 1}}, {"a": [1, 2]}, False),
        ({"metadata.a": {"$ne": [1]}}, {"a": [[1], 2]}, False),
        ({"metadata.a": {"$ne": [1]}}, {"a": [1, 2]}, True),
        ({"metadata.a": {"$nin": [3]}}, {"a": [1, 2]}, True),
        ({"metadata.a": {"$elemMatch": {"$eq": 1}}}, {"a": 1}, False),
        ({"metadata.a": {"$elemMatch": {"$eq": 1}}}, {"a": [[1]]}, False),
        ({"metadata.a": {"$elemMatch": {"$ne": 1}}}, {"a": [1, 2]}, True),
        ({"metadata.a": {"$elemMatch": {"$ne": 1}}}, {"a": [1]}, False),
        ({"metadata.a": {"$elemMatch": {"$elemMatch": {"$gt": 2}}}}, {"a": [[1], [3]]}, True),
        ({"metadata.a": {"$elemMatch": {"$or": [{"b": 1}, {"c": 1}]}}}, {"a": [{"c": 1}]}, True),
        ({"metadata.a": {"$not": {"$elemMatch": {"b": 1}}}}, {"a": [{"b": 1}, {"b": 2}]}, False),
        ({"metadata.a.b.c": 1}, {"a": [{"b": [{"c": 1}]}]}, True),
        ({"metadata.a.b": [1, 2]}, {"a": [{"b": [1, 2]}]}, True),
        ({"metadata.a.b": {"$size": 2}}, {"a": [{"b": [1]}, {"b": [1, 2]}]}, True),
        ({"metadata.a.b": 1}, {"a": [[{"b": 1}]]}, False),
        ({"metadata.a.b": {"$exists": False}}, {"a": [[{"b": 1}]]}, True),
        ({"metadata.a.b": {"$exists": False}}, {"a": [{"b": 1}, {"c": 1}]}, False),
        ({"metadata.a.b": {"$exists": False}}, {"a": []}, True),
        ({"metadata.a.b": {"$ne": 1}}, {"a": [{"b": 1}, {"b": 2}]}, False),
        ({"metadata.a": {"$size": 2.0}}, {"a": [1, 2]}, True),
        ({"metadata.a": {"$size": 0}}, {}, False),
        ({"metadata.a": {"$size": 1}}, {"a": {"0": 1}}, False),
        ({"metadata.a": {"$gt": 2, "$lt": 2}}, {"a": [1, 3]}, True),
        ({"metadata.a": {"$elemMatch": {"$gt": 2, "$lt": 2}}}, {"a": [1, 3]}, False),
        ({"metadata.a": [1, 2]}, {"a": [1, 2]}, True),
        ({"metadata.a": [1, 2]}, {"a": [[1, 2], 3]}, True),
        ({"metadata.a": [1, 2]}, {"a": [2, 1]}, False),
        ({"metadata.a": {"$all": [[1, 2]]}}, {"a": [1, 2]}, True),
        ({"metadata.a": {"$all": [1]}}, {"a": 1}, True),
        ({"metadata.a": {"$all": [None]}}, {}, True),
        ({"metadata.a": {"$all": [{"$elemMatch": {"b": 1}}, {"$elemMatch": {"b": 2}}]}}, {"a": [{"b": 1}, {"b": 2}]}, True),
        ({"metadata.a": {"$all": [{"$elemMatch": {"b": 1, "c": 1}}]}}, {"a": [{"b": 1}, {"c": 1}]}, False),
        ({"metadata.a": {"$size": 1}}, {"a": [[1, 2]]}, True),
        ({"metadata.a": {"$size": 1}}, {"a": "x"}, False),
        ({"metadata.a.1": 2}, {"a": [1, 2]}, True),
        ({"metadata.a.1": 2}, {"a": {"1": 2}}, True),
        ({"metadata.a.0.b": 2}, {"a": [{"b": 2}]}, True),
        ({"metadata.a.0": None}, {"a": []}, False),
        ({"metadata.a.0": {"$exists": False}}, {"a": []}, True),
        ({"metadata.a": {"$elemMatch": {"0": "x"}}}, {"a": [["x"]]}, True),
        # objects: the same fields in the same order
        ({"metadata.a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 2}}, True),
        ({"metadata.a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, False),
        ({"metadata.a": {"b": None}}, {"a": {}}, False),
        ({"metadata.a": {"$elemMatch": {"b": None}}}, {"a": [{"b": 1}, {}]}, True),
    ],
)  # fmt: skip
def test_the_manual_s_own_corners(filter, metadata, expected):
    assert holds(filter, metadata) is expected
