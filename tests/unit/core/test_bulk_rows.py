"""Rows made in bulk are the rows Django would have made."""

from __future__ import annotations

import json

import pytest

from apps.core import bulk
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
def test_json_is_written_so_that_it_reads_the_same(value):
    assert json.loads(bulk._sqlite_json(value)) == json.loads(json.dumps(value))
