"""What vector search promises, in every home that can be run here: the task store (either database) and pgvector."""

from __future__ import annotations

import math
import random

import numpy
import pytest

from apps.workflows.context import vectors_mongodb
from apps.workflows.context.vectors import Near, VectorsAway, index
from apps.workflows.context.vectors_exact import ExactIndex
from apps.workflows.context.vectors_postgresql import PostgresIndex

DIMS = 16


@pytest.fixture(params=[pytest.param("exact", marks=[pytest.mark.store, pytest.mark.django_db]), "postgresql"])
def home(request):
    if request.param == "exact":
        yield ExactIndex()
        return
    found = PostgresIndex(request.getfixturevalue("pgvector"))
    found.ensure(DIMS)
    found._run(lambda connection: connection.execute("TRUNCATE context_vectors_pg"))
    yield found
    found._forget()


def one(place: int, **also: float) -> list[float]:
    vector = [0.0] * DIMS
    vector[place] = 1.0
    for name, value in also.items():
        vector[int(name[1:])] = value
    return vector


def keys(found: list[Near]) -> list[str]:
    return [near.key for near in found]


def test_the_nearest_come_first_with_their_cosine(home):
    home.put("acme", "notes", {"a": one(0), "b": one(0, p1=1.0), "c": one(1), "d": [-value for value in one(0)]})
    found = home.nearest("acme", "notes", one(0), 10)
    assert keys(found) == ["a", "b", "c", "d"]
    assert [near.score for near in found] == pytest.approx([1, math.sqrt(0.5), 0, -1], abs=1e-6)
    assert keys(home.nearest("acme", "notes", one(0), 2)) == ["a", "b"]


def test_the_length_of_a_vector_says_nothing(home):
    home.put("acme", "notes", {"long": [v * 1e12 for v in one(0)], "short": [v * 1e-12 for v in one(0, p1=0.1)]})
    found = home.nearest("acme", "notes", [v * 1000 for v in one(0)], 2)
    assert keys(found) == ["long", "short"]
    assert found[0].score == pytest.approx(1, abs=1e-5)


def test_equal_ones_come_in_the_order_of_keys(home):
    home.put("acme", "notes", {name: one(3) for name in ("c", "a", "b")})
    assert keys(home.nearest("acme", "notes", one(3), 10)) == ["a", "b", "c"]


def test_orgs_and_collections_are_apart(home):
    home.put("acme", "notes", {"a": one(0)})
    home.put("umbra", "notes", {"u": one(0)})
    home.put("acme", "other", {"o": one(0)})
    assert keys(home.nearest("acme", "notes", one(0), 10)) == ["a"]
    assert keys(home.nearest("umbra", "notes", one(0), 10)) == ["u"]
    assert home.nearest("umbra", "other", one(0), 10) == []


def test_putting_again_replaces_and_removing_twice_is_harmless(home):
    home.put("acme", "notes", {"a": one(0), "b": one(1)})
    home.put("acme", "notes", {"a": one(5)})
    assert keys(home.nearest("acme", "notes", one(5), 1)) == ["a"]
    for _ in range(2):
        home.remove("acme", "notes", ["a", "never"])
    assert keys(home.nearest("acme", "notes", one(5), 10)) == ["b"]
    home.put("acme", "notes", {})


def test_nothing_there_finds_nothing(home):
    assert home.nearest("acme", "empty", one(0), 10) == []


def test_names_are_data(home):
    name = '\'; DROP TABLE x; -- "%s" é'
    home.put("acme", "notes", {name: one(0)})
    assert keys(home.nearest("acme", "notes", one(0), 1)) == [name]
    home.remove("acme", "notes", [name])
    assert home.nearest("acme", "notes", one(0), 1) == []


def test_a_few_hundred_at_random_are_found_as_by_hand(home):
    dice = random.Random(7)
    given = {f"k{n:04}": [dice.gauss(0, 1) for _ in range(DIMS)] for n in range(400)}
    home.put("acme", "many", given)
    home.put("umbra", "many", {f"u{n}": [dice.gauss(0, 1) for _ in range(DIMS)] for n in range(100)})
    wanted = [dice.gauss(0, 1) for _ in range(DIMS)]

    def cosine(vector):
        return float(numpy.dot(vector, wanted) / numpy.linalg.norm(vector) / numpy.linalg.norm(wanted))

    right = sorted(given, key=lambda key: -cosine(given[key]))[:20]
    found = home.nearest("acme", "many", wanted, 20)
    # The exact one finds them all; an index of neighbours may miss one or two.
    assert len(found) == 20
    assert keys(found) == right or (isinstance(home, PostgresIndex) and len(set(keys(found)) & set(right)) >= 18)
    assert [near.score for near in found] == pytest.approx([cosine(given[near.key]) for near in found], abs=1e-5)


def test_a_vector_store_that_is_away_says_so():
    home = PostgresIndex("postgresql://127.0.0.1:1/none")
    with pytest.raises(VectorsAway):
        home.nearest("acme", "notes", one(0), 1)


def test_a_broken_connection_to_postgresql_is_made_again(pgvector):
    home = PostgresIndex(pgvector)
    home.put("acme", "again", {"a": one(0)})
    home._connection().close()
    assert keys(home.nearest("acme", "again", one(0), 1)) == ["a"]
    pid = home._connection().info.backend_pid
    other = PostgresIndex(pgvector)
    other._run(lambda connection: connection.execute("SELECT pg_terminate_backend(%s)", [pid]))
    assert keys(home.nearest("acme", "again", one(0), 1)) == ["a"]
    for each in (home, other):
        each.remove("acme", "again", ["a"])
        each._forget()


def test_the_home_is_chosen_by_the_address(settings):
    for url, kind in {"": ExactIndex, "postgresql://x/y": PostgresIndex, "mongodb://127.0.0.1:1/x": vectors_mongodb.MongoIndex}.items():
        settings.VECTOR_STORE = url
        assert type(index()) is kind
    settings.VECTOR_STORE = "redis://x"
    with pytest.raises(ValueError, match="VECTOR_STORE"):
        index()


# MongoDB's search process runs nowhere here: what is sent to it, and how its answers are read, is compared with its manual.


def test_mongodb_is_asked_by_org_and_collection():
    search, shown = vectors_mongodb.pipeline("acme", "notes", [1, 0.5], 7)
    assert search["$vectorSearch"]["filter"] == {"$and": [{"org_id": {"$eq": "acme"}}, {"collection": {"$eq": "notes"}}]}
    assert search["$vectorSearch"]["queryVector"] == [1.0, 0.5]
    assert (search["$vectorSearch"]["limit"], search["$vectorSearch"]["numCandidates"]) == (7, 140)
    assert shown == {"$project": {"_id": 0, "key": 1, "score": {"$meta": "vectorSearchScore"}}}
    fields = {field["path"]: field["type"] for field in vectors_mongodb.definition(384)["fields"]}
    assert fields == {"vector": "vector", "org_id": "filter", "collection": "filter"}
    assert vectors_mongodb.near({"key": "a", "score": 0.75}) == Near(key="a", score=0.5)


@pytest.mark.store
def test_a_mongodb_without_its_search_process_says_so(request):
    if request.config.option.tasks_db != "mongodb":
        pytest.skip("needs MongoDB's wire")
    from django.db import connections

    host = connections["tasks"].settings_dict["HOST"]
    home = vectors_mongodb.MongoIndex(host)
    with pytest.raises(VectorsAway):
        home.put("acme", "notes", {"a": one(0)})
