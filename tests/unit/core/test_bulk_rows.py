"""Rows made in bulk are the rows Django would have made."""

from __future__ import annotations

import json

import pytest

from apps.core import bulk, bulk_sql
from apps.tasks.models import Task
from tests.factories import NOON


def test_a_new_row_has_every_default_and_its_own_mutable_ones():
    given = {"key": "acme/t1", "org_id": "acme", "task_id": "t1", "created_at": NOON}
    row, plain = bulk.new(Task, **given), Task(**given)
    names = [field.attname for field in Task._meta.concrete_fields]
    assert [getattr(row, name) for name in names] == [getattr(plain, name) for name in names]
    assert row.excluded_agents is not bulk.new(Task, **given).excluded_agents
    assert row._state.adding


def test_a_name_that_is_no_field_is_a_bug():
    with pytest.raises(TypeError, match="Task has no field goals"):
        bulk.new(Task, key="acme/t1", goals="typo")


@pytest.mark.parametrize("value", [{}, [], {"a": [1, None, "é"]}, 2**70, {1: 2}, "x", 0, False])
def test_json_is_written_and_read_as_django_would(value):
    written = bulk_sql._sqlite_json(value)
    read = bulk_sql._from_sqlite_json(written)
    assert (read, type(read)) == (json.loads(json.dumps(value)), type(json.loads(json.dumps(value))))


@pytest.mark.django_db
def test_a_loaded_row_has_what_was_asked_for_and_fetches_the_rest():
    entry = {"text": "é", "deep": [1, {"a": None}]}
    written = {"org_id": "acme", "task_id": "t1", "goal": "g", "intent": "i", "sequence": 5, "status": "queued", "body_hash": ""}
    bulk.insert([bulk.new(Task, key="acme/t1", submitter_subject_id="s", entry=entry, created_at=NOON, updated_at=NOON, **written)])
    rows = bulk.load(Task, ["acme/t1", "acme/ghost"], ["status", "created_at", "entry", "not_before"])
    row = rows.pop("acme/t1")
    assert not rows
    assert (row.pk, row.status, row.created_at, row.entry, row.not_before) == ("acme/t1", "queued", NOON, entry, None)
    assert row.get_deferred_fields() >= {"goal", "result"}
    assert row.goal == "g"
