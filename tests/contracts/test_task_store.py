"""What the task store promises, on every database it may live in."""

from __future__ import annotations

import copy
import random
from datetime import timedelta

import pytest
from django.db import connections, router

from apps.core import bulk, events
from apps.tasks.events import TasksMoved
from apps.tasks.models import Assignment, Task, Transition
from apps.tasks.states import TaskStatus
from apps.tasks.store import Birth, IllegalMove, LostRace, Move, TaskStore
from tests.factories import NOON, make_task, task_row
from tests.threads import at_once

pytestmark = pytest.mark.store
S = TaskStatus
LATER = NOON + timedelta(seconds=5)


@pytest.fixture
def news(monkeypatch):
    """Every TaskMoved published, in order."""
    heard = []
    monkeypatch.setattr(events, "_handlers", type(events._handlers)(list))
    events.subscribe(TasksMoved, lambda event: heard.extend(event.moves))
    return heard


def birth(task, reason="accepted", actor="acme:sam") -> Birth:
    return Birth(task=task, reason=reason, actor=actor)


def move(task, end, **fields) -> Move:
    return Move(task=task, end=end, reason=f"to {end}", actor="tests", fields=fields)


def assignment(task, attempt=1) -> Assignment:
    return Assignment(
        id=f"{task.key}#{attempt}", task_key=task.key, org_id=task.org_id, attempt=attempt, head_agent_subject_id="ada",
        strategy="static", because="the only one", decision={}, at=NOON,
    )  # fmt: skip


def history(key: str) -> list[tuple[str, str]]:
    return [(row.old, row.new) for row in Transition.objects.filter(task_key=key).order_by("id")]


# Births


def test_a_birth_stores_the_task_its_first_transition_and_tells_the_news(db, news):
    task = task_row("t1")
    assert TaskStore().insert_many([birth(task)], now=LATER) == {"acme/t1"}
    row = Task.objects.get(pk="acme/t1")
    assert (row.status, row.reason, row.queued_at, row.updated_at) == (S.QUEUED, "accepted", LATER, LATER)
    assert row.entry == task.entry
    assert history("acme/t1") == [("", "queued")]
    assert [(one.key, one.old, one.new, one.actor) for one in news] == [("acme/t1", "", "queued", "acme:sam")]


def test_a_birth_with_an_existing_key_is_left_alone(db, news):
    make_task("t1", goal="the first")
    news.clear()
    fresh, late = task_row("t2"), task_row("t1", goal="the second", status=S.REJECTED)
    assert TaskStore().insert_many([birth(late), birth(fresh)], now=LATER) == {"acme/t2"}
    assert Task.objects.get(pk="acme/t1").goal == "the first"
    assert history("acme/t1") == [("", "queued")]
    assert [one.key for one in news] == ["acme/t2"]


def test_of_two_births_with_one_key_in_one_batch_the_first_counts(db):
    assert TaskStore().insert_many([birth(task_row("t1", goal="one")), birth(task_row("t1", goal="two"))], now=NOON) == {"acme/t1"}
    assert Task.objects.get(pk="acme/t1").goal == "one"


def test_a_task_is_only_born_in_a_first_state(db):
    with pytest.raises(IllegalMove):
        TaskStore().insert_many([birth(task_row("t1")), birth(task_row("t2", status=S.RUNNING))], now=NOON)
    assert Task.objects.count() == 0


def test_equal_ids_in_two_orgs_are_two_tasks(db):
    made = TaskStore().insert_many([birth(task_row("t1", org_id="acme")), birth(task_row("t1", org_id="bolt"))], now=NOON)
    assert made == {"acme/t1", "bolt/t1"}


def test_twenty_births_of_one_key_at_once_make_one_task(transactional_db):
    wins = at_once(20, lambda n: TaskStore().insert_many([birth(task_row("t1", goal=f"by {n}"))], now=NOON))
    assert sorted(map(len, wins)) == [0] * 19 + [1]
    winner = next(n for n, won in enumerate(wins) if won)
    assert Task.objects.get(pk="acme/t1").goal == f"by {winner}"
    assert history("acme/t1") == [("", "queued")]


def test_overlapping_batches_at_once_bear_every_task_once(transactional_db):
    def insert(n: int) -> set[str]:
        numbers = random.Random(n).sample(range(60), 40)
        return TaskStore().insert_many([birth(task_row(f"t{number}")) for number in numbers], now=NOON)

    wins = at_once(8, insert)
    everything = sorted(key for won in wins for key in won)
    assert len(everything) == len(set(everything)) == Task.objects.count() == Transition.objects.count()


# Moves


def test_a_move_writes_status_fields_stamp_transition_and_news(db, news):
    task = make_task("t1")
    news.clear()
    assert TaskStore().move_many([move(task, S.ASSIGNED, attempt=1, head_agent_subject_id="ada")], now=LATER) == {"acme/t1"}
    row = Task.objects.get(pk="acme/t1")
    assert (row.status, row.attempt, row.head_agent_subject_id, row.assigned_at) == (S.ASSIGNED, 1, "ada", LATER)
    assert history("acme/t1") == [("", "queued"), ("queued", "assigned")]
    assert [(one.old, one.new, one.attempt, one.agent) for one in news] == [("queued", "assigned", 1, "ada")]


def test_the_winners_instance_is_brought_up_to_date_and_the_losers_is_not(db):
    task = make_task("t1")
    stale = TaskStore().load_many(["acme/t1"])["acme/t1"]
    TaskStore().move_many([move(task, S.ASSIGNED, attempt=1)], now=LATER)
    assert (task.status, task.attempt, task.updated_at) == (S.ASSIGNED, 1, LATER)
    assert TaskStore().move_many([move(stale, S.CANCELLED)], now=LATER) == set()
    assert (stale.status, stale.attempt) == (S.QUEUED, 0)
    assert Task.objects.get(pk="acme/t1").status == S.ASSIGNED


def test_twenty_movers_have_one_winner(transactional_db, news):
    make_task("t1")
    news.clear()
    loaded = [TaskStore().load_many(["acme/t1"])["acme/t1"] for _ in range(20)]
    wins = at_once(20, lambda n: TaskStore().move_many([move(loaded[n], S.ASSIGNED, head_agent_subject_id=f"agent-{n}")], now=LATER))
    assert sorted(map(len, wins)) == [0] * 19 + [1]
    winner = next(n for n, won in enumerate(wins) if won)
    assert Task.objects.get(pk="acme/t1").head_agent_subject_id == f"agent-{winner}"
    assert history("acme/t1") == [("", "queued"), ("queued", "assigned")]
    assert [one.agent for one in news] == [f"agent-{winner}"]


def test_in_a_thousand_races_of_three_ends_each_task_has_one_and_its_history_says_which(transactional_db):
    """A cancel, a result and a lapse meet at each task, three threads in three orders of their own."""
    ends = (S.CANCELLED, S.COMPLETED, S.EXPIRED)
    Task.objects.bulk_create(task_row(f"t{n}", status=S.RUNNING, attempt=1) for n in range(1000))
    loaded = [list(Task.objects.order_by("pk")) for _ in ends]

    def mover(n: int) -> set[str]:
        mine, won = loaded[n], set()
        random.Random(n).shuffle(mine)
        for start in range(0, len(mine), 25):
            won |= TaskStore().move_many([move(task, ends[n]) for task in mine[start : start + 25]], now=LATER)
        return won

    wins = dict(zip(ends, at_once(3, mover), strict=True))
    assert sorted(key for won in wins.values() for key in won) == sorted(task.key for task in loaded[0])
    for end, won in wins.items():
        assert set(Task.objects.filter(status=end).values_list("pk", flat=True)) == won
        moved = Transition.objects.filter(old=S.RUNNING, new=end).values_list("task_key", flat=True)
        assert sorted(moved) == sorted(won)


def test_batches_that_cross_at_once_move_every_task_once(transactional_db):
    tasks = [make_task(f"t{n}") for n in range(40)]

    def assign(n: int) -> set[str]:
        mine = [copy.copy(task) for task in random.Random(n).sample(tasks, 30)]
        return TaskStore().move_many([move(task, S.ASSIGNED, attempt=1, head_agent_subject_id=f"agent-{n}") for task in mine], now=LATER)

    wins = at_once(6, assign)
    for n, won in enumerate(wins):
        assert {task.key for task in Task.objects.filter(head_agent_subject_id=f"agent-{n}")} == won
    moved = [key for won in wins for key in won]
    assert len(moved) == len(set(moved)) == Transition.objects.filter(new=S.ASSIGNED).count()


def test_a_move_made_for_an_older_attempt_changes_nothing(db):
    task = make_task("t1")
    store = TaskStore()
    store.move(task, S.ASSIGNED, reason="", actor="tests", now=NOON, attempt=1)
    late = store.load_many(["acme/t1"])["acme/t1"]
    store.move(task, S.QUEUED, reason="declined", actor="tests", now=NOON)
    store.move(task, S.ASSIGNED, reason="", actor="tests", now=NOON, attempt=2)
    assert store.move_many([move(late, S.DISPATCHED)], now=LATER) == set()
    assert store.load_many(["acme/t1"])["acme/t1"].status == S.ASSIGNED


def test_losing_the_race_for_one_task_has_a_name(db):
    task = make_task("t1")
    stale = copy.copy(task)
    TaskStore().move(task, S.CANCELLED, reason="enough", actor="tests", now=NOON)
    with pytest.raises(LostRace):
        TaskStore().move(stale, S.ASSIGNED, reason="", actor="tests", now=LATER)


def test_what_has_ended_never_moves_again(db):
    task = make_task("t1")
    TaskStore().move(task, S.CANCELLED, reason="enough", actor="tests", now=NOON)
    for end in TaskStatus:
        with pytest.raises(IllegalMove):
            TaskStore().move_many([move(task, end)], now=LATER)
    assert history("acme/t1") == [("", "queued"), ("queued", "cancelled")]


def test_one_illegal_move_stops_its_whole_batch_before_anything_is_written(db):
    good, bad = make_task("t1"), make_task("t2")
    with pytest.raises(IllegalMove):
        TaskStore().move_many([move(good, S.ASSIGNED), move(bad, S.COMPLETED)], now=LATER)
    assert set(Task.objects.values_list("status", flat=True)) == {S.QUEUED}


def test_a_batch_has_winners_and_losers_side_by_side(db):
    tasks = [make_task(f"t{n}") for n in range(6)]
    stale = [copy.copy(task) for task in tasks]
    store = TaskStore()
    store.move_many([move(task, S.CANCELLED) for task in tasks[:3]], now=NOON)
    assert store.move_many([move(task, S.ASSIGNED, attempt=1) for task in stale], now=LATER) == {task.key for task in tasks[3:]}


def test_rows_that_travel_with_a_move_are_written_for_winners_only(db):
    won, lost = make_task("t1"), make_task("t2")
    stale = copy.copy(lost)
    TaskStore().move(lost, S.CANCELLED, reason="", actor="tests", now=NOON)
    moves = [
        Move(task=task, end=S.ASSIGNED, reason="", actor="tests", fields={"attempt": 1}, rows=(assignment(task),)) for task in (won, stale)
    ]
    TaskStore().move_many(moves, now=LATER)
    assert list(Assignment.objects.values_list("id", flat=True)) == ["acme/t1#1"]


def test_a_row_that_is_already_there_is_left_as_it_is(db):
    task = make_task("t1")
    assignment(task).save(force_insert=True)
    again = Move(task=task, end=S.ASSIGNED, reason="", actor="tests", fields={"attempt": 1}, rows=(assignment(task),))
    assert TaskStore().move_many([again], now=LATER) == {"acme/t1"}
    assert Assignment.objects.count() == 1


def test_every_kind_of_value_comes_back_as_it_went_in(db):
    task = make_task("t1")
    store = TaskStore()
    store.move(task, S.ASSIGNED, reason="because ☂", actor="tests", now=NOON, attempt=1, excluded_agents=["bo", "cy"])
    store.move(task, S.DISPATCHED, reason="", actor="tests", now=NOON, delivery_seq=2**40)
    result = {"words": 12, "deep": [{"a": None, "b": [1.5, True, "ü"]}], "$dollar": {"a.b": 1}}
    store.move(task, S.COMPLETED, reason="", actor="acme:ada", now=LATER, result=result, progress=100.0)
    row = store.load_many(["acme/t1"])["acme/t1"]
    assert (row.result, row.excluded_agents, row.delivery_seq, row.progress) == (result, ["bo", "cy"], 2**40, 100.0)
    assert row.finished_at == LATER
    assert row.not_before is None


def test_many_tasks_are_born_loaded_and_moved_in_one_go(db):
    store = TaskStore()
    # More than one statement of SQLite holds; the emulator of MongoDB's wire takes 10 ms a row.
    many = 210 if connections[router.db_for_write(Task)].vendor == "mongodb" else 1050
    assert len(store.insert_many([birth(task_row(f"t{n}")) for n in range(many)], now=NOON)) == many
    tasks = store.load_many([f"acme/t{n}" for n in range(many)])
    moves = [move(task, S.ASSIGNED, attempt=1, head_agent_subject_id=f"agent-{n % 7}") for n, task in enumerate(tasks.values())]
    assert len(store.move_many(moves, now=LATER)) == many
    assert Transition.objects.count() == 2 * many
    assert Task.objects.filter(head_agent_subject_id="agent-3").count() == many // 7


def test_loading_gives_what_is_there_and_nothing_for_the_rest(db):
    make_task("t1")
    assert set(TaskStore().load_many(["acme/t1", "acme/ghost", "acme/t1"])) == {"acme/t1"}
    assert TaskStore().load_many([]) == {}


def test_a_winner_whose_task_moves_on_at_once_still_knows_that_it_won(transactional_db):
    tasks = [make_task(f"t{n}") for n in range(60)]
    store = TaskStore()
    store.move_many([move(task, S.ASSIGNED, attempt=1) for task in tasks], now=NOON)
    for loser in tasks[::10]:
        store.move(copy.copy(loser), S.CANCELLED, reason="", actor="tests", now=NOON)

    def dispatch() -> set[str]:
        return store.move_many([move(copy.copy(task), S.DISPATCHED) for task in tasks], now=LATER)

    def complete() -> set[str]:
        won: set[str] = set()
        while len(won) < 54:
            ready = [task for task in store.load_many([task.key for task in tasks]).values() if task.status == S.DISPATCHED]
            won |= store.move_many([move(task, S.COMPLETED) for task in ready], now=LATER)
        return won

    dispatched, completed = at_once(2, lambda n: (dispatch, complete)[n]())
    assert dispatched == completed == {task.key for task in tasks} - {task.key for task in tasks[::10]}
    assert Transition.objects.filter(new=S.DISPATCHED).count() == 54


class Died(Exception):
    """The writer is gone."""


def test_a_move_whose_mover_died_before_telling_of_it_is_told_or_never_was(db, monkeypatch):
    task = make_task("t1")

    def die(_rows):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr("apps.tasks.store.bulk.insert_missing", die)
        with pytest.raises(Died):
            TaskStore().move(task, TaskStatus.ASSIGNED, reason="ada is free", actor="executor", now=NOON, attempt=1)
    task = TaskStore().load_many(["acme/t1"])["acme/t1"]
    if task.status == TaskStatus.QUEUED:
        return  # a transaction: it never was
    TaskStore().move(task, TaskStatus.QUEUED, reason="lost", actor="sweeper", now=NOON)
    told = list(Transition.objects.filter(task_key="acme/t1").order_by("id").values_list("old", "new", "reason"))
    assert told[1:] == [("queued", "assigned", "ada is free"), ("assigned", "queued", "lost")]


def test_a_crowd_goes_in_and_moves_on_in_short_transactions_and_is_told_of_once(transactional_db, monkeypatch):
    told = []
    monkeypatch.setattr(events, "_handlers", type(events._handlers)(list))
    events.subscribe(TasksMoved, lambda event: told.append(len(event.moves)))
    monkeypatch.setattr("apps.tasks.store.WRITE_CHUNK", 3)
    tasks = [task_row(f"crowd{number}") for number in range(8)]
    tasks[4].save()  # it is there already
    store = TaskStore()
    born = store.insert_many([birth(task) for task in (task_row(f"crowd{number}") for number in range(8))], now=NOON)
    assert born == {f"acme/crowd{number}" for number in range(8)} - {"acme/crowd4"}
    loaded = store.load_many(sorted(born))
    Task.objects.filter(pk="acme/crowd6").update(status=S.CANCELLED)
    won = store.move_many([move(task, S.CANCELLED) for task in loaded.values()], now=LATER)
    assert won == born - {"acme/crowd6"} and told == [7, 6]
    assert {history(key)[-1] for key in won} == {("queued", "cancelled")} and history("acme/crowd6") == [("", "queued")]
    assert {task.status for key, task in loaded.items() if key in won} == {S.CANCELLED}


def test_what_was_written_before_a_store_went_away_is_told_of(transactional_db, news, monkeypatch):
    monkeypatch.setattr(bulk, "has_transactions", lambda model: True)  # chunks are written where one writer keeps others waiting
    monkeypatch.setattr("apps.tasks.store.WRITE_CHUNK", 2)
    store = TaskStore()
    tasks = [make_task(f"c{number}") for number in range(4)]
    news.clear()
    written = store._written
    calls = []

    def once(changes):
        calls.append(len(changes))
        if len(calls) > 1:
            raise RuntimeError("the store went away")
        return written(changes)

    monkeypatch.setattr(store, "_written", once)
    with pytest.raises(RuntimeError):
        store.move_many([move(task, S.CANCELLED) for task in tasks], now=LATER)
    assert [item.task_id for item in news] == ["c0", "c1"]
    assert [task.status for task in tasks] == ["cancelled", "cancelled", "queued", "queued"]
