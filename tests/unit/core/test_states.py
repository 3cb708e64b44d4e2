from itertools import product

import pytest

from apps.core.states import StateTable
from apps.tasks import states
from apps.tasks.states import TASK_STATES, TaskStatus

S = TaskStatus

# The design's table (section 4). `failed` from `assigned`: the last attempt's publish failed. `awaiting_assignment`: a
# person chooses the head agent.
DRAWN = {
    S.AWAITING_APPROVAL: {S.QUEUED, S.REJECTED, S.CANCELLED, S.EXPIRED},
    S.QUEUED: {S.ASSIGNED, S.AWAITING_ASSIGNMENT, S.FAILED, S.CANCELLED, S.EXPIRED},
    S.AWAITING_ASSIGNMENT: {S.ASSIGNED, S.QUEUED, S.CANCELLED, S.EXPIRED},
    S.ASSIGNED: {S.DISPATCHED, S.QUEUED, S.FAILED, S.CANCELLED, S.EXPIRED},
    S.DISPATCHED: {S.RUNNING, S.AWAITING_VERIFICATION, S.QUEUED, S.COMPLETED, S.FAILED, S.CANCELLED, S.EXPIRED},
    S.RUNNING: {S.AWAITING_VERIFICATION, S.COMPLETED, S.FAILED, S.QUEUED, S.CANCELLED, S.EXPIRED},
    S.AWAITING_VERIFICATION: {S.COMPLETED, S.FAILED, S.QUEUED, S.CANCELLED, S.EXPIRED},
}


@pytest.mark.parametrize(("start", "end"), list(product(TaskStatus, TaskStatus)))
def test_a_task_moves_only_along_the_drawn_machine(start, end):
    assert TASK_STATES.allows(start, end) == (end in DRAWN.get(start, set()))


def test_what_has_ended_stays_ended():
    assert {S.COMPLETED, S.FAILED, S.REJECTED, S.CANCELLED, S.EXPIRED} == states.TERMINAL
    assert set(DRAWN) == states.OPEN
    assert not states.OPEN & states.TERMINAL


def test_a_task_is_born_waiting_refused_or_queued():
    assert {S.AWAITING_APPROVAL, S.REJECTED, S.QUEUED} == states.FIRST


def test_every_open_task_can_be_cancelled_and_can_expire():
    assert TASK_STATES.sources(S.CANCELLED) == TASK_STATES.sources(S.EXPIRED) == states.OPEN


def test_every_state_can_be_reached():
    reached, fresh = set(), set(states.FIRST)
    while fresh:
        reached |= fresh
        fresh = {end for start in fresh for end in TaskStatus if TASK_STATES.allows(start, end)} - reached
    assert reached == set(TaskStatus)


def test_a_state_without_a_row_is_terminal_and_goes_nowhere():
    table: StateTable[TaskStatus] = StateTable({S.QUEUED: frozenset({S.COMPLETED})})
    assert table.is_terminal(S.COMPLETED)
    assert not table.is_terminal(S.QUEUED)
    assert table.sources(S.COMPLETED) == {S.QUEUED}
    assert table.sources(S.QUEUED) == frozenset()
