"""The checker of fault runs finds what it is there to find: each test plants one fault in a good history."""

import copy

import pytest

from tests.checker import violations

GOOD = {
    "accepted": ["t1", "t2"],
    "tasks": [
        {"_id": "acme/t1", "task_id": "t1", "status": "completed", "reason": "", "attempt": 2, "max_attempts": 5,
         "finished_at": "2026-11-22T12:00:09", "result": {"nonce": "b", "attempt": 2}},
        {"_id": "acme/t2", "task_id": "t2", "status": "rejected", "reason": "too large", "attempt": 0, "max_attempts": 5,
         "finished_at": "2026-11-22T12:00:00", "result": None},
    ],
    "transitions": [
        {"task_key": "acme/t1", "old": old, "new": new, "attempt": attempt}
        for old, new, attempt in (
            ("", "queued", 0), ("queued", "assigned", 1), ("assigned", "dispatched", 1), ("dispatched", "running", 1),
            ("running", "queued", 1), ("queued", "assigned", 2), ("assigned", "dispatched", 2), ("dispatched", "completed", 2),
        )
    ] + [{"task_key": "acme/t2", "old": "", "new": "rejected", "attempt": 0}],
    "assignments": [
        {"task_key": "acme/t1", "attempt": 1, "head_agent_subject_id": "ada"},
        {"task_key": "acme/t1", "attempt": 2, "head_agent_subject_id": "bo"},
    ],
    "reports": [{"task_key": "acme/t1", "attempt": 2, "kind": "completed", "outcome": "applied"}],
    "history": [
        {"event": "start", "task_id": "t1", "attempt": 1, "agent": "ada", "at": 1795348801.0, "nonce": "a"},
        {"event": "start", "task_id": "t1", "attempt": 2, "agent": "bo", "at": 1795348807.0, "nonce": "b"},
        {"event": "end", "task_id": "t1", "attempt": 2, "agent": "bo", "at": 1795348808.0, "nonce": "b"},
    ],
}  # fmt: skip


def planted(change):
    run = copy.deepcopy(GOOD)
    change(run)
    return violations(**run)


def test_a_good_history_has_no_violations():
    assert violations(**GOOD) == []


def lose_the_row(run):
    run["tasks"].pop(1)


def never_end(run):
    run["tasks"][0]["status"] = "dispatched"
    run["transitions"].pop(7)


def end_twice(run):
    run["transitions"].append({"task_key": "acme/t1", "old": "dispatched", "new": "failed", "attempt": 2})


def be_born_twice(run):
    run["transitions"].append({"task_key": "acme/t2", "old": "", "new": "rejected", "attempt": 0})


def take_a_forbidden_way(run):
    run["transitions"][1]["new"] = "running"


def skip_a_transition(run):
    run["transitions"].pop(2)


def give_a_number_twice(run):
    run["assignments"].append({"task_key": "acme/t1", "attempt": 2, "head_agent_subject_id": "ada"})


def let_the_replaced_agent_finish(run):
    run["tasks"][0]["result"] = {"nonce": "a", "attempt": 1}


def invent_a_result(run):
    run["tasks"][0]["result"] = {"nonce": "z", "attempt": 2}


def run_with_another_agent(run):
    run["history"][1]["agent"] = "cy"


def start_twice(run):
    run["history"].append(dict(run["history"][1]))


def start_after_the_end(run):
    run["history"][0]["at"] += 60


def try_too_often(run):
    run["tasks"][0]["max_attempts"] = 1


def apply_two_results(run):
    run["reports"] *= 2


@pytest.mark.parametrize(
    ("fault", "invariant"),
    [
        (lose_the_row, "I1"), (never_end, "I1"), (end_twice, "I2"), (be_born_twice, "I2"), (take_a_forbidden_way, "I2"),
        (skip_a_transition, "I2"), (give_a_number_twice, "I6"), (let_the_replaced_agent_finish, "I6"), (run_with_another_agent, "I6"),
        (start_twice, "I7"), (try_too_often, "I7"), (invent_a_result, "I8"), (start_after_the_end, "I8"), (apply_two_results, "I8"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)  # fmt: skip
def test_a_planted_fault_is_found(fault, invariant):
    assert any(problem.startswith(invariant) for problem in planted(fault))
