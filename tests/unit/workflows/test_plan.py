"""What comes next around a few nodes: from their states alone."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from apps.workflows.document.reading import parse
from apps.workflows.document.spec import ROOT, SessionSpec
from apps.workflows.planning import plan
from apps.workflows.planning.plan import (
    CancelItems,
    Counts,
    EndSession,
    Finish,
    Members,
    NodeState,
    Open,
    Publish,
    Retry,
    SessionState,
    Skip,
    Snapshot,
    Start,
)  # fmt: skip
from apps.workflows.states import SessionStatus, StepStatus
from tests.unit.workflows.world import START

S = StepStatus
NOW = START
ONE = {"total": 1}


def spec_of(*tasks: dict[str, Any], **session: Any) -> SessionSpec:
    return parse({"tasks": list(tasks), **session}, processors=())


CHAIN = spec_of({"key": "a"}, {"key": "b", "dependencies": ["a"]})


def state(status: StepStatus, **values: Any) -> NodeState:
    counts = {name: values.pop(name) for name in list(values) if name in Counts.__dataclass_fields__}
    return NodeState(status=status, counts=Counts(**counts), **values)


def moves(spec: SessionSpec, nodes: dict[str, NodeState], *touched: str, **given: Any) -> list[Any]:
    """`given`: session (a status, or all of it), now, and what else a snapshot holds."""
    session, now = given.pop("session", SessionStatus.RUNNING), given.pop("now", NOW)
    session = session if isinstance(session, SessionState) else SessionState(key="s", status=session)
    nodes = {"main": state(S.RUNNING), **nodes}
    seen = Snapshot(session=session, nodes=nodes, touched=touched or [*nodes, ROOT], **given)
    return plan.next_moves(spec, seen, now=now)


def test_a_step_starts_when_what_it_needs_has_completed():
    assert moves(CHAIN, {"main.a": state(S.RUNNING, total=1, running=1), "main.b": state(S.WAITING)}) == []
    assert moves(CHAIN, {"main.a": state(S.COMPLETED), "main.b": state(S.WAITING)}) == [Start(path="main.b", attempt=1)]


def test_what_was_not_looked_at_counts_as_not_ended():
    assert moves(CHAIN, {"main.b": state(S.WAITING)}) == []


def test_nothing_in_a_group_starts_before_the_group():
    assert moves(CHAIN, {"main": state(S.WAITING), "main.a": state(S.WAITING)}, "main.a") == []
    assert moves(CHAIN, {"main": state(S.WAITING)}, "main") == [Open(path="main")]


@pytest.mark.parametrize("end", [S.FAILED, S.TIMED_OUT])
@pytest.mark.parametrize(("policy", "expected"), [("skip", Skip), ("continue", Start)])
def test_a_failure_skips_or_lets_its_dependents_go_on(end: StepStatus, policy: str, expected: type):
    spec = spec_of({"key": "a", "on_failure": policy}, {"key": "b", "dependencies": ["a"]})
    assert [type(move) for move in moves(spec, {"main.a": state(end), "main.b": state(S.WAITING)}, "main.b")] == [expected]


def test_what_was_skipped_or_cancelled_skips_what_needs_it_whatever_its_policy():
    spec = spec_of({"key": "a", "on_failure": "continue"}, {"key": "b", "dependencies": ["a"]})
    for end in (S.SKIPPED, S.CANCELLED):
        assert isinstance(moves(spec, {"main.a": state(end), "main.b": state(S.WAITING)}, "main.b")[0], Skip)


@pytest.mark.parametrize("end", [S.COMPLETED, S.FAILED, S.TIMED_OUT, S.SKIPPED, S.CANCELLED])
def test_an_optional_dependency_must_only_have_ended(end: StepStatus):
    spec = spec_of({"key": "a", "on_failure": "skip"}, {"key": "b", "optional_dependencies": ["a"]})
    assert moves(spec, {"main.a": state(S.RUNNING), "main.b": state(S.WAITING)}, "main.b") == []
    assert moves(spec, {"main.a": state(end), "main.b": state(S.WAITING)}, "main.b") == [Start(path="main.b", attempt=1)]


def test_a_failure_that_counts_ends_its_group_at_once():
    ended = moves(CHAIN, {"main.a": state(S.FAILED), "main.b": state(S.WAITING)}, "main")
    assert ended == [Finish(path="main", status=S.FAILED, because="main.a failed")]
    crashed = moves(CHAIN, {}, "main", members={"main": Members(statuses=Counter({S.FAILED: 1}), fatal=1)})
    assert crashed[0].status is S.FAILED


def test_then_what_runs_is_cancelled_and_what_waits_is_skipped():
    spec = spec_of({"key": "a"}, {"key": "b"}, {"key": "c"})
    nodes = {"main": state(S.FAILED), "main.a": state(S.RUNNING, total=2, completed=1, running=1), "main.b": state(S.WAITING)}
    assert moves(spec, nodes, "main.a", "main.b") == [
        CancelItems(path="main.a", because="main failed"),
        Skip(path="main.b", because="main failed"),
    ]
    nodes["main.a"] = state(S.RUNNING, total=2, completed=1, cancelled=1)
    assert moves(spec, nodes, "main.a") == [Finish(path="main.a", status=S.CANCELLED, because="main failed", missing={"cancelled": 1})]


def test_a_group_completes_when_all_its_members_have_ended_and_says_what_is_missing():
    members = {"main": Members(statuses=Counter({S.COMPLETED: 2, S.SKIPPED: 1}), fatal=0)}
    assert moves(CHAIN, {}, "main", members=members) == [
        Finish(path="main", status=S.COMPLETED, partial=True, missing={"skipped": 1}, because="all its members have ended")
    ]
    assert moves(CHAIN, {}, "main", members={"main": Members(statuses=Counter({S.COMPLETED: 2, S.WAITING: 1}), fatal=0)}) == []


def test_the_session_ends_as_its_groups_did():
    done = Members(statuses=Counter({S.COMPLETED: 1}), fatal=0)
    assert moves(CHAIN, {}, ROOT, members={ROOT: done})[0].status is SessionStatus.COMPLETED
    assert moves(CHAIN, {}, ROOT, members={ROOT: Members(statuses=Counter({S.COMPLETED: 1}), fatal=0, partial=1)})[0].partial
    assert moves(CHAIN, {"main": state(S.FAILED)}, ROOT) == [EndSession(path=ROOT, status=SessionStatus.FAILED, because="main failed")]


def test_the_result_is_told_when_nothing_is_open_any_more_and_once():
    over = SessionState(key="s", status=SessionStatus.FAILED)
    assert moves(CHAIN, {"main": state(S.FAILED)}, ROOT, session=over) == []
    assert moves(CHAIN, {"main": state(S.FAILED)}, ROOT, session=over, quiet=True) == [Publish(path=ROOT)]
    told = SessionState(key="s", status=SessionStatus.FAILED, published=True)
    assert moves(CHAIN, {"main": state(S.FAILED)}, ROOT, session=told, quiet=True) == []


def test_after_a_cancel_everything_ends_as_cancelled():
    nodes = {"main.a": state(S.RUNNING, total=1, running=1), "main.b": state(S.WAITING)}
    because = "the session was cancelled"
    assert moves(CHAIN, nodes, session=SessionStatus.CANCELLED) == [
        Finish(path="main", status=S.CANCELLED, because=because),
        CancelItems(path="main.a", because=because),
        Finish(path="main.b", status=S.CANCELLED, because=because),
    ]


def test_paused_means_that_nothing_starts_and_what_runs_may_end():
    nodes = {"main.a": state(S.COMPLETED), "main.b": state(S.WAITING)}
    assert moves(CHAIN, nodes, session=SessionStatus.PAUSED) == []
    running = {"main.a": state(S.RUNNING, total=1, completed=1, attempt=1)}
    assert isinstance(moves(CHAIN, running, "main.a", session=SessionStatus.PAUSED)[0], Finish)
    retrying = {"main.a": state(S.RETRYING, retry_at=NOW - timedelta(1))}
    assert moves(CHAIN, retrying, "main.a", session=SessionStatus.PAUSED) == []


def test_deadlines_stand_still_while_paused():
    late = {"main": state(S.RUNNING, deadline=NOW), "main.a": state(S.RUNNING, deadline=NOW, total=1, running=1)}
    session = SessionState(key="s", status=SessionStatus.PAUSED, deadline=NOW)
    assert moves(CHAIN, late, session=session) == []


def test_time_runs_out_for_a_session_a_group_and_a_step():
    over = SessionState(key="s", status=SessionStatus.RUNNING, deadline=NOW)
    assert [move.status for move in moves(CHAIN, {}, session=over)] == [SessionStatus.TIMED_OUT]
    assert moves(CHAIN, {"main": state(S.RUNNING, deadline=NOW)}, "main")[0].status is S.TIMED_OUT
    late = {"main.a": state(S.RUNNING, deadline=NOW, attempt=1, total=2, running=1, completed=1)}
    assert isinstance(moves(CHAIN, late, "main.a")[0], CancelItems)
    stopped = {"main.a": state(S.RUNNING, deadline=NOW, attempt=1, total=2, cancelled=1, completed=1)}
    assert moves(CHAIN, stopped, "main.a")[0].status is S.TIMED_OUT


def test_what_had_ended_before_its_deadline_is_judged_as_ever():
    done = {"main.a": state(S.RUNNING, deadline=NOW, attempt=1, total=2, completed=2)}
    assert moves(CHAIN, done, "main.a")[0].status is S.COMPLETED


def test_deadlines_begin_when_the_node_does():
    spec = parse({"task_groups": [{"key": "main", "timeout_s": 60, "tasks": [{"key": "a", "step_timeout_s": 5}]}]}, processors=())
    assert moves(spec, {"main": state(S.WAITING)}, "main") == [Open(path="main", deadline=NOW + timedelta(seconds=60))]
    assert moves(spec, {"main.a": state(S.WAITING)}, "main.a")[0].deadline == NOW + timedelta(seconds=5)


def test_a_failed_attempt_waits_and_starts_again():
    spec = spec_of({"key": "a", "retry_delays": [3, 9]})
    failed = {"main.a": state(S.RUNNING, attempt=2, total=1, failed=1)}
    (retry,) = moves(spec, failed, "main.a")
    assert isinstance(retry, Retry)
    assert retry.at == NOW + timedelta(seconds=9)
    waiting = {"main.a": state(S.RETRYING, attempt=2, retry_at=retry.at)}
    assert moves(spec, waiting, "main.a") == []
    assert moves(spec, waiting, "main.a", now=retry.at) == [Start(path="main.a", attempt=3)]
    last = {"main.a": state(S.RUNNING, attempt=3, total=1, failed=1)}
    assert moves(spec, last, "main.a")[0].status is S.FAILED
    assert moves(spec, {"main.a": state(S.RUNNING, attempt=3, total=1, timed_out=1)}, "main.a")[0].status is S.TIMED_OUT


def test_the_first_n_are_enough_and_the_rest_is_cancelled_and_not_missed():
    spec = spec_of({"rows": [1, 2, 3], "expansion_config": {"type": "array", "array_mapping": {"r": "rows"}}, "join": {"first": 1}})
    path = "main.task_1"
    assert isinstance(moves(spec, {path: state(S.RUNNING, attempt=1, total=3, completed=1, running=2)}, path)[0], CancelItems)
    (finish,) = moves(spec, {path: state(S.RUNNING, attempt=1, total=3, completed=1, cancelled=2)}, path)
    assert (finish.status, finish.partial, finish.missing) == (S.COMPLETED, False, {})


def test_a_start_that_nobody_carries_on_is_taken_up_again():
    alive = {"main.a": state(S.EXPANDING, attempt=1, busy_until=NOW + timedelta(seconds=1))}
    assert moves(CHAIN, alive, "main.a") == []
    gone = {"main.a": state(S.EXPANDING, attempt=1, busy_until=NOW)}
    assert moves(CHAIN, gone, "main.a") == [Start(path="main.a", attempt=1, because="whoever started it is gone")]


def test_open_items_of_a_step_that_has_ended_are_cancelled():
    left = {"main.a": state(S.CANCELLED, total=2, pending=1)}
    assert isinstance(moves(CHAIN, left, "main.a")[0], CancelItems)


def test_room_is_the_least_of_the_bounds_around_a_step():
    document = {
        "max_parallel": 10,
        "task_groups": [
            {"key": "g", "max_parallel": 4, "tasks": [{"key": "a", "max_parallel": 3}, {"key": "b"}]},
            {"key": "h", "tasks": [{}]},
        ],
    }
    spec = parse(document, processors=())
    assert spec.scopes("g.a") == ("g.a", "g", ROOT)
    assert plan.room(spec, "g.a", {"g.a": 1, "g": 3, ROOT: 3}) == 1
    assert plan.room(spec, "g.b", {"g": 5, ROOT: 5}) == 0
    assert plan.room(spec, "h.task_1", {ROOT: 9}) == 1
    assert plan.room(CHAIN, "main.a", {}) is None


# ---- going back -------------------------------------------------------------------------------------------

PIPE = spec_of(
    {"key": "a"},
    {"key": "b", "dependencies": ["a"], "rows": [1, 2], "expansion_config": {"type": "array", "array_mapping": {"r": "rows"}}},
    {"key": "c", "dependencies": ["b"]},
    {"key": "d", "optional_dependencies": ["c"]},
    {"key": "e"},
)


def pipe(**ends: StepStatus) -> dict[str, NodeState]:
    found = {key: ends.get(key, S.COMPLETED) for key in ("a", "b", "c", "d", "e")}
    group = S.COMPLETED if all(end is S.COMPLETED for end in found.values()) else S.FAILED
    return {"main": state(group)} | {
        f"main.{key}": state(end, attempt=1, total=0 if end is S.SKIPPED else 2, completed=1) for key, end in found.items()
    }


def test_a_retry_takes_up_what_did_not_complete_and_what_was_built_on_it():
    resets = plan.to_retry(PIPE, pipe(b=S.FAILED, c=S.SKIPPED))
    assert [(reset.path, reset.keep_items) for reset in resets] == [
        ("main", False), ("main.b", True), ("main.c", False), ("main.d", False),
    ]  # fmt: skip
    assert plan.to_retry(PIPE, pipe()) == []


def test_items_are_not_kept_where_the_inputs_change():
    resets = plan.to_retry(PIPE, pipe(a=S.FAILED, b=S.CANCELLED, c=S.SKIPPED))
    assert {reset.path: reset.keep_items for reset in resets} == {
        "main": False, "main.a": True, "main.b": False, "main.c": False, "main.d": False,
    }  # fmt: skip


def test_a_rerun_does_a_step_and_all_that_depends_on_it_again():
    assert [reset.path for reset in plan.to_rerun(PIPE, pipe(), "main.b")] == ["main", "main.b", "main.c", "main.d"]
    assert [reset.path for reset in plan.to_rerun(PIPE, pipe(), "main.e")] == ["main", "main.e"]
    assert len(plan.to_rerun(PIPE, pipe(), "main")) == 6


def test_what_depends_on_a_group_is_done_again_when_something_in_it_is():
    document = {
        "task_groups": [
            {"key": "g", "tasks": [{"key": "a"}], "task_groups": [{"key": "h", "tasks": [{"key": "b"}]}]},
            {"key": "after", "dependencies": ["g"], "tasks": [{"key": "c"}], "task_groups": [{"key": "in", "tasks": [{"key": "d"}]}]},
            {"key": "aside", "tasks": [{"key": "e"}]},
        ]
    }
    spec = parse(document, processors=())
    states = {path: state(S.COMPLETED, attempt=1, total=1, completed=1) for path in spec.nodes}
    assert [reset.path for reset in plan.to_rerun(spec, states, "g.h.b")] == [
        "g", "g.h", "g.h.b", "after", "after.c", "after.in", "after.in.d",
    ]  # fmt: skip


def test_steps_are_undone_last_ended_first_and_never_before_what_was_built_on_them():
    undo = {"message_template": "undo"}
    spec = spec_of(
        {"key": "a", "compensation": undo},
        {"key": "b", "dependencies": ["a"], "compensation": undo},
        {"key": "c", "compensation": undo},
        {"key": "d"},
    )
    ended = {
        "main.a": NOW,
        "main.b": NOW + timedelta(seconds=2),
        "main.c": NOW + timedelta(seconds=1),
        "main.d": NOW + timedelta(seconds=9),
    }
    assert plan.compensation_order(spec, ended) == ["main.b", "main.c", "main.a"]
    skewed = {**ended, "main.b": NOW - timedelta(seconds=5)}  # written by a machine whose clock is behind
    assert plan.compensation_order(spec, skewed).index("main.b") < plan.compensation_order(spec, skewed).index("main.a")
