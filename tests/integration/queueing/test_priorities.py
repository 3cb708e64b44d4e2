"""Another priority for tasks that wait: the row, the place in the queue and the record of it, together and in bulk."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.core.errors import Invalid
from apps.tasks import steering
from apps.tasks.loader import TaskLoader
from apps.tasks.models import Decision, Task
from apps.tasks.queue import PriorityQueue, item_of
from apps.tasks.states import TaskStatus
from apps.tasks.store import TaskStore
from tests.factories import NOON, make_org, make_task

pytestmark = [pytest.mark.store, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]


def queued(*names: str, org: str = "acme", **fields) -> list[Task]:
    make_org(org)
    tasks = [make_task(name, org_id=org, **fields) for name in names]
    PriorityQueue().push(org, [item_of(task) for task in tasks], now=NOON)
    return tasks


def order(org: str = "acme") -> list[str]:
    return [claim.key.partition("/")[2] for claim in PriorityQueue().claim(org, {"": 99}, limit=99, now=NOON)]


def change(tasks, priority: int, *, now=NOON) -> set[str]:
    return steering.reprioritize(tasks, priority, actor="olga", reason="the board asked", now=now)


def test_a_task_with_a_higher_priority_goes_first_and_it_is_written_down_who_said_so():
    queued("t1", "t2")
    (third,) = queued("t3")
    assert change([third], 7) == {"acme/t3"}
    assert order() == ["t3", "t1", "t2"]
    assert Task.objects.get(pk="acme/t3").priority == third.priority == 7
    (told,) = Decision.objects.filter(task_key="acme/t3")
    assert (told.kind, told.outcome, told.actor, told.because) == ("priority_change", "by_hand", "olga", "the board asked")
    assert told.details == {"old": 0, "new": 7}


def test_many_tasks_of_several_orgs_are_changed_in_one_go(django_assert_max_num_queries):
    tasks = [*queued(*(f"a{n}" for n in range(20))), *queued("b1", "b2", org="bolt")]
    with django_assert_max_num_queries(12):
        assert len(change(tasks[::2], 5)) == 11
    assert order()[:10] == [f"a{n}" for n in range(0, 20, 2)]
    assert order("bolt") == ["b1", "b2"] and Task.objects.get(pk="bolt/b1").priority == 5


def test_what_has_ended_or_has_it_already_is_left_alone():
    first, second = queued("t1", "t2")
    TaskStore().move(second, TaskStatus.CANCELLED, reason="x", actor="sam", now=NOON)
    assert change([first, second], 0) == set() and change([second], 5) == set()
    assert not Decision.objects.exists()


def test_a_change_that_lost_a_race_changes_nothing():
    (task,) = queued("t1")
    stale = Task.objects.get(pk=task.key)
    change([task], 3)
    assert change([stale], 9) == set()
    assert Task.objects.get(pk=task.key).priority == 3 and Decision.objects.count() == 1


@pytest.mark.parametrize("wrong", [1001, -1001, True, 1.0, "1"])
def test_a_priority_that_is_none_is_refused(wrong):
    with pytest.raises(Invalid):
        change(queued("t1"), wrong)


def test_a_delayed_and_a_claimed_task_come_back_with_their_new_priority():
    delayed, claimed, other = queued("t1", not_before=NOON + timedelta(minutes=1)) + queued("t2", "t3")
    queue = PriorityQueue()
    claims = queue.claim("acme", {"": 1}, limit=1, now=NOON)
    change([delayed], 8)
    change([claimed], -5)
    queue.release(claims)
    queue.tick(now=NOON + timedelta(minutes=1))
    assert order() == ["t1", "t3", "t2"]
    assert other.priority == 0


def test_a_change_while_redis_was_away_takes_effect_when_the_loader_comes_by(monkeypatch):
    from apps.core.redis import RedisDown
    from apps.tasks import priorities

    def away(*_arguments):
        raise RedisDown[0]("away")

    first, second = queued("t1", "t2")
    with monkeypatch.context() as patched:
        patched.setattr(priorities.PriorityQueue, "reprice", away)
        assert change([second], 7) == {second.key}
    TaskLoader().reconcile(now=NOON + timedelta(seconds=5))
    assert order() == ["t2", "t1"]
