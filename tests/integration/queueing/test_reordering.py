"""A changed priority script reorders what waits: in batches, in the background, once."""

from __future__ import annotations

import itertools

import pytest

from apps.core import clock
from apps.dsl.book import book
from apps.dsl.models import PolicyRun
from apps.dsl.scripts import register
from apps.orgs.config_store import OrgConfigProvider
from apps.tasks import reordering, steering
from apps.tasks.models import Decision, Reordering, Task
from apps.tasks.queue import PriorityQueue
from apps.tasks.reordering import Reorderer, progress
from tests.factories import NOON, make_entry

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "nats")]

RANK = """
def prioritize(task):
    return {"priority": task["payload"]["rank"] * FACTOR}
"""


def script(factor: int) -> None:
    source = RANK.replace("FACTOR", str(factor))
    register(org_id="acme", script_id="priority/rank", hook="priority", source=source, by="tests", now=clock.now(), activate=True)
    book().forget()


def use(script_id: str | None) -> None:
    OrgConfigProvider().set("acme", "priority_assigner_dsl_id", script_id, by="olga", now=NOON)


@pytest.fixture
def waiting(yard):
    """Six tasks that wait, each with a rank that nobody has asked about."""
    yard.org()
    script(1)
    Reorderer().run(now=NOON, seconds=5)

    def put(count: int = 6, **fields) -> list[Task]:
        return [
            yard.put(f"t{n}", entry=make_entry(task_id=f"t{n}", task_job_submission_data={"rank": n}), **fields)[0] for n in range(count)
        ]

    return put


def order() -> list[str]:
    queue = PriorityQueue()
    claims = queue.claim("acme", {"": 99}, limit=99, now=NOON)
    queue.release(claims)
    return [claim.key[5:] for claim in claims]


def test_a_new_script_in_the_configuration_reorders_what_waits(waiting):
    waiting()
    waiting(0)
    assert order() == [f"t{n}" for n in range(6)]
    use("priority/rank")
    assert Reorderer().run(now=NOON, seconds=5) is False
    assert order() == [f"t{n}" for n in reversed(range(6))]
    assert dict(Task.objects.values_list("task_id", "priority")) == {f"t{n}": n for n in range(6)}
    told = Decision.objects.get(task_key="acme/t5", kind="priority_change")
    assert (told.outcome, told.actor) == ("by_policy", "priority policy") and "priority/rank version 1" in told.because
    assert PolicyRun.objects.filter(task_key="acme/t5").count() == 1
    found = progress("acme")
    assert (found["running"], found["looked_at"], found["changed"], found["of_about"]) == (False, 6, 5, 6)


def test_another_active_version_reorders_and_taking_it_away_gives_the_submitters_own(waiting):
    waiting(submitter_priority=3)
    use("priority/rank")
    Reorderer().run(now=NOON, seconds=5)
    script(-1)
    Reorderer().run(now=NOON, seconds=5)
    assert order() == [f"t{n}" for n in range(6)] and Task.objects.get(pk="acme/t5").priority == -5
    use(None)
    Reorderer().run(now=NOON, seconds=5)
    assert set(Task.objects.values_list("priority", flat=True)) == {3}


def test_what_follows_the_script_already_is_left_alone(waiting, django_assert_max_num_queries):
    waiting()
    use("priority/rank")
    Reorderer().run(now=NOON, seconds=5)
    runs = PolicyRun.objects.count()
    with django_assert_max_num_queries(8):
        assert Reorderer().run(now=NOON, seconds=5) is False
    assert PolicyRun.objects.count() == runs


def test_a_priority_given_by_hand_stays(waiting):
    tasks = waiting()
    steering.reprioritize([tasks[0]], 900, actor="olga", reason="", now=NOON)
    use("priority/rank")
    Reorderer().run(now=NOON, seconds=5)
    assert order()[0] == "t0" and Task.objects.get(pk="acme/t0").priority == 900


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(waiting, monkeypatch):
    monkeypatch.setattr(reordering, "BATCH", 2)
    waiting()
    use("priority/rank")
    ticks = itertools.count()
    cut = Reorderer(monotonic=lambda: float(next(ticks)))
    assert cut.run(now=NOON, seconds=2.5) is True
    found = progress("acme")
    assert found["running"] and 0 < found["looked_at"] < 6
    assert Reorderer().run(now=NOON, seconds=5) is False
    assert progress("acme")["looked_at"] == 6 and PolicyRun.objects.count() == 5  # t0 has its rank already


def test_a_task_that_awaits_a_person_finds_its_place_too(waiting, yard):
    waiting()
    yard_task = Task.objects.get(pk="acme/t5")
    Task.objects.filter(pk=yard_task.pk).update(status="awaiting_approval")
    use("priority/rank")
    Reorderer().run(now=NOON, seconds=5)
    assert Task.objects.get(pk="acme/t5").priority == 5


def test_a_script_that_fails_leaves_the_submitters_own(waiting):
    waiting(submitter_priority=2)
    register(
        org_id="acme", script_id="priority/broken", hook="priority", source="def prioritize(task):\n    fail('x')\n", by="t",
        now=clock.now(), activate=True,
    )  # fmt: skip
    use("priority/broken")
    Reorderer().run(now=NOON, seconds=5)
    assert set(Task.objects.values_list("priority", flat=True)) == {2}


def test_of_two_copies_the_one_that_notes_later_goes_on_from_where_the_first_is(waiting, monkeypatch):
    monkeypatch.setattr(reordering, "BATCH", 2)
    waiting()
    use("priority/rank")
    ticks = itertools.count()
    assert Reorderer(monotonic=lambda: float(next(ticks))).run(now=NOON, seconds=2.5) is True  # some of it
    mine, theirs, config = Reordering.objects.get(), Reordering.objects.get(), OrgConfigProvider().of("acme")
    assert Reorderer()._step(mine, config, NOON) is True
    assert Reorderer()._step(theirs, config, NOON) is False
    assert (theirs.cursor, theirs.seen) == (mine.cursor, mine.seen)
    assert Reorderer().run(now=NOON, seconds=30) is False
    assert progress("acme")["looked_at"] == 6
