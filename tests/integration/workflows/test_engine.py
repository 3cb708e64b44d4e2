"""Sessions from document to result, by hand."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from django.db import connections

from apps.core import bulk, clock
from apps.workflows.engine import away, expanding, limits, store, work
from apps.workflows.models import Chunk, Item, Session
from jobplatform.queues import Work

pytestmark = pytest.mark.store


def bare(variable: str, source: str):
    """An item for each entry; the result is the bare list of theirs."""
    return {"type": "array", "array_mapping": {variable: source}, "output_format": "merge", "process_array_output": False}


def task(key: str, **more):
    return {"key": key, "agent_class": "Echo", **more}


def test_a_chain_runs_in_order_and_its_results_reach_those_who_come_after(flow):
    session_id = flow.run(
        {
            "context": {"city": "Oslo"},
            "tasks": [
                task("one", message_template="in {city}", result_keys=["first"]),
                task("two", message_template="after {first.message}", dependencies=["one"], result_keys=["second"]),
            ],
        }
    )
    assert flow.status(session_id) == "completed"
    assert flow.results(session_id) == {"first": {"message": "in Oslo"}, "second": {"message": "after in Oslo"}}


def test_a_fan_makes_one_row_per_item_and_one_write_of_the_context(flow):
    count = 1000
    session_id = flow.run(
        {
            "context": {"numbers": list(range(count))},
            "tasks": [
                task("fan", expansion_config={"type": "array", "array_mapping": {"n": "numbers"}, "output_format": "merge"}),
                task("reduce", message_template="{fan.summary}", dependencies=["fan"]),
            ],
        }
    )
    assert flow.status(session_id) == "completed", flow.sessions.steps(flow.principal, session_id)
    rows = Item.objects.filter(step_run__endswith="main.fan#1").order_by("index")
    assert [row.result for row in rows] == [{"n": n} for n in range(count)]
    assert {row.status for row in rows} == {"completed"}
    assert flow.results(session_id)["fan"]["results"] == [{"n": n} for n in range(count)]
    from apps.workflows.models_context import ContextWrite

    assert ContextWrite.objects.filter(writer__endswith="main.fan#1.1").count() == 1
    assert Chunk.objects.exclude(status="done").count() == 0


def test_a_fan_of_agents_is_ordinary_tasks_and_its_end_comes_back_by_news(flow, nats):
    from apps.tasks.models import Task

    session_id = flow.start(
        {
            "context": {"docs": ["a", "b", "c"]},
            "tasks": [
                {
                    "key": "read",
                    "executor": "agent",
                    "message_template": "Read {doc}",
                    "result_keys": ["text"],
                    "expansion_config": {
                        "type": "array",
                        "array_mapping": {"doc": "docs"},
                        "output_format": "separate",
                        "identifiers": {"id": "doc"},
                    },
                },
                task("sum", message_template="{a_text} {c_text}", dependencies=["read"]),
            ],
        }
    )
    flow.hand.deliver()
    tasks = list(Task.objects.order_by("sequence"))
    assert [one.goal for one in tasks] == ["Read a", "Read b", "Read c"]
    assert {one.submitter_subject_id for one in tasks} == {"acme:sam"}
    ends(tasks)
    flow.hand.settle()
    assert flow.status(session_id) == "completed"
    assert flow.results(session_id)["sum"] == {"message": "done Read a done Read c"}


def ends(tasks):
    """As if agents had done them."""
    from apps.tasks.models import Task
    from apps.tasks.states import TaskStatus
    from apps.tasks.store import Move, TaskStore

    keys, now = [one.key for one in tasks], clock.now()
    for status in ("assigned", "dispatched", "running", "completed"):
        moves = [
            Move(
                task=row,
                end=TaskStatus(status),
                reason="",
                actor="t",
                fields={"result": f"done {row.goal}"} if status == "completed" else {},
            )
            for row in Task.objects.filter(pk__in=keys)
        ]
        TaskStore().move_many(moves, now=now)


def test_items_that_fail_are_tried_again_after_the_delay_and_only_those(flow):
    session_id = flow.run(
        {
            "tasks": [
                {
                    "key": "t",
                    "agent_class": "Fails",
                    "max_retries": 2,
                    "retry_delays": [1, 2],
                    "result_keys": ["t"],
                    "rows": [1, 2, 3],
                    "expansion_config": bare("until", "rows"),
                }
            ]
        }
    )
    assert flow.status(session_id) == "completed"
    assert flow.results(session_id)["t"] == [{"attempt": 1}, {"attempt": 2}, {"attempt": 3}]
    step = flow.sessions.step(flow.principal, session_id, "main.t")
    assert step["attempt"] == 3 and step["counts"]["completed"] == 3


@pytest.mark.parametrize(
    ("on_failure", "session", "dependent"),
    [("fail", "failed", "skipped"), ("skip", "completed", "skipped"), ("continue", "completed", "completed")],
)
def test_what_a_failure_does_to_others(flow, on_failure, session, dependent):
    session_id = flow.run(
        {
            "tasks": [
                {"key": "bad", "agent_class": "Fails", "on_failure": on_failure, "result_keys": ["bad"]},
                task("after", dependencies=["bad"], input={"got": "{bad}"}, result_keys=["after"]),
            ]
        }
    )
    told = flow.get(session_id)
    assert (told["status"], flow.status(session_id, "main.after")) == (session, dependent)
    if on_failure != "fail":
        assert told["partial"] is True
    missing = flow.sessions.results(flow.principal, session_id, partial=True)["missing"]
    assert missing[0]["path"] == "main.bad" and "not yet" in missing[0]["reason"]
    if on_failure == "continue":
        assert flow.results(session_id)["after"] == {"got": None}


def test_a_cancelled_session_starts_nothing_more_and_stops_its_agents(flow, nats):
    from apps.tasks.models import Task

    session_id = flow.start({"tasks": [{"key": "a", "executor": "agent", "message_template": "x"}, task("b", dependencies=["a"])]})
    flow.hand.deliver()
    assert Task.objects.get().status == "queued"
    assert flow.sessions.cancel(flow.principal, session_id, now=clock.now())["status"] == "cancelled"
    flow.hand.settle()
    assert Task.objects.get().status == "cancelled"
    assert flow.status(session_id, "main.a") == "cancelled" and flow.status(session_id, "main.b") == "cancelled"
    assert Item.objects.get().status == "cancelled"
    flow.sessions.delete(flow.principal, session_id)
    from apps.workflows.models import Session, SessionEvent, Step

    assert not any(model.objects.exists() for model in (Session, Step, Chunk, Item, SessionEvent))


def test_a_paused_session_waits_and_goes_on(flow):
    session_id = flow.start({"tasks": [task("a"), task("b", dependencies=["a"])]})
    flow.sessions.pause(flow.principal, session_id, now=clock.now())
    flow.hand.deliver()
    flow.hand.tend()
    flow.hand.deliver()
    assert flow.status(session_id, "main.a") == "waiting"
    flow.sessions.resume(flow.principal, session_id, now=clock.now())
    flow.hand.settle()
    assert flow.status(session_id) == "completed"


def test_retry_from_failed_keeps_what_completed(flow):
    session_id = flow.run(
        {
            "tasks": [
                task("a", result_keys=["a"]),
                {
                    "key": "t",
                    "agent_class": "Fails",
                    "rows": [1, 2],
                    "dependencies": ["a"],
                    "continue_on_error": False,
                    "expansion_config": {"type": "array", "array_mapping": {"until": "rows"}},
                },
            ]
        }
    )
    assert flow.status(session_id) == "failed"
    before = Item.objects.get(step_run__endswith="main.t#1", index=0).finished_at
    flow.sessions.retry(flow.principal, session_id, now=clock.now())
    flow.hand.settle()
    told = flow.get(session_id)
    assert told["status"] == "completed" and told["run"] == 2
    assert Item.objects.get(step_run__endswith="main.t#1", index=0).finished_at == before
    assert flow.sessions.step(flow.principal, session_id, "main.a")["run"] == 1


def test_a_rerun_with_other_input_does_all_that_depends_on_it_again(flow):
    session_id = flow.run(
        {
            "tasks": [
                task("a", input={"n": 1}, result_keys=["a"]),
                task("b", message_template="{a.n}", dependencies=["a"], result_keys=["b"]),
                task("c", result_keys=["c"], input={"x": 1}),
            ]
        }
    )
    assert flow.results(session_id)["b"] == {"message": 1} or flow.results(session_id)["b"] == {"message": "1"}
    flow.sessions.rerun(flow.principal, session_id, "main.a", input={"n": 2}, now=clock.now())
    flow.hand.settle()
    assert str(flow.results(session_id)["b"]["message"]) == "2"
    assert flow.sessions.step(flow.principal, session_id, "main.b")["run"] == 2
    assert flow.sessions.step(flow.principal, session_id, "main.c")["run"] == 1


def undo(key):
    return {"agent_class": "Echo", "input": {"undo": f"{{{key}}}"}}


def test_compensation_undoes_completed_steps_the_last_first(flow):
    session_id = flow.run(
        {
            "tasks": [
                task("a", compensation=undo("a"), result_keys=["a"]),
                task("b", dependencies=["a"], compensation=undo("b")),
                {"key": "bad", "agent_class": "Fails", "dependencies": ["b"]},
            ],
            "compensate": True,
        }
    )
    assert flow.status(session_id) == "failed"
    assert flow.get(session_id)["compensation"] == "completed"
    rows, _ = flow.sessions.steps(flow.principal, session_id)
    undone = [row for row in rows if row["kind"] == "compensation"]
    assert [row["path"] for row in undone] == ["main.b~undo", "main.a~undo"]
    assert undone[0]["finished_at"] <= undone[1]["started_at"]


def test_max_parallel_holds_chunks_back(flow):
    session_id = flow.start(
        {
            "tasks": [
                task(
                    "fan",
                    rows=list(range(9)),
                    max_parallel=2,
                    chunk_size=1,
                    expansion_config={"type": "array", "array_mapping": {"n": "rows"}},
                )
            ]
        }
    )
    name, arguments = flow.hand.hints.pop(0)
    from apps.workflows.engine import canvas, work

    canvas.send(work.look(arguments["session_key"], None, now=clock.now()))
    assert Chunk.objects.filter(status="sent").count() == 2 and Chunk.objects.filter(status="waiting").count() == 7
    flow.hand.settle()
    assert flow.status(session_id) == "completed" and Item.objects.filter(status="completed").count() == 9


def waiting_fan(flow, items: int) -> tuple[Session, Any]:
    """A session with `max_parallel` 1 whose chunks all wait."""
    expansion = {"type": "array", "array_mapping": {"n": "rows"}}
    session_id = flow.start(
        {"tasks": [task("fan", rows=list(range(items)), max_parallel=1, chunk_size=1, expansion_config=expansion)]}
    )
    name, arguments = flow.hand.hints.pop(0)
    work.look(arguments["session_key"], None, now=clock.now())
    Chunk.objects.filter(status="sent").update(status="waiting")
    flow.hand.hints.clear()
    session = Session.objects.get(session_id=session_id)
    return session, store.spec_of(session)


def test_max_parallel_holds_when_redis_forgets_who_is_at_it(flow, redis, monkeypatch):
    """Two release at the same moment, since the lock that one of them held is gone; rows let one of them at it."""
    if not bulk.has_transactions(Chunk):
        pytest.skip("MongoDB has no lock on rows; see limits")
    session, spec = waiting_fan(flow, 4)
    counted, other = threading.Event(), []
    limit = limits._limit

    def slowly(*of):
        """Asked when it is counted who flies, and nothing is chosen yet."""
        if not counted.is_set():
            counted.set()
            redis.flushall()
            second.start()
            second.join(1)  # it ends within that only when nothing holds it up
        return limit(*of)

    def release() -> None:
        other.append(limits.release(session, spec, now=clock.now()))
        connections.close_all()

    second = threading.Thread(target=release)
    monkeypatch.setattr(limits, "_limit", slowly)
    first = limits.release(session, spec, now=clock.now())
    second.join(30)
    assert (first, other) == (1, [0])
    assert Chunk.objects.filter(status="sent").count() == 1
    assert [name for name, _ in flow.hand.hints] == [Work.RUN_CHUNK], "what was chosen is sent, though the lock was gone by then"


@pytest.mark.parametrize("seed", range(3))
def test_lost_doubled_and_shuffled_messages_change_nothing(flow, seed):
    flow.hand.rng = random.Random(seed)
    session_id = flow.run(
        {
            "context": {"numbers": list(range(40))},
            "task_groups": [
                {
                    "key": "g",
                    "tasks": [
                        task("fan", chunk_size=3, expansion_config=bare("n", "numbers")),
                        {
                            "key": "l",
                            "agent_class": "Later",
                            "dependencies": ["fan"],
                            "chunk_size": 7,
                            "expansion_config": bare("m", "fan"),
                        },
                    ],
                },
                {"key": "h", "dependencies": ["g"], "tasks": [task("end", input={"all": "{l}"}, result_keys=["end"])]},
            ],
        }
    )
    assert flow.status(session_id) == "completed"
    assert flow.results(session_id)["end"] == {"all": [{"later": n} for n in range(40)]}
    from apps.workflows.models_context import ContextWrite

    assert ContextWrite.objects.count() == 4 and Item.objects.count() == 81


def test_times_up_for_items_steps_groups_and_sessions(flow):
    slow = {"key": "s", "agent_class": "Sleeps", "input": {"seconds": 3}, "timeout_s": 0.05}
    session_id = flow.run({"tasks": [slow]})
    assert flow.status(session_id, "main.s") == "timed_out" and flow.status(session_id) == "failed"
    late = flow.start({"timeout_s": 1, "tasks": [{"key": "a", "executor": "agent", "message_template": "x"}]})
    flow.hand.settle()
    assert flow.status(late) == "timed_out"


def test_what_a_policy_refuses_fails_its_item_with_the_reason(flow, nats):
    from apps.dsl.scripts import register

    source = 'def approve(task):\n    return {"accepted": task["goal"] != "b", "reason": "not b"}'
    register(org_id="acme", script_id="approval/yes", hook="approval", source=source, by="tests", now=clock.now(), activate=True)
    session_id = flow.start(
        {
            "tasks": [
                {
                    "key": "read",
                    "executor": "agent",
                    "message_template": "{doc}",
                    "docs": ["a", "b"],
                    "expansion_config": bare("doc", "docs"),
                }
            ]
        }
    )
    flow.hand.deliver()
    from apps.tasks.models import Task

    ends(Task.objects.filter(status="queued"))
    flow.hand.settle()
    assert [(row.status, row.reason) for row in Item.objects.order_by("index")] == [("completed", ""), ("failed", "not b")]
    assert flow.get(session_id)["partial"] is True and flow.results(session_id)["read"] == ["done a"]


def test_an_item_done_since_an_earlier_try_to_submit_it_is_done(flow, nats):
    """Whoever submitted died before it knew; its chunk is taken up again when the agent has long finished."""
    from apps.tasks.models import Task

    session_id = flow.start({"tasks": [{"key": "a", "executor": "agent", "message_template": "x", "result_keys": ["a"]}]})
    flow.hand.deliver()
    flow.hand.hints.clear()
    ends(Task.objects.all())
    flow.hand.hints.clear()
    Item.objects.update(status="pending")
    flow.hand.settle()
    assert flow.status(session_id) == "completed" and flow.results(session_id) == {"a": "done x"}


def test_who_waits_optionally_finds_null_where_there_is_no_result(flow):
    session_id = flow.run(
        {
            "tasks": [
                task("lost", agent_class="Fails", on_failure="skip", result_keys=["found"]),
                task("goes_on", input={"found": "{found}", "or": "{found|nothing}"}, optional_dependencies=["lost"]),
            ]
        }
    )
    assert flow.results(session_id)["goes_on"] == {"found": None, "or": "nothing"}


def test_results_of_an_earlier_run_are_gone_when_the_step_did_not_complete_again(flow):
    session_id = flow.run(
        {
            "tasks": [
                {"key": "first", "agent_class": "Fails", "input": {"until": 1}, "on_failure": "skip", "result_keys": ["a"]},
                task("second", dependencies=["first"], result_keys=["b"], input={"x": "{a}"}),
                task("third", optional_dependencies=["first"], input={"x": "{a}"}, result_keys=["c"]),
            ]
        }
    )
    assert flow.results(session_id).keys() == {"a", "b", "c"}
    flow.sessions.rerun(flow.principal, session_id, "main.first", input={"until": 99}, now=clock.now())
    flow.hand.settle()
    assert flow.status(session_id, "main.second") == "skipped"
    assert flow.results(session_id) == {"c": {"x": None}}


def test_an_item_cancelled_while_it_is_being_submitted_becomes_no_task(flow, nats, monkeypatch):
    from apps.tasks.models import Task

    real = away._entry

    def too_late(item, *rest):
        Item.objects.filter(pk=item.pk, index=0).update(status="cancelled")
        return real(item, *rest)

    monkeypatch.setattr(away, "_entry", too_late)
    each = {"type": "array", "array_mapping": {"n": "things"}}
    things = ["gone", {"name": "Ann"}, 3]
    flow.start({"context": {"things": things}, "tasks": [{"key": "a", "message_template": "{n}", "expansion_config": each}]})
    flow.hand.deliver()
    # A message is text, also where its template is one placeholder.
    assert sorted(row.entry["task_goal"] for row in Task.objects.all()) == ["3", '{"name":"Ann"}']


def test_items_written_while_their_step_was_cancelled_end_with_it(flow, monkeypatch):
    real, batches = expanding.first_attempt, []

    def cancelled_in_between(*given, **named):
        for batch in real(*given, **named):
            batches.append(batch)
            if len(batches) == 2:
                flow.sessions.cancel(flow.principal, "s", now=clock.now())
            yield batch

    monkeypatch.setattr(expanding, "first_attempt", cancelled_in_between)
    numbers = list(range(2 * expanding.BATCH))
    each = {"type": "array", "array_mapping": {"n": "numbers"}}
    flow.start({"session_id": "s", "context": {"numbers": numbers}, "tasks": [task("a", expansion_config=each)]})
    flow.hand.deliver()
    assert len(batches) == 2
    assert flow.status("s", "main.a") == "cancelled"
    assert not Item.objects.filter(status__in=["pending", "running"]).exists()


def test_a_fan_of_many_chunks_needs_no_upkeep(flow):
    """Its chords go in waves while its items are still being made; each wakes the step, and the last one ends it."""
    count = 6000
    session_id = flow.start({"tasks": [task("fan", rows=list(range(count)), expansion_config=bare("n", "rows"))]})
    flow.hand.deliver()
    assert flow.status(session_id) == "completed"
    assert len(flow.results(session_id)["fan"]) == count
    assert Chunk.objects.count() == 16
