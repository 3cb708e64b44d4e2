"""What holds for every document: nothing but Invalid comes out of reading it, and a graph is taken exactly when it can run."""

from __future__ import annotations

import copy
import graphlib
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.core.errors import Invalid
from apps.workflows.document.dry_run import expanded_plan
from apps.workflows.document.reading import GROUP_FIELDS, SESSION_FIELDS, load, parse
from apps.workflows.document.reading_task import FIELDS
from tests.unit.workflows.documents import random_document

names = st.sampled_from([*sorted(SESSION_FIELDS | GROUP_FIELDS | FIELDS), "array_mapping", "type", "rows", "rule", "first", "x"])
texts = st.sampled_from(["", "a", "b", "main", "main.a", "array", "matrix", "all", "celery", "Upper", "{x}", "{a.b}", "{", "ü", "a b"])
plain = st.one_of(st.none(), st.booleans(), st.integers(-3, 2000), st.floats(allow_nan=True), texts)
anything = st.recursive(
    plain, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=5)), max_leaves=12
)
keys = st.sampled_from(["a", "b", "c", "d", "e"])
tasks = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(sorted(FIELDS - {"key", "dependencies"}), anything),
        "key": st.one_of(keys, anything),
        "dependencies": st.one_of(st.lists(keys, max_size=3), anything),
        "rows": anything,
    },
)
documents = st.one_of(
    anything,
    st.fixed_dictionaries({"tasks": st.lists(tasks, max_size=4)}, optional=dict.fromkeys(sorted(SESSION_FIELDS - {"tasks"}), anything)),
)


@settings(max_examples=25, deadline=None)
@given(documents)
def test_any_json_is_read_or_refused_with_its_problems(document: Any):
    try:
        spec = parse(document, processors=("Upper",))
    except Invalid as refused:
        assert refused.problems
        assert all(one.code and one.message for one in refused.problems)
        return
    assert load(spec.document) == spec
    expanded_plan(spec)


ODD: list[Any] = [None, True, -1, 0, 1.5, 2**63, "", "main", "{x}", "{", [], [None], {}, {"x": []}, [[]], "g0", "\x00", "a" * 300, 10**400]


def test_a_document_with_anything_wrong_in_it_is_read_or_refused_and_never_more():
    for seed in range(500):
        rng = random.Random(seed)
        document, _ = random_document(rng)
        for _ in range(rng.choice([1, 1, 2, 5])):
            _spoil(document, rng)
        try:
            spec = parse(document, processors=())
        except Invalid as refused:
            assert refused.problems
            continue
        assert load(spec.document) == spec
        expanded_plan(spec)


def _spoil(document: Any, rng: random.Random) -> None:
    """Replace, drop or add something somewhere."""
    place: Any = document
    while True:
        inner = [one for one in (place.values() if isinstance(place, dict) else place) if isinstance(one, dict | list) and one]
        if not inner or rng.random() < 0.2:
            break
        place = rng.choice(inner)
    if isinstance(place, dict):
        name = rng.choice([*place, *sorted(FIELDS | SESSION_FIELDS)])
        place[name] = copy.deepcopy(rng.choice(ODD))
        if rng.random() < 0.2:
            del place[name]
    elif place:
        place[rng.randrange(len(place))] = copy.deepcopy(rng.choice(ODD))


graphs = st.integers(1, 9).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.tuples(*[st.integers(0, size - 1)] * 2), max_size=20)))


@given(graphs)
def test_a_graph_is_taken_exactly_when_it_has_no_circle(graph: tuple[int, set[tuple[int, int]]]):
    size, edges = graph
    waits = {n: sorted(other for one, other in edges if one == n) for n in range(size)}
    document = {"tasks": [{"key": f"t{n}", "dependencies": [f"t{other}" for other in waits[n]]} for n in range(size)]}
    try:
        list(graphlib.TopologicalSorter(waits).static_order())
        runs = True
    except graphlib.CycleError:
        runs = False
    try:
        spec = parse(document, processors=())
    except Invalid as refused:
        assert not runs
        assert {one.code for one in refused.problems} <= {"cycle", "self_dependency"}
        return
    assert runs
    place = {path: index for index, path in enumerate(spec.order)}
    assert all(place[f"main.t{other}"] < place[f"main.t{one}"] for one, other in edges)
