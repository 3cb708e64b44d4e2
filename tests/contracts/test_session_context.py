"""What a session's context promises, on every database it may live in."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core import bulk
from apps.core.errors import Invalid
from apps.workflows.context import context
from apps.workflows.context.context import ContextStore
from apps.workflows.models_context import ContextValue, ContextWrite
from tests.factories import NOON
from tests.threads import at_once

pytestmark = [pytest.mark.store, pytest.mark.django_db]
S = "acme/s1"
store = ContextStore()


def write(writer: str = "step-1", session: str = S, at: int = 0, **values) -> int:
    return store.write_once(session, values, writer, NOON + timedelta(seconds=at))


def test_what_was_written_is_read_in_the_order_of_writing():
    assert write(b=1, a=[1, {"x": None}]) == 1
    assert write("step-2", c="é\x00ü") == 2
    assert list(store.read(S).items()) == [("b", 1), ("a", [1, {"x": None}]), ("c", "é\x00ü")]
    assert list(store.read(S, ["c", "b", "nothing", "c"])) == ["c", "b"]
    assert store.read(S, []) == {}


def test_a_session_that_was_never_written_to_knows_nothing():
    assert (store.read(S), store.read(S, ["a"]), store.version(S), store.history(S, "a")) == ({}, {}, 0, [])


def test_a_writer_writes_once_whatever_it_says_later():
    assert write(a=1) == 1
    assert write("step-2", a=2) == 2
    assert write(a=3, b=4) == 1
    assert store.read(S) == {"a": 2}


def test_each_version_can_be_read_and_each_value_says_who_wrote_it():
    write(a=1, b=1)
    write("step-2", at=1, a=2)
    assert store.read(S, at_version=1) == {"a": 1, "b": 1}
    assert store.read(S, ["a"], at_version=2) == {"a": 2}
    assert store.read(S, at_version=0) == {}
    seen = [(one.version, one.value, one.written_by, one.at) for one in store.history(S, "a")]
    assert seen == [(1, 1, "step-1", NOON), (2, 2, "step-2", NOON + timedelta(seconds=1))]
    assert [one.value for one in store.history(S, "a", limit=1)] == [2]
    assert store.keys(S) == {"b": 1, "a": 2}


def test_nothing_to_write_writes_nothing():
    write(a=1)
    assert write("step-2") == 1
    assert write("step-2", a=5) == 2


def test_sessions_and_orgs_are_apart():
    write(a=1)
    write(session="umbra/s1", a=2)
    write(session="acme/s1@00000001", a=3)
    assert [store.read(s) for s in (S, "umbra/s1", "acme/s1@00000001")] == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_purging_leaves_nothing_of_this_session_and_all_of_the_others():
    write(a=1)
    write(session="acme/s2", a=2)
    store.purge(S)
    assert store.read(S) == {}
    assert set(ContextWrite.objects.values_list("session_key", flat=True)) == {"acme/s2"}
    assert set(ContextValue.objects.values_list("session_key", flat=True)) == {"acme/s2"}
    assert write(a=9) == 1


def test_long_values_are_kept_in_parts(monkeypatch):
    monkeypatch.setattr(context, "PART", 10)
    long = {"text": "häuser " * 20}
    write(a=long, b=1)
    assert ContextValue.objects.filter(key="a").count() > 10
    assert store.read(S) == {"a": long, "b": 1}


def test_numbers_come_back_as_they_went():
    numbers = [2**63 - 1, -(2**63), 2**64 - 1, 2**70, 0.1, 1e308, 1.0, True, None]
    write(a=numbers)
    back = store.read(S)["a"]
    assert back == numbers
    assert [type(one) for one in back] == [type(one) for one in numbers]


@pytest.mark.parametrize("value", [float("nan"), [float("inf"), None], {1: 2}, object(), {"a": {1, 2}}, "\ud800"])
def test_what_is_not_json_is_refused_by_name_and_nothing_is_stored(value):
    with pytest.raises(Invalid) as refused:
        write(good=1, bad=value)
    assert [(problem.field, problem.code) for problem in refused.value.problems] == [("bad", "not_json")]
    assert store.read(S) == {}
    assert write(good=1) == 1


def test_values_of_a_writer_that_died_before_its_write_are_never_seen(monkeypatch):
    """Only where a write and its values are not one transaction can anything be left."""
    inserted = bulk.insert

    def die(rows):
        if isinstance(rows[0], ContextWrite):
            raise KeyboardInterrupt
        inserted(rows)

    monkeypatch.setattr(bulk, "insert", die)
    with pytest.raises(KeyboardInterrupt):
        write(a="half", b="half")
    monkeypatch.undo()
    assert (store.read(S), store.keys(S), store.history(S, "a")) == ({}, {}, [])
    assert write("step-2", a=2) == 1
    assert write(a=1) == 2
    assert store.read(S) == {"a": 1}
    assert [one.value for one in store.history(S, "a")] == [2, 1]


def test_a_dead_writers_values_do_not_mix_with_those_of_its_next_try(monkeypatch):
    inserted = bulk.insert

    def die(rows):
        if isinstance(rows[0], ContextWrite):
            raise KeyboardInterrupt
        inserted(rows)

    monkeypatch.setattr(bulk, "insert", die)
    with pytest.raises(KeyboardInterrupt):
        write(a="old", b="old")
    monkeypatch.undo()
    assert write(a="new") == 1
    assert store.read(S) == {"a": "new"}


@pytest.mark.django_db(transaction=True)
def test_many_writers_of_one_key_are_all_kept_in_order_and_each_writes_once():
    """Two processes for each of six steps, all at the same moment."""
    versions = at_once(12, lambda index: write(f"step-{index % 6}", a=index % 6, **{f"own{index % 6}": index}))
    assert sorted(versions) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert all(versions[index] == versions[index + 6] for index in range(6))
    history = store.history(S, "a")
    assert [one.version for one in history] == [1, 2, 3, 4, 5, 6]
    assert sorted(one.value for one in history) == [0, 1, 2, 3, 4, 5]
    assert all(one.written_by == f"step-{one.value}" for one in history)
    assert store.read(S)["a"] == history[-1].value
    # Nothing is left of those who came second.
    assert ContextValue.objects.filter(session_key=S).count() == 12
