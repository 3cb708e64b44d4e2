"""Rows that go in bulk: the same on every store, by any number of copies, and after one that died."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections

from apps.core import bulk, clock
from apps.retention import kinds
from apps.retention.keeper import Keeper
from apps.tasks.models import Task, Transition
from tests.factories import make_org, make_task

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]


def ended(number: int) -> list[str]:
    made = [make_task(status="rejected", now=clock.now()).key for _ in range(number)]
    assert Transition.objects.filter(task_key__in=made).count() == number
    return made


def test_one_statement_removes_the_rows_that_are_named_and_counts_them():
    keys = ended(3)
    assert bulk.remove(Transition, task_key=keys[:2]) == 2
    assert bulk.remove(Task, pk=keys, status=["queued"]) == 0
    assert bulk.remove(Task, pk=keys[0]) == 1 and bulk.remove(Task, pk=[]) == 0
    assert bulk.remove_in_parts(Task, size=1, org_id="acme") == 2 and Transition.objects.count() == 1


def test_a_pass_that_died_is_finished_by_any_number_of_others(monkeypatch):
    make_org("acme")
    page = ended(6)[:2]
    make_task("open")
    monkeypatch.setattr("apps.retention.needed.PAGE", 2)
    tasks = next(kind for kind in kinds.KINDS if kind.name == "tasks")
    model, name = tasks.parts[0]
    bulk.remove(model, **{name: page})  # what a store without transactions is left with when its process dies
    gone: list[int] = []

    def one_copy() -> None:
        try:
            gone.append(Keeper().run(now=clock.now() + timedelta(days=9000)).rows.get("tasks", {}).get("tasks.Task", 0))
        finally:
            connections.close_all()

    copies = [threading.Thread(target=one_copy) for _ in range(3)]
    for copy in copies:
        copy.start()
    for copy in copies:
        copy.join()
    assert sum(gone) == 6 and len(gone) == 3
    assert list(Task.objects.values_list("task_id", flat=True)) == ["open"] and Transition.objects.count() == 1
