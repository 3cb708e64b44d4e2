"""Filters on columns: the store is asked exactly what the same filter means on documents, whichever store it is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.roles.filter_kinds import NUMBER, TEXT, TIME
from apps.roles.filter_matching import matches
from apps.roles.filter_queries import condition
from apps.roles.filters import Field, read
from apps.tasks.models import Task
from tests.factories import NOON, make_task

pytestmark = [pytest.mark.django_db, pytest.mark.store]

FIELDS = {
    "goal": Field(kind=TEXT, column="goal"),
    "priority": Field(kind=NUMBER, column="priority"),
    "deadline": Field(kind=TIME, column="deadline", nullable=True),
}
GOALS = ["Night/1", "night/1", "night/2", "a.b", "a+b", "100%", "", "a_b"]
TIMES = [NOON + timedelta(hours=hour) for hour in (0, 1, 2)]

words = st.sampled_from([*GOALS, "x"])
operators = {
    "goal": (words, st.sampled_from(["^night", "1$", "a\\.b", "a_", "%", "ight/", "\\+", "^$"])),
    "priority": (st.integers(-1, 3) | st.just(1.0), None),
    "deadline": (st.sampled_from([at.isoformat() for at in TIMES]), None),
}


def on(name):
    operand, regex = operators[name][0] | st.none(), operators[name][1]
    known = dict.fromkeys(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte"), operand)
    known |= {"$in": st.lists(operand, max_size=3), "$nin": st.lists(operand, max_size=3), "$exists": st.booleans()}
    known |= {"$regex": regex} if name == "goal" else {}
    known |= {"$size": st.integers(0, 2), "$all": st.lists(operand, max_size=2)}
    found = st.fixed_dictionaries({}, optional=known).filter(lambda wanted: 0 < len(wanted) < 3)
    return st.fixed_dictionaries({name: operand | found | found.map(lambda wanted: {"$not": wanted})})


around = st.sampled_from(["$and", "$or", "$nor"])
filters = st.recursive(
    st.one_of([on(name) for name in FIELDS]),
    lambda inner: st.dictionaries(around, st.lists(inner, min_size=1, max_size=2), min_size=1, max_size=2),
    max_leaves=3,
)


@pytest.fixture
def documents():
    found = {}
    for number, goal in enumerate(GOALS):
        facts = {"goal": goal, "priority": number % 4 - 1, "deadline": (*TIMES, None)[number % 4]}
        found[make_task(f"t{number}", **facts).task_id] = facts
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(filter=filters)
def test_the_store_finds_what_the_documents_say(documents, filter):
    tree = read(filter, FIELDS)
    expected = {task_id for task_id, document in documents.items() if matches(tree, document)}
    assert set(Task.objects.filter(condition(filter, FIELDS)).values_list("task_id", flat=True)) == expected
